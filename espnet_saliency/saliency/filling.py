"""What masked cells of a spectrogram are filled with.

All random numbers are drawn on the CPU, so that a seed gives the same values on any device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from espnet_saliency.saliency.checks import check_choice
from espnet_saliency.saliency.maps import clear_padding, valid_frames


def fill(
    x: Tensor, mask: Tensor, lengths: Tensor, how: str, generator: Generator | None = None
) -> Tensor:
    """Replace masked cells; the result is a new tensor.

    Args:
        x: (B, T, F), log-mel, not normalised.
        mask: (B, T, F) bool.
        lengths: (B,), valid frames; padding has no say in the values.
        how: `mean`: the utterance's mean in each mel bin; `floor`: its smallest value; `noise`:
            Gaussian with its mean and standard deviation in each mel bin; `zero`: 0.0, which on
            log-mel energies is a loud patch, not silence (ESPnet's SpecAugment writes it);
            `shuffle_time`: each cell the value of its mel bin at another frame of the utterance,
            drawn evenly (its own, where the utterance has no other).
        generator: a CPU generator for `noise` and `shuffle_time`; torch's global one where it is
            None.

    Returns:
        (B, T, F).

    Raises:
        UserError: an unknown fill.
    """
    check_choice("fill", how, FILLS)
    with torch.no_grad():
        lengths = lengths.to(x.device)
        valid = valid_frames(lengths, x.size(1))[:, :, None]
        seen = clear_padding(x.detach(), lengths)
        value = _FILLERS[how](_Spectrogram(seen, valid, lengths, generator)).to(x.dtype)
    return torch.where(mask, value, x)


class _Spectrogram(NamedTuple):
    """What a fill may look at."""

    x: Tensor
    """(B, T, F)"""
    valid: Tensor
    """(B, T, 1) bool"""
    lengths: Tensor
    """(B,)"""
    generator: Generator | None


def _per_bin(x: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, F), the mean over valid frames."""
    count = valid.sum(dim=1, keepdim=True).clamp_min(1)
    # In the precision of x, whatever the training's autocast.
    with torch.autocast(x.device.type, enabled=False):
        return valid.to(x.dtype).transpose(1, 2) @ x / count


def _mean(seen: _Spectrogram) -> Tensor:
    return _per_bin(seen.x, seen.valid)


def _floor(seen: _Spectrogram) -> Tensor:
    return seen.x.masked_fill(~seen.valid, math.inf).amin(dim=(1, 2), keepdim=True)


def _noise(seen: _Spectrogram) -> Tensor:
    mean = _per_bin(seen.x, seen.valid)
    deviation = _per_bin((seen.x - mean) ** 2, seen.valid).sqrt()
    return mean + deviation * torch.randn(seen.x.shape, generator=seen.generator).to(seen.x.device)


def _zero(seen: _Spectrogram) -> Tensor:
    return torch.zeros((), device=seen.x.device)


def _shuffle_time(seen: _Spectrogram) -> Tensor:
    uniform = torch.rand(seen.x.shape, generator=seen.generator).to(seen.x.device)
    frames = torch.arange(seen.x.size(1), device=seen.x.device)[None, :, None]
    length = seen.lengths.clamp_min(1)[:, None, None]
    # From 1 to length - 1 frames further on, beyond the end from the start again: never itself.
    # In single precision a number just below 1 times that many frames may round up to it.
    step = 1 + (uniform * (length - 1)).long().clamp_max((length - 2).clamp_min(0))
    return seen.x.gather(1, (frames + step) % length)


_FILLERS = {
    "mean": _mean,
    "floor": _floor,
    "noise": _noise,
    "zero": _zero,
    "shuffle_time": _shuffle_time,
}
FILLS = tuple(_FILLERS)
