"""Maps of the cells of a layer: to the resolution of the features, to [0, 1], without padding."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size), true at the frames of each utterance and false in its padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def upsample(
    low: Tensor,
    low_lengths: Tensor,
    lengths: Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    centre: Sequence[float] = (0.0, 0.0),
) -> Tensor:
    """Bring maps to the resolution of the features, linearly in time and frequency.

    Cell i lies at frame `centre + i * stride`. Beyond the first and last centres of an utterance
    its nearest cell is repeated, so neither padding nor other utterances have a say in its map.

    Args:
        low: (B, T', F').
        low_lengths: (B,), valid cells in time.
        lengths: (B,), valid frames.
        size: (T, F) of the result.
        stride: frames and mel bins that a cell stands for.
        centre: frame and mel bin that cell 0 is centred on. It is 0 for convolutions whose kernels
            are padded by half their width, however they stride: cell i hears as much before frame
            i * stride as after it. (stride - 1) / 2, which image libraries take for granted (as
            `torch.nn.functional.interpolate`), would lay a map half a cell too late and too high.

    Returns:
        (B, T, F), zero in padding.
    """
    time, frequency = size
    lengths, low_lengths = lengths.to(low.device), low_lengths.to(low.device)
    last = (low_lengths - 1).clamp_min(0)[:, None]
    at = (torch.arange(time, device=low.device) - centre[0]) / stride[0]
    at = torch.minimum(at.clamp_min(0.0), last)  # (B, T), in cells
    before = at.long()
    after = torch.minimum(before + 1, last)

    def row(index: Tensor) -> Tensor:
        return low.gather(1, index[:, :, None].expand(-1, -1, low.size(2)))

    in_time = torch.lerp(row(before), row(after), (at - before).to(low.dtype)[:, :, None])
    in_time = in_time.masked_fill(~valid_frames(lengths, time)[:, :, None], 0.0)
    bands = _interpolation(low.size(2), frequency, stride[1], centre[1]).to(low)
    return in_time @ bands


def _interpolation(cells: int, size: int, stride: int, centre: float) -> Tensor:
    """(cells, size): column f holds the weights of the cells around position f."""
    at = ((torch.arange(size) - centre) / stride).clamp(0.0, cells - 1)
    distance = (at[None, :] - torch.arange(cells)[:, None]).abs()
    return (1.0 - distance).clamp_min(0.0)


def clear_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, F), (B,) -> the same, with zeros for padding where anything in `x` is NaN or infinite.

    Sums that weigh padding with zero would else spread it over the valid frames: 0 * NaN is NaN.
    """
    if torch.isfinite(x.sum()):
        return x
    return x.masked_fill(~valid_frames(lengths.to(x.device), x.size(1))[:, :, None], 0.0)


def scale01(maps: Tensor, lengths: Tensor) -> Tensor:
    """Scale each map to [0, 1] over its utterance's own frames.

    Args:
        maps: (B, T, F).
        lengths: (B,), valid frames.

    Returns:
        (B, T, F), zero in padding; a map that is the same everywhere becomes zero.
    """
    valid = valid_frames(lengths.to(maps.device), maps.size(1))[:, :, None]
    low = maps.masked_fill(~valid, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = maps.masked_fill(~valid, -torch.inf).amax(dim=(1, 2), keepdim=True)
    spread = high - low
    flat = spread <= torch.finfo(maps.dtype).eps * high.abs()
    scaled = (maps - low) / spread.masked_fill(flat, 1.0)
    return scaled.masked_fill(flat | ~valid, 0.0)
