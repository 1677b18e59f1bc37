"""From a saliency map to the cells of a spectrogram that are masked.

A grid of patches (time x frequency) is laid over each utterance. Patches are drawn without
replacement, each with a probability that grows with its mean saliency s_p, until the masked share
of the utterance is reached. Why drawn, and not the top of the map: the top is the same at every
epoch, and hiding the same cells again and again regularises nothing.

The draw is the Gumbel-top-k trick (Kool, van Hoof and Welling, "Stochastic Beams and Where to Find
Them", ICML 2019): to sort patches by log p_p + G_p, with G_p standard Gumbel noise, is to draw them
one after the other without replacement, each time with probabilities in proportion to p_p:

    p_p = (1 - m) w_p / sum_q w_q + m / N        m: uniform_mix, N: patches of the utterance
    order: decreasing log p_p + tau G_p          tau: temperature

which draws in proportion to p^(1/tau): as the map says at tau = 1, its top at 0, evenly at inf.
w_p is s_p itself or its rank (`MaskPolicy.weight_by`). A map of zeros says nothing, so its patches
are drawn evenly, whatever tau and m.

All random numbers are drawn on the CPU in one fixed order, before any map is known and for every
utterance of the batch. So a seed gives the same participants, shares and grids whatever the method
(saliency or its random control), wherever the map comes from, and on any device.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import torch
from torch import Generator, Tensor

from espnet_saliency.saliency.cam import valid_frames
from espnet_saliency.saliency.checks import check_choice
from espnet_saliency.saliency.filling import FILLS, fill
from espnet_saliency.saliency.policy import MaskPolicy

__all__ = [
    "FILLS", "Draws", "MaskPolicy", "check_choice", "draw", "fill", "freeze", "place",
    "sample_mask",
]  # fmt: skip

# Keeps a patch of no saliency in the running (it comes last) and settles ties by chance.
_LEAST_PROBABILITY = 1e-9
_LEAST_TEMPERATURE = 1e-4
# Ranks look at means in these steps of the greatest one, not at errors of rounding.
_RANK_STEPS = 2.0**16


class Draws(NamedTuple):
    """The random numbers of one batch, on the CPU."""

    active: Tensor
    """(B,) bool, the utterances that take part."""
    share: Tensor
    """(B,), the share of valid cells to mask."""
    shift: Tensor
    """(B, 2) int64, offset of the grid in frames and mel bins."""
    untouched: Tensor
    """(B,) in [0, 1), where the untouched frames lie."""
    gumbel: Tensor
    """(B, N_t, N_f), the noise of each patch."""


def draw(
    batch: int, size: tuple[int, int], policy: MaskPolicy, generator: Generator | None = None
) -> Draws:
    """Draw all that is random about the masks of a batch.

    Args:
        batch: B.
        size: (T, F) of the padded features.
        policy: how much and where.
        generator: a CPU generator; torch's global one where it is None.
    """
    patch = policy.patch(size)
    active = torch.rand(batch, generator=generator) < policy.apply_prob
    low, high = policy.mask_ratio
    share = low + (high - low) * torch.rand(batch, generator=generator)
    shift = (torch.rand(batch, 2, generator=generator) * torch.tensor(patch)).long()
    untouched = torch.rand(batch, generator=generator)
    gumbel = -torch.empty(batch, *_grid(size, policy)).exponential_(generator=generator).log()
    return Draws(active, share, shift * torch.tensor(policy.moves()), untouched, gumbel)


def _grid(size: tuple[int, int], policy: MaskPolicy) -> tuple[int, int]:
    """(N_t, N_f), the patches of padded features, with room for a shift by up to a patch."""
    steps = zip(size, policy.patch(size), policy.moves())
    time, frequency = (-(-(cells + moves * (step - 1)) // step) for cells, step, moves in steps)
    return time, frequency


def freeze(
    draws: Draws, keys: Sequence[int], lengths: Tensor, size: tuple[int, int], policy: MaskPolicy
) -> Draws:
    """Give each utterance its own, unchanging order of patches: the control `frozen`.

    The grid, the untouched frames and the noise of the patches are drawn anew from a seed of the
    utterance; who takes part and how much is masked stay as they are. So an utterance loses the
    same cells at each epoch, and with a larger share all that it loses with a smaller one.

    Args:
        draws: what `draw` gave for this batch.
        keys: a seed >= 0 for each utterance.
        lengths: (B,), valid frames; padding has no say.
        size: (T, F) of the padded features.
        policy: the one of the draws.
    """
    fixed = []
    for key, length in zip(keys, lengths.tolist()):
        alone = draw(1, (length, size[1]), policy, Generator().manual_seed(key))
        gumbel = torch.zeros(1, *draws.gumbel.shape[1:])  # patches of padding hold no cells
        gumbel[:, : alone.gumbel.size(1)] = alone.gumbel
        fixed.append(alone._replace(gumbel=gumbel))
    shift, untouched, gumbel = (torch.cat(parts) for parts in list(zip(*fixed))[2:])
    return draws._replace(shift=shift, untouched=untouched, gumbel=gumbel)


def place(
    draws: Draws,
    saliency: Tensor | None,
    lengths: Tensor,
    size: tuple[int, int],
    policy: MaskPolicy,
) -> Tensor:
    """Turn draws and maps into masks; nothing random happens here.

    Args:
        draws: what `draw` gave for this batch.
        saliency: (B, T, F), >= 0; None for masks at random (each patch as likely as any other),
            which an utterance gets as well whose map is zero throughout.
        lengths: (B,), valid frames.
        size: (T, F).
        policy: the one of the draws.

    Returns:
        (B, T, F) bool, true where a cell is masked, on the device of `lengths`.
    """
    device = lengths.device
    active, share, shift, untouched, gumbel = (tensor.to(device) for tensor in draws)
    frames, bins = policy.patch(size)
    rows = _Axis(size[0], frames, gumbel.size(1), shift[:, 0])
    columns = _Axis(size[1], bins, gumbel.size(2), shift[:, 1])

    free = valid_frames(lengths, size[0]) & ~_run(lengths, untouched, size[0], policy)
    width = columns.sum(torch.ones(len(lengths), size[1], device=device))
    area = rows.sum(free.float())[:, :, None] * width[:, None, :]
    key = gumbel
    if saliency is not None and policy.temperature < math.inf:
        total = rows.sum(columns.sum_last(saliency) * free[:, :, None])
        weight = _weight(total / area.clamp_min(1.0), area > 0, policy.weight_by)
        probability = _log_probability(weight, area > 0, policy.uniform_mix)
        key = probability + max(policy.temperature, _LEAST_TEMPERATURE) * gumbel
        # Where the map says nothing, the very mask that method random draws.
        says = weight.amax(dim=(1, 2), keepdim=True) > 0
        key = torch.where(says, key, gumbel)

    target = share * lengths * size[1] * active
    patches = _take(key, area, target)
    return columns.spread(rows.spread(patches).transpose(1, 2)).transpose(1, 2) & free[:, :, None]


def sample_mask(
    saliency: Tensor | None,
    lengths: Tensor,
    size: tuple[int, int],
    policy: MaskPolicy,
    generator: Generator | None = None,
) -> Tensor:
    """Draw the masks of a batch: `draw`, then `place`.

    Args:
        saliency: (B, T, F), >= 0, on the device of `lengths`; None for masks at random.
        lengths: (B,), valid frames.
        size: (T, F).
        policy: how much and where.
        generator: a CPU generator; torch's global one where it is None.

    Returns:
        (B, T, F) bool, true where a cell is masked; never in padding.
    """
    return place(draw(len(lengths), size, policy, generator), saliency, lengths, size, policy)


class _Axis:
    """Patches along one axis: cell i of utterance b lies in patch (i + shift_b) // step."""

    def __init__(self, cells: int, step: int, patches: int, shift: Tensor):
        self.step, self.patches = step, patches
        device = shift.device
        self._patch = (torch.arange(cells, device=device) + shift[:, None]) // step  # (B, cells)
        cell = torch.arange(patches * step, device=device) - shift[:, None]  # (B, patches * step)
        self._inside = (cell >= 0) & (cell < cells)
        self._cell = cell.clamp(0, cells - 1)

    def sum(self, values: Tensor) -> Tensor:
        """(B, cells, ...) -> (B, patches, ...), the sum over each patch."""
        # Index and reshape: the order of summation is fixed, which atomic adds on a GPU lack.
        gathered = _rows(values, self._cell)
        gathered = gathered * self._inside.view(*self._inside.shape, *[1] * (values.dim() - 2))
        return gathered.unflatten(1, (self.patches, self.step)).sum(dim=2)

    def sum_last(self, values: Tensor) -> Tensor:
        """(B, ..., cells) -> (B, ..., patches), the same along the last axis."""
        patch = torch.arange(self.patches, device=self._patch.device)
        return values @ (self._patch[:, :, None] == patch).to(values.dtype)

    def spread(self, values: Tensor) -> Tensor:
        """(B, patches, ...) -> (B, cells, ...), each cell with the value of its patch."""
        return _rows(values, self._patch)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """values (B, N, ...), index (B, M) -> (B, M, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None], index]


def _run(lengths: Tensor, place: Tensor, size: int, policy: MaskPolicy) -> Tensor:
    """(B, T) bool, one run of `min_unmasked_frames` valid frames in each utterance."""
    room = (lengths - policy.min_unmasked_frames + 1).clamp_min(1)
    start = (place * room).long()[:, None]
    frame = torch.arange(size, device=lengths.device)
    return (frame >= start) & (frame < start + policy.min_unmasked_frames)


def _weight(mean: Tensor, real: Tensor, weight_by: str) -> Tensor:
    """w_p of the module's docstring, (B, N_t, N_f): s_p, or the number of patches below it."""
    if weight_by == "value":
        return mean
    steps = mean / mean.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)
    steps = (steps * _RANK_STEPS).round().masked_fill(~real, math.inf).flatten(1)
    below = torch.searchsorted(steps.sort(dim=1).values, steps)
    return below.view_as(mean).to(mean.dtype).masked_fill(~real, 0.0)


def _log_probability(weight: Tensor, real: Tensor, uniform_mix: float) -> Tensor:
    """log p_p of the module's docstring, (B, N_t, N_f); `real` marks patches that hold cells."""
    count = real.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    total = weight.sum(dim=(1, 2), keepdim=True)
    proportion = weight / total.masked_fill(total == 0, 1.0)
    probability = (1.0 - uniform_mix) * proportion + uniform_mix / count
    return probability.clamp_min(_LEAST_PROBABILITY).log()


def _take(key: Tensor, area: Tensor, target: Tensor) -> Tensor:
    """Take patches in the order of `key` while that brings the area nearer to `target` (B,)."""
    key, cells = key.flatten(1), area.flatten(1)
    order = key.argsort(dim=1, descending=True)
    sorted_cells = cells.gather(1, order)
    middle = sorted_cells.cumsum(dim=1) - sorted_cells / 2
    taken = (middle <= target[:, None]) & (sorted_cells > 0)
    return torch.zeros_like(taken).scatter(1, order, taken).view_as(area)
