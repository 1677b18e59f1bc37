"""Classifiers to test with: a tiny one that has the real one's interface, and real ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.tasks.cls import CLSTask
from espnet_saliency import plugin
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.saliency.cam import valid_frames


class Features:
    """Stands for FeatureSettings: only the number of mel bins."""

    def __init__(self, n_mels: int):
        self.n_mels = n_mels

    def difference(self, other: Features) -> list[str]:
        if self.n_mels == other.n_mels:
            return []
        return [f"n_mels: classifier {self.n_mels}, recogniser {other.n_mels}"]


class TinyClassifier(torch.nn.Module):
    """Two strided convolutions, mean, linear; padding is cleared at each step."""

    stride = (4, 4)

    def __init__(self, n_mels: int = 16, classes: int = 3, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.norm = torch.nn.BatchNorm2d(6)
            self.norm.running_mean.uniform_(-0.1, 0.1)
            self.norm.running_var.uniform_(0.5, 1.5)
            self.second = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.relu = torch.nn.ReLU(inplace=True)
            self.linear = torch.nn.Linear(8, classes)
        self.features = Features(n_mels)
        self.calls = []
        self.eval().requires_grad_(False)

    @property
    def linear_weight(self):
        return self.linear.weight

    def activations(self, feats, lengths):
        self.calls.append(tuple(feats.shape))
        x = feats[:, None].masked_fill(~valid_frames(lengths, feats.size(1))[:, None, :, None], 0.0)
        for convolution, norm in ((self.first, self.norm), (self.second, None)):
            x = convolution(x)
            x = self.relu(x if norm is None else norm(x))
            lengths = (lengths + 1) // 2
            x = x.masked_fill(~valid_frames(lengths, x.size(2))[:, None, :, None], 0.0)
        return x, lengths

    def pooled_logits(self, activations, lengths):
        cells = lengths[:, None] * activations.size(3)
        return self.linear(activations.sum(dim=(2, 3)) / cells)

    def forward(self, feats, lengths):
        return self.pooled_logits(*self.activations(feats, lengths))


@pytest.fixture
def classifier() -> TinyClassifier:
    return TinyClassifier()


@pytest.fixture
def make_classifier():
    return TinyClassifier


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel-like features (4, 50, 16) of 50, 37, 8 and 3 frames, with noise in padding."""
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(4, 50, 16, generator=generator) * 2.0 - 6.0
    return feats, torch.tensor([50, 37, 8, 3])


FS = 16000
FRONTEND = {"fs": FS, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80}
CONFIG = {
    "token_list": ["falling", "rising", "<unk>"],
    "input_size": None,
    "frontend": "default",
    "frontend_conf": FRONTEND,
    "specaug": None,
    "specaug_conf": {},
    "normalize": "masked_utterance_mvn",
    "normalize_conf": {},
    "preencoder": None,
    "preencoder_conf": {},
    "encoder": "accent_resnet",
    "encoder_conf": {"channels": [8, 16], "stem_stride": [2, 2]},
    "decoder": "linear",
    "decoder_conf": {"pooling": "mean"},
    "model": "espnet",
    "model_conf": {},
    "init": None,
}


def build_model(**changes) -> torch.nn.Module:
    """ESPnet's classification model, with batch statistics that matter."""
    plugin.register(["cls"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLSTask.build_model(argparse.Namespace(**{**CONFIG, **changes}))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, 0.3, 0.3)
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def write_experiment(folder: Path, model: torch.nn.Module, **changes) -> Path:
    """config.yaml and weights, as ESPnet leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}))
    torch.save(model.state_dict(), folder / "valid.acc.best.pth")
    return folder


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Path:
    """Experiment folder of an untrained accent classifier."""
    return write_experiment(tmp_path_factory.mktemp("exp") / "accent", build_model())


@pytest.fixture(scope="session")
def make_experiment():
    return lambda folder, **changes: write_experiment(folder, build_model(**changes), **changes)


def glide(generator: np.random.Generator, rising: bool) -> tuple[np.ndarray, float]:
    """1.2 s of noise with a tone of 0.3 s that rises or falls; and when that starts, in s."""
    wave = 0.01 * generator.standard_normal(int(1.2 * FS))
    start = generator.uniform(0.05, 0.85)
    time = np.arange(int(0.3 * FS)) / FS
    low = generator.uniform(800, 1500)
    pitch = low + (time if rising else time[::-1]) / 0.3 * 2500
    begin = int(start * FS)
    wave[begin : begin + len(time)] += 0.2 * np.sin(2 * np.pi * np.cumsum(pitch) / FS)
    return wave.astype(np.float32), start


@pytest.fixture(scope="session")
def glides(tmp_path_factory) -> Path:
    """A dump folder of 6 speakers an accent, 4 utterances each, and one of an unknown accent."""
    folder = tmp_path_factory.mktemp("dump") / "dev"
    folder.mkdir()
    generator = np.random.default_rng(7)
    rows = []
    for accent in ("falling", "rising"):
        for number in range(24):
            speaker = f"{accent}{number // 4}"
            wave, start = glide(generator, accent == "rising")
            rows.append((f"{speaker}-{number}", speaker, accent, wave, start))
    rows.append(("other-0", "other", "level", glide(generator, True)[0], 0.0))
    for utt_id, _, _, wave, _ in rows:
        soundfile.write(folder / f"{utt_id}.flac", wave, FS)
    columns = {
        "wav.scp": lambda row: folder / f"{row[0]}.flac",
        "utt2spk": lambda row: row[1],
        "utt2accent": lambda row: row[2],
        "utt2num_samples": lambda row: len(row[3]),
        "start": lambda row: row[4],
    }
    for name, column in columns.items():
        lines = sorted(f"{row[0]} {column(row)}\n" for row in rows)
        (folder / name).write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def glide_classifier() -> AccentClassifier:
    """The real classifier, trained for seconds to tell rising from falling tones."""
    model = build_model()
    generator = np.random.default_rng(3)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for _ in range(40):
            label = torch.from_numpy(generator.integers(0, 2, 24))
            waves = torch.from_numpy(np.stack([glide(generator, bool(one))[0] for one in label]))
            length = torch.full((24,), waves.size(1))
            loss, _, _ = model(waves, length, label[:, None], torch.ones(24, dtype=torch.long))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return AccentClassifier(model, digest="glides")
