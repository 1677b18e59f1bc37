"""The tables of the report, as plain values that the page and the Markdown file both print.

A table is made once from the numbers of comparison.json and rendered twice, so that index.html
and report.md cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.scoring.charts import Interval, interval_mark, limits, number
from espnet_saliency.scoring.report_answer import (
    NBSP,
    OVERALL,
    accent_name,
    accents_of,
    arm_name,
    capital,
    difference,
    interval,
    interval_text,
    is_corrected,
    p_text,
    roles,
    verdict,
)
from espnet_saliency.scoring.report_inputs import ReportInputs

_VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "not distinguishable",
    "disputed": "interval and test disagree",
    "uncorrected": "not after correction",
    "unknown": "no interval",
}


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the value that it sorts by, a smaller note beside the text.

    `drawing` is SVG of ours and `style` a class of the style sheet: both in the page alone.
    """

    text: str
    value: float | str | None = None
    note: str = ""
    drawing: str = ""
    style: str = ""


@dataclass(frozen=True)
class Column:
    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Link:
    text: str
    href: str


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first cell of a row is its heading; `footer` rows stay below when sorted.

    `context` comes before the caption where no heading above the table says it.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    footer: Sequence[Sequence[Cell]] = ()
    sources: Sequence[Link] = ()
    context: str = ""


def accents_in_order(inputs: ReportInputs, name: str) -> list[str]:
    """Accents of a set from the hardest to the easiest for the baseline: one order everywhere."""
    one = inputs.comparison["sets"][name]
    groups = one["wer"]["arms"][inputs.comparison["baseline"]]["groups"]
    return sorted(accents_of(one), key=lambda accent: (-(groups[accent]["rate"] or 0.0), accent))


def set_caption(inputs: ReportInputs, name: str) -> str:
    """"Unseen accents (test_unseen)"; the name alone where the set has no other."""
    phrase = inputs.set_name(name)
    return name if phrase == name else f"{capital(phrase)} ({name})"


def rates_by_accent(inputs: ReportInputs, folder: Path, name: str, metric: str) -> Table:
    """Rate of each accent and arm with its interval."""
    one = inputs.comparison["sets"][name]
    arms = {arm: one[metric]["arms"][arm]["groups"] for arm in inputs.arms}
    first = arms[inputs.arms[0]]

    def row(group: str, label: str) -> list[Cell]:
        cells = [Cell(label, label)]
        cells += [_rate(groups[group]) for groups in arms.values()]
        cells += [count_cell(first[group]["speakers"]), count_cell(first[group]["words"])]
        return cells

    unit = metric.upper()
    return Table(
        name=f"{metric}-{name}",
        context=set_caption(inputs, name),
        caption=f"{unit} in % by accent, with intervals",
        columns=[
            Column("Accent", numeric=False),
            *(Column(capital(arm_name(arm))) for arm in inputs.arms),
            Column("Speakers"),
            Column("Words" if metric == "wer" else "Characters"),
        ],
        rows=[row(a, accent_name(a)) for a in accents_in_order(inputs, name)],
        footer=[row(OVERALL, "Overall")],
        sources=[
            link
            for arm in inputs.arms
            for link in _links(
                inputs, folder, {f"{arm}: by_accent.tsv": _score(inputs, arm, name, metric)}
            )
        ],
    )


def pairs(inputs: ReportInputs) -> list[tuple[str, str]]:
    """(arm, reference) of all comparisons: those that answer the question first."""
    found = roles(inputs.comparison).pairs()
    for scores in inputs.comparison["sets"].values():
        for stored in scores["wer"]["differences"]:
            pair = (stored["arm"], stored["reference"])
            if pair not in found and pair[::-1] not in found:
                found.append(pair)
    return found


def differences(inputs: ReportInputs, name: str, metric: str) -> list[Table]:
    """One table for each pair of arms: the difference by accent, its interval and p-value."""
    one = inputs.comparison["sets"][name]
    level = inputs.comparison["bootstrap"]["level"]
    compared = [(a, r, difference(one[metric], a, r)) for a, r in pairs(inputs)]
    compared = [(arm, reference, groups) for arm, reference, groups in compared if groups]
    # One scale for all pairs of a set, so that the drawn intervals can be compared by eye.
    span = limits([
        interval(group, "absolute") for _, _, groups in compared for group in groups.values()
    ])

    tests = {"p": "p_value"}
    if any(is_corrected(groups) for _, _, groups in compared):
        tests["p, corrected"] = "p_holm"
    if any("p_mapsswe" in groups[OVERALL] for _, _, groups in compared):
        tests["p, MAPSSWE"] = "p_mapsswe"

    def row(group: Mapping[str, Any], label: str) -> list[Cell]:
        says = verdict(group, level)
        flag = "few speakers" if group.get("small") else ""
        drawn = interval_mark(interval(group, "absolute"), span)
        return [
            Cell(label, label),
            Cell(number(group["absolute"], 1, signed=True), group["absolute"]),
            Cell(interval_text(group), group.get("low"), drawing=drawn),
            _relative(group.get("relative")),
            *(Cell(p_text(group.get(key)), group.get(key)) for key in tests.values()),
            Cell(_VERDICTS[says], says, note=flag, style=f"verdict {says}"),
            count_cell(group["speakers"]),
        ]

    return [
        Table(
            name=f"difference-{metric}-{name}-{arm}-{reference}",
            context=set_caption(inputs, name),
            caption=f"{capital(arm_name(arm))} minus {arm_name(reference)}",
            columns=[
                Column("Accent", numeric=False),
                Column("Difference, points"),
                Column(f"{100 * level:g} % interval"),
                Column("Relative"),
                *map(Column, tests),
                Column("Reading", numeric=False),
                Column("Speakers"),
            ],
            rows=[row(groups[a], accent_name(a)) for a in accents_in_order(inputs, name)],
            footer=[row(groups[OVERALL], "Overall")],
            sources=[Link("comparison.json", "comparison.json")],
        )
        for arm, reference, groups in compared
    ]


def overall(inputs: ReportInputs, folder: Path, metric: str) -> Table:
    """One row for each set and arm: overall, macro, worst accent, gap, kinds of error."""
    rows, sources = [], []
    for name in inputs.sets:
        scores = inputs.comparison["sets"][name][metric]["arms"]
        for arm in inputs.arms:
            one, group = scores[arm], scores[arm]["groups"][OVERALL]
            worst = one.get("worst") or {}
            accent = accent_name(worst["accent"]) if worst else ""
            rows.append([
                Cell(name, name),
                Cell(capital(arm_name(arm)), arm),
                _rate(group),
                Cell(number(one.get("macro")), one.get("macro")),
                Cell(number(worst.get("rate")), worst.get("rate"), note=accent),
                Cell(number(one.get("gap")), one.get("gap")),
                *(count_cell(group[kind]) for kind in ("sub", "del", "ins", "words", "speakers")),
            ])
            score = _score(inputs, arm, name, metric).with_name("result.txt")
            sources += _links(inputs, folder, {f"{arm}, {name}: result.txt": score})
    unit = metric.upper()
    return Table(
        name=f"{metric}-overall",
        caption=f"{unit} in % by test set; macro is the mean over accents, gap worst minus best",
        columns=[
            Column("Set", numeric=False),
            Column("Arm", numeric=False),
            *map(Column, (unit, "Macro", "Worst accent", "Gap", "Sub", "Del", "Ins")),
            Column("Words" if metric == "wer" else "Characters"),
            Column("Speakers"),
        ],
        rows=rows,
        sources=sources,
    )


def cost(inputs: ReportInputs, folder: Path) -> Table:
    """Training time of each arm, by itself and against the baseline's."""
    base = inputs.runs.get(inputs.comparison["baseline"], {}).get("train_seconds")
    sized = any("parameters" in run for run in inputs.runs.values())
    rows, sources = [], []
    for arm, run in inputs.runs.items():
        seconds = run["train_seconds"]
        against = 100 * (seconds / base - 1) if base and seconds is not None else None
        row = [Cell(capital(arm_name(arm)), arm), Cell(duration(seconds), seconds)]
        row.append(_relative(against))
        if sized:
            row.append(count_cell(run.get("parameters")))
        rows.append(row)
        sources += _links(inputs, folder, {f"{arm}: experiment": inputs.path(run["experiment"])})
    labels = ["Training time", "Against the baseline"] + ["Parameters"] * sized
    return Table(
        name="cost-table",
        caption="Cost of training",
        columns=[Column("Arm", numeric=False), *map(Column, labels)],
        rows=rows,
        sources=sources,
    )


def data(inputs: ReportInputs) -> Table:
    """Counts of each data set."""
    labels = ("Utterances", "Speakers", "Words", "Hours")
    return Table(
        name="data-table",
        caption="Data behind this page",
        columns=[Column("Set", numeric=False), *map(Column, labels)],
        rows=[
            [
                Cell(name, name),
                *(count_cell(one[key]) for key in ("utterances", "speakers", "words")),
                Cell(number(one["hours"], 2), one["hours"]),
            ]
            for name, one in inputs.data.items()
        ],
    )


def source(inputs: ReportInputs, folder: Path, key: str) -> list[Link]:
    """Link to the file of `inputs.sources[key]`, where there is one."""
    path = inputs.sources.get(key)
    return _links(inputs, folder, {Path(path).name: Path(path)}) if path else []


def duration(seconds: float | None) -> str:
    """42 s, 3 min 05 s, or 2 h 07 min."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _score(inputs: ReportInputs, arm: str, name: str, metric: str) -> Path:
    return inputs.decode(arm, name) / f"score_{metric}" / "by_accent.tsv"


def _links(inputs: ReportInputs, folder: Path, paths: Mapping[str, Path]) -> list[Link]:
    hrefs = {text: inputs.href(folder, path) for text, path in paths.items()}
    return [Link(text, href) for text, href in hrefs.items() if href]


def _rate(group: Mapping[str, Any]) -> Cell:
    return Cell(number(group["rate"]), group["rate"], note=range_text(interval(group, "rate")))


def range_text(value: Interval) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"{number(value.low)}{NBSP}to{NBSP}{number(value.high)}"


def _relative(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{number(value, 1, signed=True)} %", value)


def count_cell(value: int | None) -> Cell:
    return Cell("–" if value is None else f"{value:,}", value)
