"""What a comparison says in words: the answer in a sentence, how sure it is, and what to distrust.

The words follow from the numbers by fixed rules, so that a report cannot sound better than its
data. A difference counts as shown only where its interval excludes zero and its paired test
agrees; everything else is "not distinguishable from zero", never "no effect".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

from espnet_saliency.scoring.charts import Interval, number
from espnet_saliency.scoring.conditions import CLEAN
from espnet_saliency.scoring.report_certainty import how_certain
from espnet_saliency.scoring.report_words import (
    NBSP,
    accent_name,
    arm_name,
    capital,
    interval_text,
    points,
)

OVERALL = "overall"


def ordinary_sets(comparison: Mapping[str, Any]) -> list[str]:
    """The test sets as they were recorded: without those that noise or a room was added to."""
    sets = comparison["sets"].items()
    return [name for name, one in sets if one.get("condition", CLEAN) == CLEAN]


@dataclass(frozen=True)
class Roles:
    """Which arm is asked about, which is its baseline, which its control of random masks."""

    method: str
    baseline: str
    control: str | None

    def pairs(self) -> list[tuple[str, str]]:
        """(arm, reference) of the comparisons that answer the question."""
        wanted = [(self.method, self.baseline), (self.method, self.control)]
        return [(arm, ref) for arm, ref in wanted if ref is not None and ref != arm]


# The words of an arm's name that say what it does, and what they are in its control's name.
_METHODS = {"saliency": "random", "accent_mix": "random_mix", "accent_shift": "random_shift"}
_NO_METHODS = ("none", "specaug", "random", "rolled", "shuffled", "least", "frozen", "energy")


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
    salient = [arm for arm in others if any(word in arm for word in _METHODS)]
    with_baseline = [arm for arm in salient if arm.endswith(f"_{baseline}")]
    unknown = [arm for arm in others if not arm.startswith(_NO_METHODS)]
    augmented = [arm for arm in others if arm != "none"]
    method = next(iter(with_baseline or salient or unknown or augmented), baseline)
    controls = [method.replace(*words) for words in _METHODS.items() if words[0] in method]
    control = next((arm for arm in controls if arm in arms and arm != baseline), None)
    return Roles(method, baseline, control)


def difference(scores: Mapping[str, Any], arm: str, reference: str) -> dict[str, dict] | None:
    """Groups of the difference `arm` minus `reference`, turned round where it is stored so.

    Args:
        scores: `comparison["sets"][SET][METRIC]`.

    Returns:
        {group: {"absolute", "low", "high", "relative", "p_value", "speakers", "small"}}, or None
        where the two arms were not compared.
    """
    for stored in scores["differences"]:
        if (stored["arm"], stored["reference"]) == (arm, reference):
            return dict(stored["groups"])
        if (stored["arm"], stored["reference"]) == (reference, arm):
            base = scores["arms"][reference]["groups"]
            return {
                name: {
                    **group,
                    "absolute": _minus(group["absolute"]),
                    "low": _minus(group.get("high")),
                    "high": _minus(group.get("low")),
                    "relative": _percent(_minus(group["absolute"]), base[name]["rate"]),
                    **_seeds_turned(group),
                }
                for name, group in stored["groups"].items()
            }
    return None


def verdict(group: Mapping[str, Any], level: float) -> str:
    """What a difference shows.

    Returns:
        "better" or "worse" where the interval leaves out zero and the p-value is below 1 - `level`;
        "unclear" where neither is so; "disputed" where only one is; "uncorrected" where both are,
        but not after the correction for the number of accents; "unknown" without an interval.
    """
    low, high, p_value = group.get("low"), group.get("high"), group.get("p_value")
    if group.get("absolute") is None or low is None or high is None:
        return "unknown"
    apart = high < 0 or low > 0
    if p_value is not None and apart != (p_value < 1 - level):
        return "disputed"
    if not apart:
        return "unclear"
    if (group.get("p_holm") or 0.0) >= 1 - level:
        return "uncorrected"
    return "better" if high < 0 else "worse"


def is_corrected(groups: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether any group of a difference has a p-value corrected for the number of accents."""
    return any(group.get("p_holm") is not None for group in groups.values())


def accents_of(one: Mapping[str, Any]) -> list[str]:
    """Accents of a set that have rates of their own: none where no accent is known."""
    groups = next(iter(one["wer"]["arms"].values()))["groups"]
    return [accent for accent in one["accents"] if accent in groups]


def interval(group: Mapping[str, Any], key: str) -> Interval:
    return Interval(group.get(key), group.get("low"), group.get("high"))


@dataclass(frozen=True)
class Answer:
    """The first screen in words.

    Attributes:
        mood: "better", "worse" or "unclear": how the page marks the headline.
        headline: the verdict, a few words.
        sentence: the differences with their intervals.
        others: one line for each other set.
        accents: which accents of the headline set moved; "" where none can be compared.
        certainty: what the intervals rest on and what they leave out.
    """

    mood: str
    headline: str
    sentence: str
    others: tuple[str, ...]
    accents: str
    certainty: str


def answer(
    comparison: Mapping[str, Any], headline_set: str, set_names: Mapping[str, str], seed: str = ""
) -> Answer:
    """Say what `comparison` shows for WER on `headline_set`.

    Args:
        comparison: as written to comparison.json.
        headline_set: the test set that answers the question.
        set_names: what to call a set in a sentence, such as "unseen accents".
        seed: training seed or seeds, for the statement of certainty.
    """
    part = roles(comparison)
    level = comparison["bootstrap"]["level"]
    one = comparison["sets"][headline_set]
    phrase = set_names.get(headline_set, headline_set)
    pairs = [(arm, ref) for arm, ref in part.pairs() if difference(one["wer"], arm, ref)]
    first = next(iter(pairs), None)
    against = first and (first[1], difference(one["wer"], *first)[OVERALL])
    certainty = how_certain(comparison, one, against, seed)
    if not pairs:
        group = one["wer"]["arms"][part.method]["groups"][OVERALL]
        several = len(comparison["arms"]) > 1
        sentence = (
            f"{capital(arm_name(part.method))} has a WER of {number(group['rate'])} % on {phrase} "
            f"({_percent_level(level)} interval {interval_text(group, signed=False)}). "
            f"There is no {'arm that masks what is salient' if several else 'second arm'} to "
            "compare it with."
        )
        return Answer("unclear", "Nothing to compare", sentence, (), "", certainty)
    found = [difference(one["wer"], arm, ref)[OVERALL] for arm, ref in pairs]
    verdicts = [verdict(group, level) for group in found]
    seeds = comparison.get("seeds") or []
    when = f"over {len(seeds)} seeds" if seeds else "in this run"
    mood, headline = _headline(part, verdicts, phrase, when)
    clauses = [
        _clause(part, ref, group, level, first=place == 0)
        for place, ((_, ref), group) in enumerate(zip(pairs, found))
    ]
    sentence = (
        f"{capital(arm_name(part.method))} changed WER on {phrase} "
        f"{', and '.join(clauses)}: {_tail(verdicts)}."
    )
    others = tuple(
        line
        for name in ordinary_sets(comparison)
        if name != headline_set
        for line in [
            _other(part, comparison["sets"][name]["wer"], set_names.get(name, name), level)
        ]
        if line
    )
    accents = _accents(part, one, level)
    return Answer(mood, headline, sentence, others, accents, certainty)


def _headline(part: Roles, verdicts: list[str], phrase: str, when: str) -> tuple[str, str]:
    base = arm_name(part.baseline)
    against_base = verdicts[0]
    against_control = verdicts[1] if len(verdicts) > 1 else None
    if against_base == "better":
        if against_control in (None, "better"):
            also = " and than random masks" if against_control else ""
            return "better", f"It helped on {phrase} {when}: better than {base}{also}"
        how = "worse than" if against_control == "worse" else "not shown to be better than"
        return "unclear", f"Better than {base} on {phrase}, but {how} random masks of the same size"
    if against_base == "worse":
        return "worse", f"It hurt on {phrase} {when}: worse than {base}"
    if against_control == "better":
        return "unclear", f"Better than random masks on {phrase}, but not shown to beat {base}"
    if against_control == "worse":
        return "worse", f"No gain over {base} shown on {phrase}, and worse than random masks"
    return "unclear", f"No difference shown on {phrase}"


def _clause(part: Roles, reference: str, group: Mapping, level: float, first: bool) -> str:
    if reference == part.control:
        against = "random masks of the same size"
    elif reference in part.method.split("_"):
        against = f"{arm_name(reference)} alone"
    else:
        against = arm_name(reference)
    if group.get("low") is None or group.get("high") is None:
        return f"by {points(group['absolute'])} (no interval) against {against}"
    intro = f"{_percent_level(level)} interval " if first else ""
    return f"by {points(group['absolute'])} ({intro}{interval_text(group)}) against {against}"


def _tail(verdicts: list[str]) -> str:
    words = {
        "better": "an improvement",
        "worse": "a loss",
        "unclear": "not distinguishable from zero",
        "disputed": "not settled (its interval and its test disagree)",
        "uncorrected": "not shown after correction",
        "unknown": "of unknown certainty",
    }
    first, second = verdicts[0], verdicts[-1]
    if len(verdicts) == 1:
        return words[first]
    if first != second:
        return f"the first is {words[first]}, the second {words[second]}"
    if first == "unclear":
        return "neither is distinguishable from zero"
    return {"better": "both are improvements", "worse": "both are losses"}.get(
        first, f"both are {words[first]}"
    )


def _other(part: Roles, scores: Mapping, phrase: str, level: float) -> str:
    clauses, verdicts = [], []
    for arm, reference in part.pairs():
        groups = difference(scores, arm, reference)
        if groups:
            clauses.append(_clause(part, reference, groups[OVERALL], level, first=False))
            verdicts.append(verdict(groups[OVERALL], level))
    return f"On {phrase}: {', and '.join(clauses)}: {_tail(verdicts)}." if clauses else ""


def _accents(part: Roles, one: Mapping, level: float) -> str:
    arm, reference = part.pairs()[0]
    groups = difference(one["wer"], arm, reference)
    if not groups:
        return ""
    accents = accents_of(one)
    total = len(accents)
    if total < 2:
        return ""  # the accent is the overall figure
    found: dict[str, list[str]] = {}
    for accent in accents:
        found.setdefault(verdict(groups[accent], level), []).append(accent_name(accent))
    shown = [f"{word} on {', '.join(found[word])}" for word in ("better", "worse") if word in found]
    silent = total - sum(len(found.get(word, [])) for word in ("better", "worse"))
    if silent == total:
        text = f"no difference is shown on any of the {total} accents"
    elif silent:
        text = f"{' and '.join(shown)}; no difference shown on {silent} of {total} accents"
    else:
        text = " and ".join(shown)
    text = f"By accent, against {arm_name(reference)}: {text}."
    if shown and is_corrected(groups):
        text += " Their p-values are corrected for the number of accents (Holm)."
    elif shown:
        expected = number((1 - level) * total)
        text += (
            f" Among {total} accents about {expected} would differ by chance alone: p-values are "
            "not corrected for the number of accents."
        )
    return text


def _percent_level(level: float) -> str:
    return f"{100 * level:g}{NBSP}%"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _percent(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else 100.0 * value / base


def _seeds_turned(group: Mapping) -> dict[str, Any]:
    found = group.get("seeds")
    if not found:
        return {}
    return {"seeds": found | {"absolute": [_minus(value) for value in found["absolute"]]}}
