"""Masking as a probe: does hiding what gives the accent away hurt the words?

`frontend: masked_default` is ESPnet's default frontend with a share of each utterance's features
hidden: the most salient patches, random ones, or the least salient. A recogniser that was trained
without it decodes with it; the loss of accuracy says how much of what it needs lies there.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import saliency_map
from espnet_saliency.saliency.masking import MaskPolicy, check_choice, draw, fill, place

ORDERS = ("salient", "random", "least")
"""Which patches are hidden first."""


class MaskedFrontend(DefaultFrontend):
    """Log-mel features with a fixed share hidden, in training, validation and inference alike.

    What is random about an utterance's mask depends on `seed` and on its samples alone: not on the
    batch, not on what was decoded before. At a larger share all that is hidden at a smaller one is
    hidden as well.

    Args:
        hide: {"order": one of ORDERS, "share": of the valid cells, in [0, 1], "classifier": its
            experiment folder (not for random), "seed": 0, and patch_frames, patch_bins, fill as in
            `MaskPolicy`}.
        frontend_conf: everything else is `DefaultFrontend`'s.

    Raises:
        UserError: an unknown order or key, a share outside [0, 1], a classifier that is missing or
            hears other features.
    """

    def __init__(self, hide: dict, **frontend_conf):
        super().__init__(**frontend_conf)
        hide = dict(hide)
        self.order = check_choice("hide.order", hide.pop("order", None), ORDERS)
        self.seed = int(hide.pop("seed", 0))
        share = hide.pop("share", None)
        path = hide.pop("classifier", None)
        known = ("patch_frames", "patch_bins", "fill")
        unknown = sorted(set(hide) - set(known))
        if unknown:
            raise UserError(f"frontend_conf.hide.{unknown[0]}: unknown; known are {', '.join(known)}")
        self.policy = dataclasses.replace(
            MaskPolicy(**hide),
            mask_ratio=share,
            apply_prob=1.0,
            temperature=0.0,
            uniform_mix=0.0,
            min_unmasked_frames=0,
            shift_grid=False,
        )
        self._outside: tuple[AccentClassifier, ...] = ()  # no part of the recogniser's weights
        if self.order != "random":
            self._outside = (self._load(path),)

    def _load(self, path: str | None) -> AccentClassifier:
        if not path:
            raise UserError(f"frontend_conf.hide.classifier: order {self.order} needs a classifier")
        with torch.random.fork_rng(devices=[]):  # building a network draws random numbers
            classifier = AccentClassifier.load(Path(path))
        differences = classifier.features.difference(FeatureSettings.from_frontend(self))
        if differences:
            raise UserError(f"{path}: hears other features: {'; '.join(differences)}")
        return classifier

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, samples), (B,) -> (B, T, F) log-mel with a share hidden, (B,) frames."""
        feats, lengths = super().forward(input, input_lengths)
        masked = feats.clone()
        # One by one: what is drawn for an utterance must not depend on how long the others are.
        for row, (frames, samples) in enumerate(zip(lengths.tolist(), input_lengths.tolist())):
            generator = self._generator(input[row, :samples])
            masked[row, :frames] = self._hide(feats[row : row + 1, :frames], generator)[0]
        return masked, lengths

    @torch.no_grad()
    def _hide(self, feats: Tensor, generator: torch.Generator) -> Tensor:
        """(1, T, F), without padding -> the same with its share hidden."""
        size = (feats.size(1), feats.size(2))
        lengths = torch.tensor([feats.size(1)], device=feats.device)
        draws = draw(1, size, self.policy, generator)
        maps = None
        if self._outside:
            maps, _ = saliency_map(self._outside[0].to(feats.device), feats, lengths)
            maps = 1.0 - maps if self.order == "least" else maps
        mask = place(draws, maps, lengths, size, self.policy)
        return fill(feats, mask, lengths, self.policy.fill, generator)

    def _generator(self, wave: Tensor) -> torch.Generator:
        samples = wave.detach().cpu().contiguous().numpy().tobytes()
        return torch.Generator().manual_seed(zlib.crc32(samples, self.seed))
