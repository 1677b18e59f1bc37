"""The class that a map is made for: functions from the logits (B, n) of a batch to its targets.

A target is the number of a class, (B,), or weights over the classes, (B, n): the map then shows
what speaks for the weighted sum of their scores.
"""

from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Choose = Callable[[Tensor], Tensor]
"""From the logits (B, n) to the targets, (B,) or (B, n)."""

TARGETS = ("predicted", "true", "sample", "contrast")
"""The names of `specaug_conf.target`."""


def predicted(logits: Tensor) -> Tensor:
    """(B, n) -> (B,), the likeliest class."""
    return logits.argmax(dim=-1)


def sample(uniform: Tensor) -> Choose:
    """A draw from the posterior.

    Args:
        uniform: (B,) in [0, 1), drawn by the caller, so that a seed gives the same on any device.
    """

    def choose(logits: Tensor) -> Tensor:
        steps = logits.softmax(dim=-1).cumsum(dim=-1)
        below = (steps <= uniform.to(steps.device)[:, None]).sum(dim=-1)
        return below.clamp_max(logits.size(-1) - 1)

    return choose


def contrast(reference: int) -> Choose:
    """The likeliest accent against a reference accent: what makes it this one and not that one.

    The score is y^c - y^r, with r the reference and c the likeliest of the other classes: where the
    reference itself is the likeliest, the map shows what could have made it another.

    Args:
        reference: number of the reference class.
    """

    def choose(logits: Tensor) -> Tensor:
        others = logits.clone()
        others[:, reference] = -torch.inf
        classes = logits.size(-1)
        against = torch.full((len(logits),), reference, device=logits.device)
        weights = one_hot(others.argmax(dim=-1), classes) - one_hot(against, classes)
        return weights.to(logits.dtype)

    return choose
