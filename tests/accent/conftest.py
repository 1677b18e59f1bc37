"""Generated recordings of two 'accents' that differ in spectral tilt, and a classifier of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from espnet_saliency import plugin

FS = 16000


def tilted_noise(generator: np.random.Generator, seconds: float, pole: float) -> np.ndarray:
    """Noise through 1 / (1 - pole z^-1): a pole > 0 makes it dark, < 0 bright; with syllables."""
    from scipy.signal import lfilter

    n = int(seconds * FS)
    noise = lfilter([1.0], [1.0, -pole], generator.standard_normal(n))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * generator.uniform(2, 6) * np.arange(n) / FS)
    return 0.1 * noise / noise.std() * syllables


def write_set(
    folder: Path, accents: dict[str, float], speakers: int, each: int, seed: int
) -> None:
    """A dump folder as stage 3 leaves it; `accents` is name -> pole of the filter.

    Within an utterance the tilt comes and goes, so that mean normalisation does not remove it.
    """
    generator = np.random.default_rng(seed)
    (folder / "data").mkdir(parents=True)
    rows = []
    for accent, pole in accents.items():
        for speaker in range(speakers):
            speaker_id = f"{accent}{seed}{speaker}"
            for i in range(each):
                utt_id = f"{speaker_id}-{i}"
                quiet = 0.3 * tilted_noise(generator, 0.5, 0.0)
                parts = []
                for _ in range(2):
                    parts += [quiet, tilted_noise(generator, generator.uniform(0.3, 0.6), pole)]
                wave = np.concatenate(parts)
                path = folder / "data" / f"{utt_id}.flac"
                soundfile.write(path, wave.clip(-1, 1), FS)
                rows.append((utt_id, path, speaker_id, accent, len(wave)))
    rows.sort()
    for name, column in (("wav.scp", 1), ("utt2spk", 2), ("utt2accent", 3), ("utt2num_samples", 4)):
        (folder / name).write_text("".join(f"{row[0]} {row[column]}\n" for row in rows))


@pytest.fixture(scope="session")
def dump(tmp_path_factory) -> Path:
    """train, dev and test of accents "bright" and "dark"; test has a third, "plain"."""
    root = tmp_path_factory.mktemp("dump")
    two = {"bright": -0.8, "dark": 0.8}
    write_set(root / "train", two, speakers=4, each=12, seed=1)
    write_set(root / "dev", two, speakers=2, each=6, seed=2)
    write_set(root / "test", {**two, "plain": 0.0}, speakers=2, each=5, seed=3)
    return root


FRONTEND = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80}


def make_config(**changes) -> dict:
    """A cls configuration with every key that builds the network."""
    config = {
        "token_list": ["a", "b", "c", "<unk>"],
        "input_size": None,
        "frontend": "default",
        "frontend_conf": FRONTEND,
        "specaug": "crop_specaug",
        "specaug_conf": {"crop_frames": 100},
        "normalize": "masked_utterance_mvn",
        "normalize_conf": {},
        "preencoder": None,
        "preencoder_conf": {},
        "encoder": "accent_resnet",
        "encoder_conf": {"channels": [4, 8], "stem_stride": [2, 2]},
        "decoder": "linear",
        "decoder_conf": {"pooling": "mean"},
        "model": "espnet",
        "model_conf": {},
        "init": "xavier_uniform",
    }
    return {**config, **changes}


def make_model(**changes) -> torch.nn.Module:
    """An untrained classification model as ESPnet builds it, with batch statistics that matter."""
    import argparse

    from espnet2.tasks.cls import CLSTask

    plugin.register(["cls"])
    torch.manual_seed(0)
    model = CLSTask.build_model(argparse.Namespace(**make_config(**changes)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, 0.5, 0.5)
    return model


def write_experiment(folder: Path, model: torch.nn.Module, name="valid.acc.best.pth", **changes):
    """config.yaml and weights, as ESPnet leaves them."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(make_config(**changes)))
    torch.save(model.state_dict(), folder / name)
    return folder


@pytest.fixture
def build():
    return make_model


@pytest.fixture
def experiment():
    return write_experiment


@pytest.fixture
def config():
    return make_config
