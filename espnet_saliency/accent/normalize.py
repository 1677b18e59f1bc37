"""Utterance mean and variance normalisation that takes no notice of padding."""

from __future__ import annotations

import torch
from espnet2.layers.abs_normalize import AbsNormalize
from torch import Tensor

from espnet_saliency.accent.resnet import mask_padding


class MaskedUtteranceMVN(AbsNormalize):
    """Normalise each mel bin over the frames of its utterance; `normalize: masked_utterance_mvn`.

    For one utterance alone the same as ESPnet's `utterance_mvn`. In a padded batch that one, with
    mean and variance, sums the padding's squares into the variance, so that a short utterance
    beside a long one comes out several times too small, and it works in the caller's tensor.

    Args:
        norm_means: subtract the mean.
        norm_vars: divide by the standard deviation.
        eps: least standard deviation, in the features' unit (natural log of power); a bin that
            never changes, such as those above a telephone's band, must not become amplified
            rounding.
    """

    def __init__(self, norm_means: bool = True, norm_vars: bool = True, eps: float = 0.1):
        super().__init__()
        self.norm_means, self.norm_vars, self.eps = norm_means, norm_vars, eps

    def extra_repr(self) -> str:
        return f"norm_means={self.norm_means}, norm_vars={self.norm_vars}, eps={self.eps}"

    def forward(self, x: Tensor, ilens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> the same shapes, zero in padding; `x` itself stays as it is."""
        if ilens is None:
            ilens = torch.full((x.size(0),), x.size(1), device=x.device)
        frames = ilens.to(x.device, x.dtype)[:, None, None]
        x = mask_padding(x, ilens)
        mean = x.sum(dim=1, keepdim=True) / frames
        centred = mask_padding(x - mean, ilens)
        y = centred if self.norm_means else x
        if self.norm_vars:
            deviation = (centred.square().sum(dim=1, keepdim=True) / frames).sqrt()
            y = y / deviation.clamp(min=self.eps)
        return y, ilens
