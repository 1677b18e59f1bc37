"""What the words need: maps of a recogniser's own saliency, to be spared by the masks.

Two sources of such a map, both (B, T, F) in [0, 1]:

- `ctc_saliency`: where a first recogniser finds its words. Gradient times input (Shrikumar et al.,
  "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences",
  2016) of the log posterior of its best CTC path, at the frames where it emits a token; one
  backward pass, so it is stored (`stored_phonetic`), not computed while training.
- `phonetic_change`: where the spectrum changes, without any network: the local energy of the slope
  of each mel bin over time (the delta features of Furui, 1986). Phones begin and end there.

`protect` lowers an accent map where such a map is high:

    s'(t, f) = s(t, f) (1 - p(t, f))^gamma

so masks fall where accent saliency is high and phonetic saliency low; gamma 0 protects nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.accent.weights import read_weights
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import scale01, valid_frames
from espnet_saliency.yaml_file import read_yaml

MODEL_FILES = (
    "valid.acc.ave.pth", "valid.loss.ave.pth", "valid.acc.best.pth", "valid.loss.best.pth",
)  # fmt: skip
"""Model files that are looked for in an experiment folder, in this order."""

_CONFIG_KEYS = (
    "token_list", "frontend", "frontend_conf", "normalize", "preencoder", "preencoder_conf",
    "encoder", "encoder_conf", "postencoder", "postencoder_conf", "ctc_conf",
)  # fmt: skip
"""What decides the posteriors beside the weights, which hold the statistics of the features too."""

SLOPE = 2
"""Frames on either side of a frame that its slope is taken over."""


def protect(saliency: Tensor, phonetic: Tensor, gamma: float) -> Tensor:
    """Lower an accent map where the words lie; see the module's docstring.

    Args:
        saliency, phonetic: (B, T, F), in [0, 1].
        gamma: strength of the protection, >= 0.
    """
    return saliency * (1.0 - phonetic).clamp(0.0, 1.0) ** gamma


def phonetic_change(feats: Tensor, lengths: Tensor) -> Tensor:
    """Local energy of the slope of each mel bin over time.

    The slope is the regression over 2 SLOPE + 1 frames; its square is averaged over 5 frames and
    5 bins, and the root is scaled to [0, 1] over each utterance's own frames.

    Args:
        feats: (B, T, F), log-mel.
        lengths: (B,), valid frames; beyond them the last valid frame is repeated.

    Returns:
        (B, T, F) in [0, 1], zero in padding.
    """
    frames = torch.arange(feats.size(1), device=feats.device)
    last = (lengths.to(feats.device) - 1).clamp_min(0)[:, None]
    slope = torch.zeros_like(feats)
    for step in range(1, SLOPE + 1):
        later = torch.minimum(frames + step, last)[:, :, None].expand_as(feats)
        earlier = (frames - step).clamp_min(0).expand_as(last + frames)[:, :, None].expand_as(feats)
        slope += step * (feats.gather(1, later) - feats.gather(1, earlier))
    slope /= 2 * sum(step * step for step in range(1, SLOPE + 1))
    valid = valid_frames(lengths.to(feats.device), feats.size(1))[:, :, None]
    return scale01(_smooth(slope.square(), valid).sqrt(), lengths)


def _smooth(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over 5 frames and 5 bins; padding counts neither above nor below the line."""
    counted = valid.to(values.dtype).expand_as(values)
    sums = avg_pool2d(values.masked_fill(~valid, 0.0)[:, None], 5, stride=1, padding=2)[:, 0]
    return sums / avg_pool2d(counted[:, None], 5, stride=1, padding=2)[:, 0].clamp_min(1e-6)


class CTCRecogniser(nn.Module):
    """A trained recogniser with a CTC head, frozen, as a source of phonetic maps.

    Args:
        model: ESPnet's ASR model; it is taken over: frozen, put into evaluation mode, and without
            its frontend.
        digest: sha256 of its weights and configuration.
        name: what messages call it.

    Raises:
        UserError: the model has no CTC head.
    """

    features: FeatureSettings
    """The features that it hears."""
    digest: str
    """sha256 of weights and configuration."""

    def __init__(self, model: nn.Module, digest: str = "", name: str = "the recogniser"):
        super().__init__()
        if getattr(model, "ctc", None) is None:
            raise UserError(
                f"{name}: has no CTC head (ctc_weight 0): train one with ctc_weight > 0"
            )
        self.features = FeatureSettings.from_frontend(model.frontend)
        self.digest = digest
        # Without a frontend ESPnet's model takes features, and the gradient is of them.
        self.frontend, model.frontend = model.frontend, None
        self.model = model
        self.float().requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> CTCRecogniser:
        """Stays in evaluation mode."""
        return super().train(False)

    @classmethod
    def load(cls, path: str | Path, stats: Path | None = None) -> CTCRecogniser:
        """Load from an experiment of ESPnet's asr task.

        Args:
            path: the experiment folder, or a .pth file beside its config.yaml.
            stats: statistics of the features, where those that config.yaml names have moved.

        Raises:
            UserError: something is missing or does not fit.
        """
        from espnet2.tasks.asr import ASRTask

        weights, config = find_recogniser(Path(path))
        args = read_yaml(config)
        network = {key: args.get(key) for key in _CONFIG_KEYS}
        args.update(specaug=None, specaug_conf={}, init=None)
        if stats is not None:
            conf = args.get("normalize_conf") or {}
            args["normalize_conf"] = {**conf, "stats_file": str(stats)}
        try:
            # Building a network draws random numbers.
            with _quiet(), torch.random.fork_rng(devices=[]):
                model = ASRTask.build_model(argparse.Namespace(**args))
        except OSError as error:
            raise UserError(
                f"{config}: names {error.filename}, which is not there: put it back, or correct "
                "the path"
            ) from error
        parameters = read_weights(weights, MODEL_FILES[0])
        try:
            model.load_state_dict(parameters)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"{weights}: weights do not fit {config}: {reason}") from error
        return cls(model, _digest(network, parameters), str(path))

    def log_posteriors(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) un-normalised log-mel, (B,) -> CTC log posteriors (B, T', V), lengths (B,)."""
        with _quiet():
            # ESPnet's normalisations write into what they are given.
            encoded, lengths = self.model.encode(feats.clone(), lengths)
        if isinstance(encoded, tuple):  # with those of intermediate layers
            encoded = encoded[0]
        return self.model.ctc.log_softmax(encoded), lengths


@contextmanager
def _quiet() -> Iterator[None]:
    """Without ESPnet's remarks on its own code, which are no news on a console."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.disable(before)


def find_recogniser(path: Path) -> tuple[Path, Path]:
    """Weights and configuration of an experiment folder, or of a .pth file beside its config.yaml.

    Raises:
        UserError: one of them is missing.
    """
    found = [path / name for name in MODEL_FILES if (path / name).exists()]
    weights = path if path.suffix == ".pth" else next(iter(found), None)
    if weights is None or not weights.exists():
        raise UserError(f"{path}: no trained recogniser there (none of {', '.join(MODEL_FILES)})")
    config = weights.parent / "config.yaml"
    if not config.exists():
        raise UserError(f"{config}: missing; ESPnet writes it beside the weights")
    return weights, config


def _digest(network: dict[str, Any], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(network, sort_keys=True, default=str).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def ctc_saliency(recogniser: CTCRecogniser, feats: Tensor, lengths: Tensor) -> Tensor:
    """Where a recogniser finds its words: |gradient x (input - mean)| of its best CTC path.

    The score is the sum of the best log posterior over the frames whose best token is no blank;
    an utterance without such a frame, or too short for the encoder, gets a map of zeros. The mean
    is that of each mel bin over the utterance, so that loudness by itself counts for nothing.
    Averaged over 5 frames and 5 bins.

    Args:
        recogniser: the first recogniser.
        feats: (B, T, F), log-mel, not normalised.
        lengths: (B,), valid frames.

    Returns:
        (B, T, F) in [0, 1], zero in padding.
    """
    maps = torch.zeros_like(feats)
    # One by one: ESPnet's Conformer hears the padding, and a map must not.
    for row, frames in enumerate(lengths.tolist()):
        maps[row, :frames] = _gradient_times_input(recogniser, feats[row : row + 1, :frames])[0]
    return maps


def _gradient_times_input(recogniser: CTCRecogniser, feats: Tensor) -> Tensor:
    """(1, T, F), without padding -> its map in [0, 1]."""
    from espnet.nets.pytorch_backend.transformer.subsampling import TooShortUttError

    lengths = torch.tensor([feats.size(1)], device=feats.device)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = feats.detach().clone().requires_grad_()
        try:
            posteriors, _ = recogniser.log_posteriors(leaf, lengths.clone())
        except TooShortUttError:
            return torch.zeros_like(feats)
        best, token = posteriors.max(dim=-1)
        (gradient,) = torch.autograd.grad((best * (token != 0)).sum(), leaf)
    with torch.no_grad():
        weight = (gradient * (feats - feats.mean(dim=1, keepdim=True))).abs()
        valid = torch.ones_like(weight[:, :, :1], dtype=torch.bool)
        return scale01(_smooth(weight, valid), lengths)
