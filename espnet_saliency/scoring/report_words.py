"""How the report writes names, counts, differences and probabilities."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from espnet_saliency.scoring.charts import number

NBSP = "\u00a0"  # keeps a number and its interval on one line

_ARM_NAMES = {
    "none": "no augmentation",
    "specaug": "SpecAugment",
    "specaug_light": "light SpecAugment",
    "saliency": "saliency masking",
    "random": "random masks",
    "least": "masks on the least salient",
    "rolled": "maps shifted in time",
    "shuffled": "maps of other utterances",
    "frozen": "random masks, the same each epoch",
    "energy": "masks on the loudest",
    "accent_mix": "accent mix",
    "accent_shift": "accent shift",
    "random_mix": "accent mix at random places",
    "random_shift": "accent shift at random places",
}


def arm_name(arm: str) -> str:
    """The plain name of an arm: "saliency_specaug" is "saliency masking + SpecAugment"."""
    for ending, words in (("_or_specaug", " or SpecAugment"), ("_specaug", " + SpecAugment")):
        part = _ARM_NAMES.get(arm.removesuffix(ending))
        if part and arm.endswith(ending):
            return part + words
    return _ARM_NAMES.get(arm, arm)


def arm_title(arm: str) -> str:
    """`arm_name` with a capital, for a heading or the start of a sentence; a system whose name is
    its owner's own keeps it as it is."""
    name = arm_name(arm)
    return name if name == arm else capital(name)


def listed(words: Sequence[str], joint: str = "and") -> str:
    """"a", "a and b", "a, b and c"."""
    *first, last = words
    return f"{', '.join(first)} {joint} {last}" if first else last


def accent_name(accent: str) -> str:
    """An accent as written; the empty one is said to be unknown."""
    return accent or "unknown"


def capital(text: str) -> str:
    """`text` with a capital at its start, where that is a word and no identifier."""
    return text if "_" in text.partition(" ")[0] else text[:1].upper() + text[1:]


def count(amount: int, noun: str) -> str:
    """"1 speaker", "4,812 words"."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def interval_text(group: Mapping[str, Any], signed: bool = True) -> str:
    """"−1.9 to +0.3" in one unbreakable piece, or a dash."""
    if group.get("low") is None or group.get("high") is None:
        return "–"
    return f"{number(group['low'], 1, signed)}{NBSP}to{NBSP}{number(group['high'], 1, signed)}"


def p_text(p_value: float | None) -> str:
    """"0.140", "< 0.001", or a dash."""
    if p_value is None:
        return "–"
    return f"<{NBSP}0.001" if p_value < 0.001 else f"{p_value:.3f}"


def points(value: float) -> str:
    text = number(value, 1, signed=True)
    return f"{text}{NBSP}{'point' if text in ('−1.0', '+1.0') else 'points'}"
