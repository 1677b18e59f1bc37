"""Which part each arm plays in the question that a report answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

# The words of an arm's name that say what it does, and what they are in its control's name.
_METHODS = {"saliency": "random", "accent_mix": "random_mix", "accent_shift": "random_shift"}
_PLAIN = ("specaug", "none")  # what a method is to be better than
_NO_METHODS = (*_PLAIN, "random", "rolled", "shuffled", "least", "frozen", "energy")


@dataclass(frozen=True)
class Roles:
    """Which arm is asked about, and what it is measured against.

    Attributes:
        method: the arm asked about.
        baseline: the arm that it is to beat.
        control: masks of the same size at random places, where there are any.
        other: SpecAugment, or no augmentation, where it is not the baseline but among the arms: a
            method that beats the one and not the other has not helped.
    """

    method: str
    baseline: str
    control: str | None = None
    other: str | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """(arm, reference) of the comparisons that answer the question."""
        references = (self.baseline, self.control, self.other)
        return [(self.method, ref) for ref in references if ref is not None and ref != self.method]

    @property
    def is_ours(self) -> bool:
        """Whether the method is one of this recipe, by its name."""
        return _is_ours(self.method)

    @property
    def masks(self) -> bool:
        """Whether the method hides what is salient: others change it, and so do their controls."""
        return "saliency" in self.method

    @property
    def lacks_control(self) -> bool:
        """Whether nothing tells apart what is done and where it is done."""
        return self.is_ours and self.control is None

    @property
    def lacks_plain(self) -> bool:
        """Whether a method without SpecAugment is to beat SpecAugment, and nothing says what doing
        neither gives: where SpecAugment does harm, that beats it too."""
        return self.is_ours and self.baseline == "specaug" not in self.method and self.other is None


def roles(comparison: Mapping[str, Any]) -> Roles:
    """The arms' parts, by their names.

    The method is the first arm that masks or changes what is salient, of those that are named
    after the baseline as well where there are any. Without such an arm it is the first that is
    neither the baseline nor a control, else the first that augments at all; where none is left the
    baseline is the method too, and nothing is asked. The control is the arm with the method's name
    but "random" for "saliency", "random_mix" for "accent_mix".
    """
    arms = [arm["name"] for arm in comparison["arms"]]
    baseline = comparison["baseline"]
    others = [arm for arm in arms if arm != baseline]
    salient = [arm for arm in others if _is_ours(arm)]
    with_baseline = [arm for arm in salient if arm.endswith(f"_{baseline}")]
    unknown = [arm for arm in others if not arm.startswith(_NO_METHODS)]
    augmented = [arm for arm in others if arm != "none"]
    method = next(iter(with_baseline or salient or unknown or augmented), baseline)
    controls = [method.replace(*words) for words in _METHODS.items() if words[0] in method]
    control = next((arm for arm in controls if arm in arms and arm != baseline), None)
    other = next((arm for arm in _PLAIN if arm in others and arm != method), None)
    return Roles(method, baseline, control, other if method != baseline else None)


def _is_ours(arm: str) -> bool:
    return any(word in arm for word in _METHODS)
