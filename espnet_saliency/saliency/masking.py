"""From a saliency map to the cells of a spectrogram that are masked, and what they are filled with.

A grid of patches (time x frequency) is laid over each utterance. Patches are drawn without
replacement, each with a probability that grows with its mean saliency s_p, until the masked share
of the utterance is reached. Why drawn, and not the top of the map: the top is the same at every
epoch, and hiding the same cells again and again regularises nothing.

The draw is the Gumbel-top-k trick (Kool, van Hoof and Welling, "Stochastic Beams and Where to Find
Them", ICML 2019): to sort patches by log p_p + G_p, with G_p standard Gumbel noise, is to draw them
one after the other without replacement, each time with probabilities in proportion to p_p:

    p_p = (1 - m) s_p / sum_q s_q + m / N        m: uniform_mix, N: patches of the utterance
    order: decreasing log p_p + tau G_p          tau: temperature

which draws in proportion to p^(1/tau): as the map says at tau = 1, its top at 0, evenly at inf.

All random numbers are drawn on the CPU in one fixed order, before any map is known and for every
utterance of the batch. So a seed gives the same participants, shares and grids whatever the method
(saliency or its random control), wherever the map comes from, and on any device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Sequence

import torch
from torch import Generator, Tensor

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import valid_frames

# Keeps a patch of no saliency in the running (it comes last) and settles ties by chance.
_LEAST_PROBABILITY = 1e-9
_LEAST_TEMPERATURE = 1e-4


@dataclass(frozen=True)
class MaskPolicy:
    """How much is masked, where and with what. The names are the keys of `specaug_conf`.

    Raises:
        UserError: a value outside its range; the message names the option, the value and the range.
    """

    patch_frames: int = 8
    """Frames of a patch, >= 1."""
    patch_bins: int = 8
    """Mel bins of a patch, >= 1."""
    mask_ratio: Sequence[float] = (0.1, 0.3)
    """Masked share of an utterance's valid cells: drawn evenly from [low, high], within [0, 1]. One
    number stands for low = high. The masked area is within half a patch of the drawn share."""
    apply_prob: float = 0.5
    """Probability that an utterance takes part, in [0, 1]."""
    temperature: float = 1.0
    """tau: 0 takes the top of the map, 1 draws in proportion to it, inf (.inf in YAML) evenly."""
    uniform_mix: float = 0.1
    """m: weight of the uniform distribution in the mixture, in [0, 1]; above 0, a patch of no
    saliency can be drawn. At 0 such patches are drawn only when no others are left."""
    min_unmasked_frames: int = 5
    """Frames (one run, at a random place) that stay wholly untouched, >= 0; an utterance that is no
    longer than that is not masked at all."""
    shift_grid: bool = True
    """Move the grid of patches by a random offset for each utterance, so that the borders of
    patches are not the same cells at each epoch; patches cut by the ends of an utterance count by
    what is left of them."""
    fill: str = "mean"
    """What masked cells get: `mean`, `floor`, `noise` or `zero`, see `fill`."""

    def __post_init__(self):
        def settle(name: str, value) -> None:
            object.__setattr__(self, name, value)

        settle("patch_frames", _whole("patch_frames", self.patch_frames, 1))
        settle("patch_bins", _whole("patch_bins", self.patch_bins, 1))
        settle("min_unmasked_frames", _whole("min_unmasked_frames", self.min_unmasked_frames, 0))
        settle("apply_prob", _number("apply_prob", self.apply_prob, 1.0))
        settle("temperature", _number("temperature", self.temperature, math.inf))
        settle("uniform_mix", _number("uniform_mix", self.uniform_mix, 1.0))
        settle("mask_ratio", _ratio(self.mask_ratio))
        if not isinstance(self.shift_grid, bool):
            raise UserError(f"specaug_conf.shift_grid: {self.shift_grid!r} is not true or false")
        check_choice("fill", self.fill, FILLS)


def check_choice(option: str, value, choices: Sequence[str]) -> str:
    """`value`, where it is one of `choices`; a UserError that names them all otherwise."""
    if value not in choices:
        raise UserError(f"specaug_conf.{option}: {value!r} is not one of {', '.join(choices)}")
    return value


def _whole(option: str, value, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"specaug_conf.{option}: {value!r} is not a whole number >= {low}")
    return value


def _number(option: str, value, high: float) -> float:
    number = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-1 and inf as text
        except ValueError:
            pass
    if not 0.0 <= number <= high:
        where = ">= 0" if high == math.inf else f"within [0, {high:g}]"
        raise UserError(f"specaug_conf.{option}: {value!r} is not a number {where}")
    return number


def _ratio(value) -> tuple[float, float]:
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2:
        raise UserError(f"specaug_conf.mask_ratio: {value!r} is not one number or [low, high]")
    low, high = (_number("mask_ratio", number, 1.0) for number in pair)
    if low > high:
        raise UserError(f"specaug_conf.mask_ratio: low {low:g} is above high {high:g}; swap them")
    return low, high


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
    patch = (policy.patch_frames, policy.patch_bins)
    active = torch.rand(batch, generator=generator) < policy.apply_prob
    low, high = policy.mask_ratio
    share = low + (high - low) * torch.rand(batch, generator=generator)
    shift = (torch.rand(batch, 2, generator=generator) * torch.tensor(patch)).long()
    untouched = torch.rand(batch, generator=generator)
    # A grid that is shifted by up to a patch less one cell needs room for that.
    patches = [(cells + 2 * step - 2) // step for cells, step in zip(size, patch)]
    gumbel = -torch.empty(batch, *patches).exponential_(generator=generator).log()
    return Draws(active, share, shift * policy.shift_grid, untouched, gumbel)


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
        saliency: (B, T, F), >= 0; None for masks at random (each patch as likely as any other).
        lengths: (B,), valid frames.
        size: (T, F).
        policy: the one of the draws.

    Returns:
        (B, T, F) bool, true where a cell is masked, on the device of `lengths`.
    """
    device = lengths.device
    active, share, shift, untouched, gumbel = (tensor.to(device) for tensor in draws)
    rows = _Axis(size[0], policy.patch_frames, gumbel.size(1), shift[:, 0])
    columns = _Axis(size[1], policy.patch_bins, gumbel.size(2), shift[:, 1])

    free = valid_frames(lengths, size[0]) & ~_run(lengths, untouched, size[0], policy)
    bins = torch.ones(len(lengths), size[1], device=device)
    area = rows.sum(free.float())[:, :, None] * columns.sum(bins)[:, None, :]
    key = gumbel
    if saliency is not None and policy.temperature < math.inf:
        total = rows.sum(saliency * free[:, :, None])
        total = columns.sum(total.transpose(1, 2)).transpose(1, 2)
        probability = _log_probability(total / area.clamp_min(1.0), area > 0, policy.uniform_mix)
        key = probability + max(policy.temperature, _LEAST_TEMPERATURE) * gumbel

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


def _log_probability(mean: Tensor, real: Tensor, uniform_mix: float) -> Tensor:
    """log p_p of the module's docstring, (B, N_t, N_f); `real` marks patches that hold cells."""
    count = real.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    total = mean.sum(dim=(1, 2), keepdim=True)
    proportion = mean / total.masked_fill(total == 0, 1.0)
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
            log-mel energies is a loud patch, not silence (ESPnet's SpecAugment writes it).
        generator: a CPU generator for `noise`; torch's global one where it is None.

    Returns:
        (B, T, F).
    """
    check_choice("fill", how, FILLS)
    with torch.no_grad():
        valid = valid_frames(lengths.to(x.device), x.size(1))[:, :, None]
        value = _FILLERS[how](x.detach(), valid, generator).to(x.dtype)
    return torch.where(mask, value, x)


def _mean(x, valid, generator=None) -> Tensor:
    count = valid.sum(dim=1, keepdim=True).clamp_min(1)
    return x.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / count


def _floor(x, valid, generator=None) -> Tensor:
    return x.masked_fill(~valid, math.inf).amin(dim=(1, 2), keepdim=True)


def _noise(x, valid, generator=None) -> Tensor:
    mean = _mean(x, valid)
    deviation = _mean((x - mean) ** 2, valid).sqrt()
    return mean + deviation * torch.randn(x.shape, generator=generator).to(x.device)


def _zero(x, valid, generator=None) -> Tensor:
    return torch.zeros((), device=x.device)


_FILLERS = {"mean": _mean, "floor": _floor, "noise": _noise, "zero": _zero}
FILLS = tuple(_FILLERS)
