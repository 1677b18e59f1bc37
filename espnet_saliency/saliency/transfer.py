"""Fills that change the accent instead of deleting it: they need the accent classifier.

- `accent_mix`: masked cells take the mean and deviation of each mel bin from another utterance of
  the batch that is heard as another accent, after MixStyle (Zhou et al., "Domain Generalization
  with MixStyle", ICLR 2021, eq. 4 to 7, there on instance statistics of hidden layers):

      x' = (x - mu) / sigma * sigma_m + mu_m
      mu_m = lambda mu + (1 - lambda) mu_o,  sigma_m likewise,  lambda ~ Beta(alpha, alpha)

- `accent_shift`: masked cells take a bounded step along the classifier's gradient towards another
  accent, drawn evenly (Goodfellow et al., "Explaining and Harnessing Adversarial Examples", ICLR
  2015, with the gradient itself in the place of its sign):

      x' = x + epsilon sigma clamp(g / rms(g), -1, 1),   g = d (y^other - y^heard) / dx

  with sigma the deviation of the mel bin and rms over the masked cells of the utterance.

The masks, and so the cells that are changed and how many, are those of every other fill.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from espnet_saliency.saliency.cam import PooledClassifier
from espnet_saliency.saliency.maps import clear_padding, valid_frames
from espnet_saliency.saliency.policy import MaskPolicy

_LEAST_DEVIATION = 1e-3
"""Natural-log units: a bin that never changes is not blown up."""


class Chances(NamedTuple):
    """The random numbers of one batch, on the CPU."""

    other: Tensor
    """(B,) in [0, 1), which other utterance or accent."""
    weight: Tensor
    """(B,), lambda."""


def draw_chances(batch: int, policy: MaskPolicy) -> Chances:
    """Draw what is random about the change of a batch."""
    other = torch.rand(batch)
    alpha = torch.full((batch,), policy.mix_alpha)
    return Chances(other, torch.distributions.Beta(alpha, alpha).sample())


def change(
    classifier: PooledClassifier,
    x: Tensor,
    mask: Tensor,
    lengths: Tensor,
    policy: MaskPolicy,
    chances: Chances,
) -> Tensor:
    """Change the masked cells towards another accent; the result is a new tensor.

    Args:
        classifier: a frozen network in eval mode.
        x: (B, T, F), log-mel, not normalised.
        mask: (B, T, F) bool.
        lengths: (B,), valid frames; padding has no say in the values.
        policy: `fill` is accent_mix or accent_shift; mix_alpha, shift_step.
        chances: what `draw_chances` gave.

    Returns:
        (B, T, F). Under `accent_mix` an utterance stays as it is where all others of the batch are
        heard as its own accent.
    """
    seen = clear_padding(x.detach().float(), lengths)  # whatever ESPnet's train_dtype is
    value = _CHANGES[policy.fill](classifier, seen, mask, lengths, policy, chances)
    return torch.where(mask, value.to(x.dtype), x)


def _statistics(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each mel bin over valid frames, (B, 1, F) each."""
    valid = valid_frames(lengths, x.size(1))[:, :, None]
    count = lengths.clamp_min(1)[:, None, None]
    mean = x.masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / count
    variance = ((x - mean) ** 2).masked_fill(~valid, 0.0).sum(dim=1, keepdim=True) / count
    return mean, variance.sqrt().clamp_min(_LEAST_DEVIATION)


def _accent_mix(classifier, x, mask, lengths, policy, chances) -> Tensor:
    with torch.no_grad():
        heard = classifier(x, lengths).argmax(dim=-1)
        differs = heard[:, None] != heard[None, :]
        count = differs.sum(dim=1)
        # The n-th of those that are heard as another accent, n drawn evenly.
        wanted = (chances.other.to(x.device) * count).long()
        order = differs.long().cumsum(dim=1) - 1
        partner = (differs & (order == wanted[:, None])).long().argmax(dim=1)
        weight = chances.weight.to(x)[:, None, None]
        mean, deviation = _statistics(x, lengths)
        mixed_mean = weight * mean + (1 - weight) * mean[partner]
        mixed_deviation = weight * deviation + (1 - weight) * deviation[partner]
        mixed = (x - mean) / deviation * mixed_deviation + mixed_mean
        return torch.where((count > 0)[:, None, None], mixed, x)


def _accent_shift(classifier, x, mask, lengths, policy, chances) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.clone().requires_grad_()
        logits = classifier(leaf, lengths.clone())
        classes = logits.size(1)
        heard = logits.detach().argmax(dim=-1)
        step = 1 + (chances.other.to(x.device) * (classes - 1)).long().clamp_max(max(classes - 2, 0))
        other = (heard + step) % classes
        score = logits.gather(1, other[:, None]) - logits.gather(1, heard[:, None])
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
    with torch.no_grad():
        gradient = gradient * mask
        cells = mask.sum(dim=(1, 2), keepdim=True).clamp_min(1)
        size = (gradient.square().sum(dim=(1, 2), keepdim=True) / cells).sqrt()
        direction = (gradient / size.clamp_min(1e-20)).clamp(-1.0, 1.0)
        _, deviation = _statistics(x, lengths)
        return x + policy.shift_step * deviation * direction


_CHANGES = {"accent_mix": _accent_mix, "accent_shift": _accent_shift}
