"""`specaug: saliency`: the augmentation as ESPnet's training calls it."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.asr.specaug.specaug import SpecAug
from torch import Tensor

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import saliency_map, valid_frames
from espnet_saliency.saliency.masking import (
    Draws,
    MaskPolicy,
    check_choice,
    draw,
    fill,
    place,
)

if TYPE_CHECKING:
    from espnet_saliency.accent.classifier import AccentClassifier
    from espnet_saliency.accent.features import FeatureSettings

METHODS = ("grad_cam", "random")
TARGETS = ("predicted", "sample")


class SaliencySpecAug(AbsSpecAug):
    """Mask, at random, time-frequency patches that give an accent away, while a recogniser trains.

    For each utterance that takes part: class activation map of a frozen accent classifier
    (`saliency.cam`), patches drawn in proportion to it (`saliency.masking`), fill, and then, where
    it is asked for, ESPnet's own SpecAugment. ESPnet calls it in training only, on un-normalised
    log-mel features.

    The classifier is no part of this module's tree: it is in no checkpoint, no optimiser and no
    `model.train()`, ESPnet's `init` does not reach it, and a recogniser decodes without it. It is
    loaded where it is first needed and follows the features to their device.

    Args:
        method: `grad_cam` masks what is salient; `random` is its control: the same participants,
            shares, patches and fill, at places drawn evenly. It needs no classifier.
        classifier: experiment folder of the accent classifier, or its weights beside config.yaml.
        target: class that the map is for: `predicted`, or `sample`, a draw from the posterior.
        specaug: keyword arguments of ESPnet's SpecAug, which is applied afterwards; None for none.
        patch_frames, patch_bins, mask_ratio, apply_prob, temperature, uniform_mix,
            min_unmasked_frames, shift_grid, fill: see `MaskPolicy`.

    Raises:
        UserError: an option outside its range, or no classifier where the method needs one.
    """

    def __init__(
        self,
        method: str = "grad_cam",
        classifier: str | None = None,
        target: str = "predicted",
        patch_frames: int = MaskPolicy.patch_frames,
        patch_bins: int = MaskPolicy.patch_bins,
        mask_ratio: Sequence[float] | float = MaskPolicy.mask_ratio,
        apply_prob: float = MaskPolicy.apply_prob,
        temperature: float = MaskPolicy.temperature,
        uniform_mix: float = MaskPolicy.uniform_mix,
        min_unmasked_frames: int = MaskPolicy.min_unmasked_frames,
        shift_grid: bool = MaskPolicy.shift_grid,
        fill: str = MaskPolicy.fill,
        specaug: dict | None = None,
        **unknown,
    ):
        super().__init__()
        if unknown:
            known = [name for name in inspect.signature(type(self)).parameters if name != "unknown"]
            raise UserError(f"specaug_conf.{min(unknown)}: unknown; known are {', '.join(known)}")
        self.method = check_choice("method", method, METHODS)
        self.target = check_choice("target", target, TARGETS)
        self.policy = MaskPolicy(
            patch_frames=patch_frames,
            patch_bins=patch_bins,
            mask_ratio=mask_ratio,
            apply_prob=apply_prob,
            temperature=temperature,
            uniform_mix=uniform_mix,
            min_unmasked_frames=min_unmasked_frames,
            shift_grid=shift_grid,
            fill=fill,
        )
        self.classifier = None
        if method != "random":
            if not classifier:
                raise UserError(
                    f"specaug_conf.classifier: method {method} needs the experiment folder of an "
                    "accent classifier (or choose method: random)"
                )
            self.classifier = _Outside(str(classifier))
        self.specaug = None if specaug is None else _stock_specaug(specaug)

    def extra_repr(self) -> str:
        path = "" if self.classifier is None else f"classifier={self.classifier.path}, "
        return f"method={self.method}, {path}target={self.target}, {self.policy}"

    def bind(self, features: FeatureSettings) -> None:
        """Tell the recogniser's features; a classifier of other features is refused.

        The classifier is loaded here where it exists, so that a mistake shows before training; a
        missing one is no error until it is needed, since decoding does without.

        Raises:
            UserError: the features differ; the message names what, with both values.
        """
        if self.classifier is not None:
            self.classifier.bind(features)

    def use(self, classifier: AccentClassifier) -> None:
        """Take a classifier that is loaded already, in the place of the one at `classifier`."""
        if self.classifier is not None:
            self.classifier.take(classifier)

    def forward(
        self, x: Tensor, x_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Mask a batch.

        Args:
            x: (B, T, F), log-mel, not normalised; it is left as it is.
            x_lengths: (B,), valid frames; all frames are valid where it is None.

        Returns:
            (B, T, F) and the lengths.

        Raises:
            UserError: NaN or infinity in `x`, or another number of mel bins than the classifier's.
        """
        lengths = x_lengths
        if lengths is None:
            lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        mask = self.mask(x, lengths.to(x.device))
        masked = x
        if mask is not None:
            masked = fill(x, mask, lengths, self.policy.fill)
        if self.specaug is not None:
            # SpecAug writes into what it is given.
            return self.specaug(x.clone() if masked is x else masked, x_lengths)
        return masked, x_lengths

    @torch.no_grad()
    def mask(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """(B, T, F), (B,) -> (B, T, F) bool; None where no utterance of the batch takes part."""
        _check_finite(x, lengths)
        size = (x.size(1), x.size(2))
        draws = draw(x.size(0), size, self.policy)
        # Only those that take part cost a pass of the classifier.
        taking_part = draws.active.nonzero()[:, 0]
        choose = self._choose(x.size(0), taking_part)
        if len(taking_part) == 0:
            return None
        draws = Draws(*(drawn[taking_part] for drawn in draws))
        taking_part = taking_part.to(x.device)
        lengths = lengths[taking_part]
        saliency = None
        if self.classifier is not None:
            saliency, _ = saliency_map(self.classifier.get(x), x[taking_part], lengths, choose)
        mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        return mask.index_copy_(0, taking_part, place(draws, saliency, lengths, size, self.policy))

    def _choose(self, batch: int, taking_part: Tensor):
        """The function from logits to target classes; what it needs of chance is drawn here."""
        if self.target == "predicted":
            return None
        uniform = torch.rand(batch)[taking_part]

        def sample(logits: Tensor) -> Tensor:
            steps = logits.softmax(dim=-1).cumsum(dim=-1)
            below = (steps <= uniform.to(steps.device)[:, None]).sum(dim=-1)
            return below.clamp_max(logits.size(-1) - 1)

        return sample


class _Outside:
    """A classifier held where torch.nn.Module does not look for its parts.

    Copies and pickles carry the path and load anew.
    """

    def __init__(self, path: str):
        self.path = path
        self._features: FeatureSettings | None = None
        self._network: AccentClassifier | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_network": None}

    def bind(self, features: FeatureSettings) -> None:
        self._features = features
        if self._network is not None:
            self.take(self._network)
        elif Path(self.path).exists():
            self._load()

    def take(self, network: AccentClassifier) -> None:
        if self._features is not None:
            differences = network.features.difference(self._features)
            if differences:
                raise UserError(
                    f"{self.path}: the accent classifier hears other features than the recogniser: "
                    f"{'; '.join(differences)}; train one with the recogniser's frontend_conf"
                )
        self._network = network

    def get(self, x: Tensor) -> AccentClassifier:
        """The classifier on the device of `x` (B, T, F), with as many mel bins."""
        if self._network is None:
            self._load()
        if self._network.linear_weight.device != x.device:
            self._network.to(x.device)
        n_mels = self._network.features.n_mels
        if n_mels != x.size(2):
            raise UserError(
                f"{self.path}: the accent classifier hears {n_mels} mel bins, the recogniser "
                f"{x.size(2)}; train one with the recogniser's frontend_conf"
            )
        return self._network

    def _load(self) -> None:
        from espnet_saliency.accent.classifier import AccentClassifier

        # Building a network draws random numbers, which would change the masks that follow.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            network = AccentClassifier.load(self.path)
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise UserError(
                    f"{self.path}: NaN or infinity in {name}; train the classifier anew"
                )
        self.take(network)


def _stock_specaug(options: dict) -> SpecAug:
    try:
        return SpecAug(**options)
    except Exception as error:  # its checks raise TypeError, ValueError, assertions and typeguard's
        raise UserError(f"specaug_conf.specaug: {' '.join(str(error).split())}") from error


def _check_finite(x: Tensor, lengths: Tensor) -> None:
    if torch.isfinite(x.sum()):
        return
    valid = valid_frames(lengths, x.size(1))[:, :, None]
    broken = (~torch.isfinite(x) & valid).any(dim=2).any(dim=1).nonzero()[:, 0].tolist()
    if broken:
        raise UserError(
            f"specaug saliency: NaN or infinity in the features of utterance {broken[0] + 1} of a "
            f"batch of {x.size(0)} ({int(lengths[broken[0]])} frames); look for NaN samples in the "
            "audio, or a learning rate that broke a trainable frontend"
        )
