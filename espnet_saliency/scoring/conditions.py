"""Error rates by condition (noise, room, babble) and accent: rows, Markdown table, plot and chart.

All numbers are those of comparison.json, whose sets carry `condition` and `of` (the test set that
was mixed) where test sets were decoded under several conditions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.files import atomic_file
from espnet_saliency.scoring.charts import SHAPES, Interval, Row, Series, interval_chart
from espnet_saliency.scoring.score_folder import OVERALL
from espnet_saliency.scoring.significance import FEW_SPEAKERS

CLEAN = "clean"

_COLUMNS = 4  # panels of the plot side by side


@dataclass(frozen=True)
class ConditionRow:
    """One arm on one accent under one condition."""

    of: str
    """The test set, e.g. test."""
    set: str
    """Its name under the condition, e.g. test_noise_10: the key in comparison.json."""
    condition: str
    """clean, noise_10, babble_0, reverb."""
    arm: str
    group: str
    """"overall" or an accent; "" is an unknown one."""
    speakers: int
    words: int
    rate: float | None
    """In percent; None without a reference word."""
    low: float | None
    high: float | None
    """Ends of its interval; None for a single speaker."""
    increase: float | None
    """Points above the same arm and group under the clean condition."""
    change: float | None
    """Points above the baseline arm under the same condition; None for the baseline itself."""
    change_low: float | None
    change_high: float | None
    p_value: float | None
    small: bool
    """Fewer than 5 speakers."""


def label_conditions(
    comparison: Mapping[str, Any], labels: Mapping[str, tuple[str, str]]
) -> None:
    """Note in each set of `comparison` what it is.

    Args:
        comparison: as `compare` returned it; changed.
        labels: set -> (test set that it is made of, condition).
    """
    for name, (of, condition) in labels.items():
        comparison["sets"][name] |= {"of": of, "condition": condition}


def has_conditions(comparison: Mapping[str, Any]) -> bool:
    """Whether any set is a test set under another condition than clean."""
    return any(one.get("condition", CLEAN) != CLEAN for one in comparison["sets"].values())


def condition_rows(comparison: Mapping[str, Any], metric: str = "wer") -> list[ConditionRow]:
    """Every test set, condition, arm and group, in this order; of each the first as compared first.

    Args:
        comparison: of `label_conditions`; a set without labels is taken for a clean one.
        metric: "wer" or "cer".
    """
    baseline = comparison["baseline"]
    sets = comparison["sets"]
    clean = {one.get("of", name): one[metric]["arms"] for name, one in sets.items()
             if one.get("condition", CLEAN) == CLEAN}  # fmt: skip
    rows = []
    for name, one in sets.items():
        of = one.get("of", name)
        against = {pair["arm"]: pair["groups"] for pair in one[metric]["differences"]
                   if pair["reference"] == baseline}  # fmt: skip
        for arm, scores in one[metric]["arms"].items():
            for group, found in scores["groups"].items():
                change = against.get(arm, {}).get(group, {})
                rows.append(
                    ConditionRow(
                        of=of,
                        set=name,
                        condition=one.get("condition", CLEAN),
                        arm=arm,
                        group=group,
                        speakers=found["speakers"],
                        words=found["words"],
                        rate=found["rate"],
                        low=found["low"],
                        high=found["high"],
                        increase=_minus(found["rate"], clean[of][arm]["groups"][group]["rate"]),
                        change=change.get("absolute"),
                        change_low=change.get("low"),
                        change_high=change.get("high"),
                        p_value=change.get("p_value"),
                        small=found["small"],
                    )
                )
    return rows


def write_conditions(folder: Path, comparison: Mapping[str, Any]) -> Path:
    """Write conditions.md and conditions.png into `folder`; returns the table's path."""
    rows = condition_rows(comparison)
    with atomic_file(folder / "conditions.md") as handle:
        handle.write(
            f"# Conditions, {comparison['corpus']}\n\n{condition_markdown(comparison)}\n"
            "![WER by condition and accent](conditions.png)\n"
        )
    _plot(rows, folder / "conditions.png")
    return folder / "conditions.md"


def condition_markdown(comparison: Mapping[str, Any], metric: str = "wer") -> str:
    """One table a test set: condition and arm down, overall and accents across."""
    rows, level = condition_rows(comparison, metric), comparison["bootstrap"]["level"]
    lines = [
        f"{metric.upper()} in %, overall with its {100 * level:g} % interval over speakers; more: "
        "points above the same arm on clean speech; change: points against "
        f"{comparison['baseline']} under the same condition. Accents marked * have fewer than "
        f"{FEW_SPEAKERS} speakers. Numbers from comparison.json.",
    ]
    for of in _unique(row.of for row in rows):
        mine = {(row.condition, row.arm, row.group): row for row in rows if row.of == of}
        conditions, arms, groups = (_unique(key[n] for key in mine) for n in range(3))
        accents = [group for group in groups if group != OVERALL]
        marks = {a: "*" if mine[conditions[0], arms[0], a].small else "" for a in accents}
        head = ["condition", "arm", "overall", "more", "change", "p"]
        head += [_cell(accent or "unknown") + marks[accent] for accent in accents]
        lines += ["", f"## {of}", "", f"|{'|'.join(head)}|", "|---" * len(head) + "|"]
        for condition in conditions:
            for arm in arms:
                row = mine[condition, arm, OVERALL]
                cells = [condition, _cell(arm), _with_interval(row.rate, row.low, row.high, "")]
                cells += [_number(row.increase, "+") if condition != CLEAN else "-"]
                cells += [_with_interval(row.change, row.change_low, row.change_high, "+")]
                cells += ["-" if row.p_value is None else f"{row.p_value:.3f}"]
                cells += [_number(mine[condition, arm, accent].rate) for accent in accents]
                lines.append(f"|{'|'.join(cells)}|")
    return "\n".join(lines) + "\n"


def condition_chart(
    comparison: Mapping[str, Any],
    of: str,
    group: str = OVERALL,
    metric: str = "wer",
    series: Sequence[Series] | None = None,
) -> str:
    """An SVG for the page (see charts.py): conditions of test set `of` down, one mark an arm.

    Args:
        of: test set.
        group: "overall" or an accent.
        series: name and style of each arm, in their order; by default the arms' own names.
    """
    rows = [row for row in condition_rows(comparison, metric) if (row.of, row.group) == (of, group)]
    arms = _unique(row.arm for row in rows)
    by_condition = {
        condition: [Interval(r.rate, r.low, r.high) for r in rows if r.condition == condition]
        for condition in _unique(row.condition for row in rows)
    }
    of_whom = "all accents" if group == OVERALL else group or "unknown accent"
    return interval_chart(
        [Row(name, values, strong=name == CLEAN) for name, values in by_condition.items()],
        series or [Series(arm, number % SHAPES) for number, arm in enumerate(arms)],
        name=f"conditions-{of}-{group}".replace(" ", "-"),
        title=f"{metric.upper()} of {of} by condition, {of_whom}",
        desc="; ".join(f"{row.condition}, {row.arm}: {_number(row.rate)} %" for row in rows),
        axis=f"{metric.upper()}, %",
    )


def _plot(rows: Sequence[ConditionRow], path: Path) -> None:
    """One panel for each test set and group: WER over the conditions, one line an arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = _unique(row.of for row in rows)
    groups = {of: _unique(row.group for row in rows if row.of == of) for of in sets}
    # Each test set begins a new line of panels.
    places = [(of, group, n) for of in sets for n, group in enumerate(groups[of])]
    columns = min(_COLUMNS, max(map(len, groups.values())))
    heights = [math.ceil(len(groups[of]) / columns) for of in sets]
    figure = Figure((3.6 * columns, 3.0 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(sum(heights), columns, squeeze=False, sharey=True)
    for axes in panels.flat:
        axes.set_axis_off()
    for of, group, number in places:
        above = sum(heights[: sets.index(of)])
        axes = panels[above + number // columns][number % columns]
        axes.set_axis_on()
        mine = [row for row in rows if (row.of, row.group) == (of, group)]
        conditions = _unique(row.condition for row in mine)
        for arm in _unique(row.arm for row in mine):
            points = [row for row in mine if row.arm == arm and row.rate is not None]
            ends = [(_length(p.rate, p.low), _length(p.high, p.rate)) for p in points]
            axes.errorbar(
                [conditions.index(point.condition) for point in points],
                [point.rate for point in points],
                yerr=list(zip(*ends)) or None,
                marker="o",
                capsize=3,
                label=arm,
            )
        axes.set_xticks(range(len(conditions)), conditions, rotation=45, ha="right", fontsize=8)
        axes.set_title(f"{of}: {group or 'unknown accent'}", fontsize=9, parse_math=False)
        if not number % columns:
            axes.set_ylabel("WER, %")
    panels[0][0].legend(fontsize=7)
    # Once all is drawn: a limit that is set stops the axis, which all panels share, from growing.
    panels[0][0].set_ylim(bottom=0)
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=120)


def _length(upper: float | None, lower: float | None) -> float:
    return max(0.0, _minus(upper, lower) or 0.0)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _unique(items) -> list[str]:
    return list(dict.fromkeys(items))


def _cell(text: str) -> str:
    """Corpus text in a Markdown table: no column of its own, no markup."""
    return text.replace("|", "/").replace("<", "&lt;")


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


def _with_interval(value: float | None, low: float | None, high: float | None, sign: str) -> str:
    if value is None or low is None or high is None:
        return _number(value, sign)
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"
