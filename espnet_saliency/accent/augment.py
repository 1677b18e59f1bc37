"""Augmentation of the accent classifier's own input: random crops, then SpecAugment."""

from __future__ import annotations

from typing import Any

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.asr.specaug.specaug import SpecAug
from torch import Tensor

from espnet_saliency.accent.resnet import mask_padding
from espnet_saliency.errors import UserError


class CropSpecAug(AbsSpecAug):
    """Random crops, then ESPnet's SpecAug; `specaug: crop_specaug` of the cls task.

    Crops keep a classifier from learning whole sentences and speakers by heart. SpecAug writes
    zeros, which on log-mel features are a loud patch that would also shift the normalisation behind
    it: it works here on features less their mean over the utterance, so that what it hides becomes
    the mean. Random numbers come from torch's generator alone.

    Args:
        crop_frames: length of a crop; a shorter utterance stays whole. None: no crops.
        specaug: arguments of ESPnet's SpecAug; None: no SpecAugment.

    Raises:
        UserError: crop_frames is not positive.
    """

    def __init__(self, crop_frames: int | None = 300, specaug: dict[str, Any] | None = None):
        super().__init__()
        if crop_frames is not None and crop_frames < 1:
            raise UserError(f"crop_specaug: crop_frames must be positive, not {crop_frames}")
        self.crop_frames = crop_frames
        self.specaug = SpecAug(**specaug) if specaug is not None else None

    def extra_repr(self) -> str:
        return f"crop_frames={self.crop_frames}"

    def forward(self, x: Tensor, x_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> (B, T', F), (B,), zero in padding; `x` itself stays as it is."""
        if x_lengths is None:
            x_lengths = torch.full((x.size(0),), x.size(1), device=x.device)
        lengths = x_lengths.to(x.device)
        if self.crop_frames is not None:
            x, lengths = random_crop(x, lengths, self.crop_frames)
        x = mask_padding(x, lengths)
        if self.specaug is not None:
            mean = x.sum(dim=1, keepdim=True) / lengths[:, None, None]
            y, _ = self.specaug(x - mean, lengths)
            x = mask_padding(y + mean, lengths)
        return x, lengths


def random_crop(x: Tensor, lengths: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """Cut `frames` frames out of each utterance, from a start drawn for each.

    Args:
        x: (B, T, F).
        lengths: (B,), frames; an utterance of no more than `frames` stays whole.

    Returns:
        (B, T', F) with T' the longest of the crops, and their lengths (B,).
    """
    cropped = lengths.clamp(max=frames)
    # One draw an utterance whatever its length, so that batches of other lengths keep the sequence.
    draw = torch.rand(x.size(0), device=x.device, dtype=torch.float64)
    start = (draw * (lengths - cropped + 1)).long()
    index = start[:, None] + torch.arange(int(cropped.max()), device=x.device)
    index = index.clamp(max=x.size(1) - 1)[:, :, None].expand(-1, -1, x.size(2))
    return x.gather(1, index), cropped
