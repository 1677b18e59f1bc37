"""What a user decides about masks: how much, where in the map, and with what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.checks import check_choice, check_number, check_range, check_whole
from espnet_saliency.saliency.filling import FILLS

CHANGES = ("accent_mix", "accent_shift")
"""Fills that need the classifier, see `transfer`."""
PROTECTIONS = ("none", "change", "recogniser")
WEIGHTS = ("value", "rank")
AXES = ("both", "time", "frequency")


@dataclass(frozen=True)
class MaskPolicy:
    """How much is masked, where and with what. The names are the keys of `specaug_conf`.

    Symbols: s_p is the mean saliency of patch p over its valid cells, N the number of patches of an
    utterance, r_p the number of its patches of smaller s_p; w_p is s_p or r_p, by `weight_by`.
    Patches are drawn without replacement (`masking`) in proportion to

        [(1 - m) w_p / sum_q w_q + m / N] ^ (1 / tau)

    Raises:
        UserError: a value outside its range; the message names the option, the value and the range.
    """

    patch_frames: int = 8
    """Frames of a patch, >= 1. An utterance shorter than that is one patch long."""
    patch_bins: int = 8
    """Mel bins of a patch, >= 1."""
    mask_ratio: Sequence[float] = (0.1, 0.3)
    """Masked share of an utterance's valid cells: drawn evenly from [low, high], within [0, 1]. One
    number stands for low = high. The masked area is within half a patch of the drawn share, as far
    as `min_unmasked_frames` allows."""
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
    """What masked cells get: `mean`, `floor`, `noise`, `zero` or `shuffle_time`, see `filling`; or a
    change towards another accent, `accent_mix` or `accent_shift`, see `transfer`."""
    mix_alpha: float = 0.1
    """alpha of `accent_mix`: lambda ~ Beta(alpha, alpha), > 0; small: all of one or of the other."""
    shift_step: float = 0.5
    """epsilon of `accent_shift`, >= 0: the largest step, in deviations of the mel bin."""
    protect: str = "none"
    """Spare what the words need, s'(t, f) = s(t, f) (1 - p(t, f))^gamma (`phonetic`): with p the
    local energy of the slope of each mel bin (`change`), or the CTC saliency of a first recogniser
    (`recogniser`, from the stored maps `protect_maps`). `none`: s' = s."""
    protect_strength: float = 1.0
    """gamma, >= 0. The maps of a recogniser have few peaks (half their cells lie below 0.1 or so),
    and want more than `change`: 4 takes three quarters of its weight from a cell of 0.3."""
    weight_by: str = "value"
    """w_p: `value` is s_p; `rank` is r_p, which only asks which patch is the more salient, not by
    how much, so that one peak in a map does not take all the masks. Patches of no saliency weigh
    nothing either way."""
    axis: str = "both"
    """`both`: patches in time and frequency. `time`: a patch spans all mel bins, so that the map
    counts by its mean over frequency; `frequency`: it spans all frames (but the untouched ones)."""
    warmup_batches: int = 0
    """W: over the first W training batches the share grows linearly from 0 to what is drawn; the
    share of batch i = 0, 1, … is multiplied by min(1, i / W). 0: the whole share from the start."""
    seed: int = 0
    """Of the masks of method `frozen`, >= 0; all else follows torch's seed."""

    def __post_init__(self):
        def settle(name: str, value) -> None:
            object.__setattr__(self, name, value)

        for name, low in _WHOLE.items():
            settle(name, check_whole(name, getattr(self, name), low))
        for name, high in _NUMBERS.items():
            settle(name, check_number(name, getattr(self, name), high))
        settle("mask_ratio", check_range("mask_ratio", self.mask_ratio))
        if not isinstance(self.shift_grid, bool):
            raise UserError(f"specaug_conf.shift_grid: {self.shift_grid!r} is not true or false")
        if self.mix_alpha == 0:
            raise UserError("specaug_conf.mix_alpha: 0 is not above 0; 0.1 is MixStyle's")
        check_choice("fill", self.fill, (*FILLS, *CHANGES))
        check_choice("protect", self.protect, PROTECTIONS)
        check_choice("weight_by", self.weight_by, WEIGHTS)
        check_choice("axis", self.axis, AXES)

    def patch(self, size: tuple[int, int]) -> tuple[int, int]:
        """Frames and mel bins of a patch over features of `size` (T, F)."""
        frames = size[0] if self.axis == "frequency" else self.patch_frames
        return frames, size[1] if self.axis == "time" else self.patch_bins

    def moves(self) -> tuple[bool, bool]:
        """Whether the grid is shifted in time and in frequency."""
        return self.shift_grid and self.axis != "frequency", self.shift_grid and self.axis != "time"

    def warmed_up(self, batches: int) -> float:
        """The factor of the share after `batches` training batches, in [0, 1]."""
        return min(1.0, batches / self.warmup_batches) if self.warmup_batches else 1.0


_WHOLE = {
    "patch_frames": 1,
    "patch_bins": 1,
    "min_unmasked_frames": 0,
    "warmup_batches": 0,
    "seed": 0,
}
_NUMBERS = {
    "apply_prob": 1.0,
    "temperature": math.inf,
    "uniform_mix": 1.0,
    "mix_alpha": 100.0,
    "shift_step": 10.0,
    "protect_strength": 10.0,
}
