"""A trained accent classifier, frozen: what saliency and evaluation load from an experiment."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.accent.fusion import fold_batch_norm
from espnet_saliency.accent.normalize import MaskedUtteranceMVN
from espnet_saliency.accent.resnet import mask_padding
from espnet_saliency.accent.weights import read_weights
from espnet_saliency.errors import UserError
from espnet_saliency.yaml_file import read_yaml

MODEL_FILES = ("valid.acc.ave.pth", "valid.acc.best.pth")
"""Model files that are looked for in an experiment folder, in this order."""

_CONFIG_KEYS = (
    "token_list", "input_size", "frontend", "frontend_conf", "normalize", "normalize_conf",
    "preencoder", "encoder", "encoder_conf", "decoder", "decoder_conf", "model_conf",
)  # fmt: skip
"""What decides the network; the rest of config.yaml is about training and paths."""


class AccentClassifier(nn.Module):
    """A frozen classifier over un-normalised log-mel features, in evaluation mode and float32.

    An utterance gets from a padded batch what it gets alone, whatever lies in its padding.

    Args:
        model: ESPnet's classification model; it is taken over: frozen and put into evaluation mode.
        digest: sha256 of its weights and configuration.
        name: what error messages call it.

    Raises:
        UserError: the model is no convolutional classifier that ends in a mean and a linear layer.
    """

    accents: tuple[str, ...]
    """The classes, in the order of the logits."""
    features: FeatureSettings
    """The features that it was trained on."""
    digest: str
    """sha256 of weights and configuration."""

    def __init__(self, model: nn.Module, digest: str = "", name: str = "the accent classifier"):
        super().__init__()
        encoder, decoder = model.encoder, model.decoder
        if not hasattr(encoder, "activations"):
            raise UserError(
                f"{name}: its encoder, {type(encoder).__name__}, has no convolution to take maps "
                "from: train one with encoder: accent_resnet"
            )
        if model.preencoder is not None:
            raise UserError(f"{name}: a preencoder is not supported: train one without")
        if model.classification_type != "multi-class":
            raise UserError(f"{name}: classification_type must be multi-class")
        if decoder.pooling != "mean":
            raise UserError(f"{name}: its decoder pools by {decoder.pooling}, not by mean")
        self.accents = tuple(model.token_list[: model.vocab_size])
        self.features = FeatureSettings.from_frontend(model.frontend)
        self.digest = digest
        self.frontend = model.frontend
        self.normalize = _padding_safe(model.normalize)
        self.encoder = encoder
        self.linear = decoder.linear_out
        self.float().requires_grad_(False)
        self.eval()

    @classmethod
    def load(cls, path: str | Path) -> AccentClassifier:
        """Load from an experiment of ESPnet's cls task.

        Args:
            path: the experiment folder, or a .pth file beside its config.yaml.

        Raises:
            UserError: something is missing, does not fit, or is not allowed.
        """
        weights_file, config_file = _find(Path(path))
        config = _read_config(config_file)
        weights = read_weights(weights_file, MODEL_FILES[0])
        model = _build(config, config_file)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(
                f"{weights_file}: weights do not fit {config_file}: {reason}"
            ) from error
        classifier = cls(model, _digest(config, weights), name=str(path))
        fold_batch_norm(classifier.encoder)
        # Channels last in memory: the convolutions take four fifths of the time on a CPU.
        classifier.encoder.to(memory_format=torch.channels_last)
        return classifier

    def train(self, mode: bool = True) -> AccentClassifier:
        """Stays in evaluation mode, whatever `mode` a module that holds it passes on."""
        return super().train(False)

    @property
    def linear_weight(self) -> Tensor:
        """(n, C), weight of the linear layer behind the mean."""
        return self.linear.weight

    @property
    def stride(self) -> tuple[int, int]:
        """Frames and mel bins that one cell of the activations stands for."""
        return self.encoder.stride

    def activations(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Output of the last convolutional block.

        Args:
            feats: (B, T, F), un-normalised log-mel; it stays as it is.
            lengths: (B,), frames.

        Returns:
            (B, C, T', F'), >= 0 and zero in padding, and its lengths (B,).
        """
        with torch.autocast(feats.device.type, enabled=False):
            # This copies, and it has to: ESPnet's normalisations write into what they are given.
            feats = mask_padding(feats.float(), lengths)
            if self.normalize is not None:
                feats, lengths = self.normalize(feats, lengths)
            return self.encoder.activations(feats, lengths)

    def pooled_logits(self, activations: Tensor, lengths: Tensor) -> Tensor:
        """Mean over the mel axis and the valid frames, then the linear layer.

        Args:
            activations: (B, C, T', F'), zero in padding.
            lengths: (B,), valid frames T'.

        Returns:
            (B, n) logits.
        """
        with torch.autocast(activations.device.type, enabled=False):
            cells = lengths.to(activations.device) * activations.size(3)
            pooled = activations.float().sum(dim=(2, 3)) / cells[:, None]
            return self.linear(pooled)

    def forward(self, feats: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F) un-normalised log-mel, (B,) frames -> (B, n) logits."""
        return self.pooled_logits(*self.activations(feats, lengths))


def _padding_safe(normalize: nn.Module | None) -> nn.Module | None:
    from espnet2.layers.utterance_mvn import UtteranceMVN

    if isinstance(normalize, UtteranceMVN):
        # The same for one utterance; in a padded batch ESPnet's gives it another variance.
        return MaskedUtteranceMVN(normalize.norm_means, normalize.norm_vars, normalize.eps)
    return normalize


def _find(path: Path) -> tuple[Path, Path]:
    """The weights and the configuration that `path` stands for."""
    if not path.exists():
        raise UserError(
            f"{path}: no such classifier; train one (stage 7) or name its experiment folder"
        )
    if path.is_dir():
        candidates = [path / name for name in MODEL_FILES]
        found = [candidate for candidate in candidates if candidate.exists()]
        if not found:
            names = " nor ".join(MODEL_FILES)
            raise UserError(
                f"{path}: no {names} in it; train a classifier there (stage 7) or name a .pth"
            )
        weights, config = found[0], path / "config.yaml"
    else:
        weights, config = path, path.parent / "config.yaml"
    if not config.exists():
        raise UserError(f"{config}: missing; ESPnet writes it beside the weights of a classifier")
    return weights, config


def _read_config(path: Path) -> dict[str, Any]:
    config = read_yaml(path)
    missing = [k for k in _CONFIG_KEYS if k not in config]
    if missing:
        raise UserError(
            f"{path}: not the configuration of a classifier of ESPnet's cls task: no "
            f"{', '.join(missing)}"
        )
    return config


def _build(config: dict[str, Any], path: Path) -> nn.Module:
    from espnet2.tasks.cls import CLSTask

    # Not at the top: the plug-in imports this package to register what lies in it.
    from espnet_saliency import plugin

    plugin.register(["cls"])
    if config["normalize"] == "global_mvn":
        statistics = config["normalize_conf"].get("stats_file")
        if not statistics or not Path(statistics).exists():
            raise UserError(
                f"{path}: normalize: global_mvn needs its statistics, and {statistics} is missing; "
                "train a classifier with normalize: masked_utterance_mvn"
            )
    # Augmentation and initialisation are for training only.
    args = argparse.Namespace(**{**config, "specaug": None, "specaug_conf": {}, "init": None})
    try:
        return CLSTask.build_model(args)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError, AssertionError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: ESPnet builds no classifier from it: {reason}") from error


def _digest(config: dict[str, Any], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    network = {key: config[key] for key in _CONFIG_KEYS}
    digest.update(json.dumps(network, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
