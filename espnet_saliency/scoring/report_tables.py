"""The tables of the report, as plain values that the page and the Markdown file both print.

A table is made once from the numbers of comparison.json and rendered twice, so that index.html
and report.md cannot disagree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from espnet_saliency.scoring.charts import interval_mark, limits, number
from espnet_saliency.scoring.report_answer import (
    OVERALL,
    accents_of,
    difference,
    interval,
    is_corrected,
    verdict,
)
from espnet_saliency.scoring.report_cells import (
    Cell,
    Column,
    Link,
    Table,
    count_cell,
    duration,
    links,
    p_cell,
    rate_cell,
    relative_cell,
)
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_words import (
    accent_name,
    arm_name,
    arm_title,
    capital,
    interval_text,
)

MOST_ARMS = 4  # with more of them not every pair gets a table

_VERDICTS = {
    "better": "better",
    "worse": "worse",
    "unclear": "not distinguishable",
    "disputed": "interval and test disagree",
    "uncorrected": "not after correction",
    "unknown": "no interval",
}


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
        cells += [rate_cell(groups[group]) for groups in arms.values()]
        cells += [count_cell(first[group]["speakers"]), count_cell(first[group]["words"])]
        return cells

    unit = metric.upper()
    return Table(
        name=f"{metric}-{name}",
        context=set_caption(inputs, name),
        caption=f"{unit} in % by accent, with intervals",
        columns=[
            Column("Accent", numeric=False),
            *(Column(arm_title(arm)) for arm in inputs.arms),
            Column("Speakers"),
            Column("Words" if metric == "wer" else "Characters"),
        ],
        rows=[row(a, accent_name(a)) for a in accents_in_order(inputs, name)],
        footer=[row(OVERALL, "Overall")],
        sources=[
            link
            for arm in inputs.arms
            for link in _scores(inputs, folder, arm, name, metric, "by_accent.tsv")
        ],
    )


def pairs(inputs: ReportInputs) -> list[tuple[str, str]]:
    """(arm, reference) of all comparisons: those that answer the question first.

    Of many arms only those with the baseline and with the control: the rest is in comparison.json.
    """
    part = roles(inputs.comparison)
    found = part.pairs()
    few = len(inputs.arms) <= MOST_ARMS
    for scores in inputs.comparison["sets"].values():
        for stored in scores["wer"]["differences"]:
            pair = (stored["arm"], stored["reference"])
            if not few and part.baseline not in pair and part.control not in pair:
                continue
            if not few and pair[0] == part.control and pair[1] != part.baseline:
                pair = pair[::-1]
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
    if any(groups[OVERALL].get("p_mapsswe") is not None for _, _, groups in compared):
        tests["p, MAPSSWE"] = "p_mapsswe"
    of_seeds = any("seeds" in groups[OVERALL] for _, _, groups in compared)

    def row(group: Mapping[str, Any], label: str) -> list[Cell]:
        says = verdict(group, level)
        flag = "few speakers" if group.get("small") else ""
        drawn = interval_mark(interval(group, "absolute"), span)
        return [
            Cell(label, label),
            Cell(number(group["absolute"], 1, signed=True), group["absolute"]),
            Cell(interval_text(group), group.get("low"), drawing=drawn),
            relative_cell(group.get("relative")),
            *(p_cell(group.get(key)) for key in tests.values()),
            *[p_cell(group.get("seeds", {}).get("p_value"))] * of_seeds,
            Cell(_VERDICTS[says], says, note=flag, style=f"verdict {says}"),
            count_cell(group["speakers"]),
        ]

    return [
        Table(
            name=f"difference-{metric}-{name}-{arm}-{reference}",
            context=set_caption(inputs, name),
            caption=f"{arm_title(arm)} minus {arm_name(reference)}",
            columns=[
                Column("Accent", numeric=False),
                Column("Difference, points"),
                Column(f"{100 * level:g} % interval"),
                Column("Relative"),
                *map(Column, tests),
                *[Column("p, over seeds")] * of_seeds,
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
                Cell(arm_title(arm), arm),
                rate_cell(group),
                Cell(number(one.get("macro")), one.get("macro")),
                Cell(number(worst.get("rate")), worst.get("rate"), note=accent),
                Cell(number(one.get("gap")), one.get("gap")),
                *(count_cell(group[kind]) for kind in ("sub", "del", "ins", "words", "speakers")),
            ])
            sources += _scores(inputs, folder, arm, name, metric, "result.txt")
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
        row = [Cell(arm_title(arm), arm), Cell(duration(seconds), seconds)]
        row.append(relative_cell(against))
        if sized:
            row.append(count_cell(run.get("parameters")))
        rows.append(row)
        for label, path in _experiments(inputs, arm, run):
            sources += links(inputs, folder, {f"{label}: experiment": path})
    time = f"Training time, {len(inputs.seeds)} seeds" if inputs.seeds else "Training time"
    labels = [time, "Against the baseline"] + ["Parameters"] * sized
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
    return links(inputs, folder, {Path(path).name: Path(path)}) if path else []


def _scores(
    inputs: ReportInputs, folder: Path, arm: str, name: str, metric: str, file: str
) -> list[Link]:
    """Links to a file of an arm's scores on one set, one a seed."""
    paths = {
        f"{label}, {name}: {file}": decode / f"score_{metric}" / file
        for label, decode in inputs.decodes(arm, name)
    }
    return links(inputs, folder, paths)


def _experiments(
    inputs: ReportInputs, arm: str, run: Mapping[str, Any]
) -> list[tuple[str, Path]]:
    """(label, folder) of the trainings that a run's time is the sum of."""
    if inputs.seeds and "experiments" in run:
        folders = map(inputs.path, run["experiments"])
        return [(f"{arm}, seed {s}", f) for s, f in zip(inputs.seeds, folders, strict=True)]
    return [(arm, inputs.path(run["experiment"]))]
