"""What the report says of its own certainty."""

from __future__ import annotations

from typing import Any, Mapping

from espnet_saliency.scoring.charts import number
from espnet_saliency.scoring.report_words import NBSP, arm_name, count, p_text

FEW_SEEDS = 5  # below this an interval over seeds is rough


def how_certain(
    comparison: Mapping[str, Any],
    one: Mapping[str, Any],
    against: tuple[str, Mapping[str, Any]] | None,
    seed: str,
) -> str:
    """On how much data and how many trainings a set's figures rest, and what they cannot say.

    Args:
        one: the set, `comparison["sets"][SET]`.
        against: the reference arm and the overall difference of the method against it.
        seed: training seed or seeds.
    """
    seeds = comparison.get("seeds") or []
    of_seeds = f" (seed{'s' if len(seeds) > 1 else ''} {seed})" if seed else ""
    runs = f"{len(seeds)} training runs" if seeds else "one training run"
    drawn = f"{comparison['bootstrap']['draws']:,} bootstrap draws over speakers"
    said = (
        f"Measured on {count(one['speakers'], 'speaker')}, {count(one['utterances'], 'utterance')} "
        f"and {count(one['words'], 'word')}, with {runs} an arm{of_seeds}. "
    )
    if not seeds:
        return said + (
            f"Intervals come from {drawn}: they say what other speakers would have given, not what "
            "another training seed would have. On small corpora another seed alone moves a WER by "
            "a point or two."
        )
    said += f"Intervals come from {drawn} and seeds: they say what others of both would have given."
    if against:
        said += _by_seed(*against)
    if len(seeds) < FEW_SEEDS:
        said += f" From {len(seeds)} seeds an interval is rough, and tends to be too narrow."
    return said


def _by_seed(reference: str, group: Mapping) -> str:
    found = group.get("seeds")
    if not found:
        return ""
    lower = sum(value < 0 for value in found["absolute"])
    p_value = found["p_value"]
    test = "" if p_value is None else f", paired t-test over seeds p{NBSP}{_p_clause(p_value)}"
    return (
        f" Against {arm_name(reference)} WER fell in {lower} of {len(found['absolute'])} seeds "
        f"(standard deviation {_points_of(found['std'])}{test})."
    )


def _p_clause(p_value: float) -> str:
    return p_text(p_value) if p_value < 0.001 else f"={NBSP}{p_text(p_value)}"


def _points_of(value: float) -> str:
    text = number(value, 1)
    return f"{text}{NBSP}{'point' if text == '1.0' else 'points'}"
