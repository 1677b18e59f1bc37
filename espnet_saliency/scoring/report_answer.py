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
from espnet_saliency.scoring.report_roles import Roles, roles
from espnet_saliency.scoring.report_words import (
    NBSP,
    accent_name,
    arm_name,
    arm_title,
    interval_text,
    listed,
    points,
)

OVERALL = "overall"
MOST_OTHERS = 4  # arms that the first screen names beside those that answer the question


def ordinary_sets(comparison: Mapping[str, Any]) -> list[str]:
    """The test sets as they were recorded: without those that noise or a room was added to."""
    sets = comparison["sets"].items()
    return [name for name, one in sets if one.get("condition", CLEAN) == CLEAN]


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
        rest: how the arms fare that the sentence does not name; "" where it names all.
        others: one line for each other set.
        accents: which accents of the headline set moved; "" where none can be compared.
        certainty: what the intervals rest on and what they leave out.
    """

    mood: str
    headline: str
    sentence: str
    rest: str
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
            f"{arm_title(part.method)} has a WER of {number(group['rate'])} % on {phrase} "
            f"({_percent_level(level)} interval {interval_text(group, signed=False)}). "
            f"There is no {'arm that masks what is salient' if several else 'second arm'} to "
            "compare it with."
        )
        return Answer("unclear", "Nothing to compare", sentence, "", (), "", certainty)
    found = [difference(one["wer"], arm, ref)[OVERALL] for arm, ref in pairs]
    verdicts = [verdict(group, level) for group in found]
    seeds = comparison.get("seeds") or []
    when = f"over {len(seeds)} seeds" if seeds else "in this run"
    mood, headline = _headline(part, [ref for _, ref in pairs], verdicts, phrase, when)
    clauses = [
        _clause(part, ref, group, level, first=place == 0)
        for place, ((_, ref), group) in enumerate(zip(pairs, found))
    ]
    sentence = (
        f"{arm_title(part.method)} changed WER on {phrase} "
        f"{_and(clauses)}: {_tail(verdicts)}."
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
    rest = _rest(comparison, part, one["wer"])
    return Answer(mood, headline, sentence, rest, others, accents, certainty)


def _headline(
    part: Roles, references: list[str], verdicts: list[str], phrase: str, when: str
) -> tuple[str, str]:
    """Mood and headline: it helped only where it is better than every reference."""
    base, *others = (_reference_name(part, ref) for ref in references)
    against_base, *against = verdicts
    better = [name for name, found in zip(others, against) if found == "better"]
    worse = [name for name, found in zip(others, against) if found == "worse"]
    unclear = [name for name in others if name not in better and name not in worse]
    helped, hurt = "It helped", "It hurt"
    if not part.is_ours:  # a system of another recipe, or one arm of many: say which
        helped, hurt = (f"{arm_title(part.method)} {word}" for word in ("did better", "did worse"))
    if against_base == "better":
        if len(better) == len(others):
            than = listed([f"than {name}" for name in (base, *better)])
            return "better", f"{helped} on {phrase} {when}: better {than}"
        if worse:
            but = f"worse than {listed(worse)}"
        else:
            but = f"not shown to be better than {listed(unclear, 'or')}"
        return "unclear", f"Better than {listed([base, *better])} on {phrase}, but {but}"
    if against_base == "worse":
        return "worse", f"{hurt} on {phrase} {when}: worse than {base}"
    if worse:
        return "worse", f"No gain over {base} shown on {phrase}, and worse than {listed(worse)}"
    if better:
        return "unclear", (
            f"Better than {listed(better)} on {phrase}, but not shown to beat {base}"
        )
    return "unclear", f"No difference shown on {phrase}"


def _reference_name(part: Roles, reference: str) -> str:
    if reference == part.control and part.masks:
        return "random masks of the same size"
    return arm_name(reference)


def _clause(part: Roles, reference: str, group: Mapping, level: float, first: bool) -> str:
    against = _reference_name(part, reference)
    if reference in part.method.split("_"):
        against += " alone"
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
    first, *rest = verdicts
    if len(verdicts) > 1 and len(set(verdicts)) == 1:
        both = len(verdicts) == 2
        if first in ("unclear", "disputed"):
            what = "distinguishable from zero" if first == "unclear" else "settled (interval and test disagree)"
            return f"{'neither' if both else 'none'} is {what}"
        same = {"better": "improvements", "worse": "losses"}.get(first, words[first])
        return f"{'both' if both else 'all'} are {same}"
    if not rest:
        return words[first]
    if len(rest) > 1 and len(set(rest)) == 1:
        return f"the first is {words[first]}, the others {words[rest[0]]}"
    named = [f"the {place} {words[one]}" for place, one in zip(("second", "third"), rest)]
    return f"the first is {words[first]}, {', '.join(named)}"


def _other(part: Roles, scores: Mapping, phrase: str, level: float) -> str:
    clauses, verdicts = [], []
    for arm, reference in part.pairs():
        groups = difference(scores, arm, reference)
        if groups:
            clauses.append(_clause(part, reference, groups[OVERALL], level, first=False))
            verdicts.append(verdict(groups[OVERALL], level))
    return f"On {phrase}: {_and(clauses)}: {_tail(verdicts)}." if clauses else ""


def _and(clauses: list[str]) -> str:
    *before, last = clauses
    return f"{', '.join(before)}, and {last}" if before else last


def _rest(comparison: Mapping, part: Roles, scores: Mapping) -> str:
    """The arms that are neither asked about nor measured against, each against the baseline."""
    named = {part.method, part.baseline, part.control, part.other}
    arms = [arm["name"] for arm in comparison["arms"] if arm["name"] not in named]
    compared = [(arm, difference(scores, arm, part.baseline)) for arm in arms]
    compared = [(arm, groups[OVERALL]) for arm, groups in compared if groups]
    said = [
        f"{arm_name(arm)} {points(group['absolute'])} ({interval_text(group)})"
        for arm, group in compared[:MOST_OTHERS]
    ]
    if len(compared) > MOST_OTHERS:
        said.append(f"{len(compared) - MOST_OTHERS} more below")
    return f"The other arms against {arm_name(part.baseline)}: {listed(said)}." if said else ""


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
        if is_corrected(groups) and _too_few_speakers([groups[a] for a in accents], 1 - level):
            text += (
                f", and none could be: with {total} p-values to correct for, each has too few "
                "speakers"
            )
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


def _too_few_speakers(groups: list[Mapping], wanted: float) -> bool:
    """Whether no group's p-value can fall below `wanted` after Holm's correction: n speakers give
    2 / 2^n at best (see `significance.randomisation_p`)."""
    return all(len(groups) * 2.0 ** (1 - group["speakers"]) >= wanted for group in groups)


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
