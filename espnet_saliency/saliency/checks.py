"""Checks of the options in `specaug_conf` and of features: each raises one line that names what."""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch import Tensor

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.maps import valid_frames


def check_choice(option: str, value, choices: Sequence[str]) -> str:
    """`value`, where it is one of `choices`; a UserError that names them all otherwise."""
    if value not in choices:
        raise UserError(f"specaug_conf.{option}: {value!r} is not one of {', '.join(choices)}")
    return value


def check_whole(option: str, value, low: int) -> int:
    """`value`, where it is an integer of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UserError(f"specaug_conf.{option}: {value!r} is not a whole number >= {low}")
    return value


def check_number(option: str, value, high: float) -> float:
    """`value` as a float, where it lies within [0, high]."""
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


def check_range(option: str, value) -> tuple[float, float]:
    """(low, high) within [0, 1], of a pair or of one number that stands for both."""
    pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2:
        raise UserError(f"specaug_conf.{option}: {value!r} is not one number or [low, high]")
    low, high = (check_number(option, number, 1.0) for number in pair)
    if low > high:
        raise UserError(f"specaug_conf.{option}: low {low:g} is above high {high:g}; swap them")
    return low, high


def check_layer(value) -> str | tuple[str, ...] | None:
    """The name of a layer, a list of names, or None for the classifier's last convolution."""
    names = [value] if isinstance(value, str) else value
    if names is None:
        return None
    listed = isinstance(names, (list, tuple)) and len(names) > 0
    if not listed or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"specaug_conf.layer: {value!r} is not null, a name or a list of names")
    if len(set(names)) < len(names):
        raise UserError(f"specaug_conf.layer: {value!r} names a layer twice")
    return value if isinstance(value, str) else tuple(names)


def check_finite(x: Tensor, lengths: Tensor, names: Sequence[str]) -> None:
    """Refuse NaN and infinity in the valid frames of `x` (B, T, F), of `lengths` (B,)."""
    if torch.isfinite(x.sum()):
        return
    valid = valid_frames(lengths, x.size(1))[:, :, None]
    broken = (~torch.isfinite(x) & valid).any(dim=2).any(dim=1).nonzero()[:, 0].tolist()
    if broken:
        raise UserError(
            f"specaug saliency: NaN or infinity in the features of {names[broken[0]]} "
            f"({int(lengths[broken[0]])} frames); look for NaN samples in the audio, or a learning "
            "rate that broke a trainable frontend"
        )
