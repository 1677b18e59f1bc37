"""The arms by training seed: how far one seed is from another, and whether all say the same."""

from __future__ import annotations

import statistics
from typing import Any, Mapping, Sequence

from espnet_saliency.scoring.charts import Interval, Row, interval_chart, number
from espnet_saliency.scoring.report_answer import OVERALL, difference, interval
from espnet_saliency.scoring.report_cells import Cell, Column, Link, Table, p_cell
from espnet_saliency.scoring.report_figures import (
    Figure,
    arm_series,
    legend,
    rates_caption,
)
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import set_caption
from espnet_saliency.scoring.report_words import arm_name, arm_title


def by_seed(inputs: ReportInputs) -> Section | None:
    """WER of every seed; None where the arms were trained once."""
    if not inputs.seeds:
        return None
    blocks = [
        Block(set_caption(inputs, name), _figure(inputs, name), [_table(inputs, name)], wide=True)
        for name in inputs.sets
        if all("seeds" in group for group in _overall(inputs, name).values())
    ]
    text = (
        f"Each arm was trained {len(inputs.seeds)} times. Rates elsewhere on this page are means "
        "over these trainings, and their intervals come from drawing speakers and seeds. The "
        "p-value over seeds is of a paired t-test: it asks whether other seeds would say the same."
    )
    return Section("seeds", "Seeds", "By training seed", [text], blocks) if blocks else None


def _overall(inputs: ReportInputs, name: str) -> dict[str, Mapping[str, Any]]:
    scores = inputs.comparison["sets"][name]["wer"]["arms"]
    return {arm: scores[arm]["groups"][OVERALL] for arm in inputs.arms}


def _figure(inputs: ReportInputs, name: str) -> Figure:
    groups, series = _overall(inputs, name), arm_series(inputs)
    shown = [groups[arm] for arm in inputs.charted]
    rows = [
        Row(f"Seed {seed}", [Interval(group["seeds"]["rates"][place]) for group in shown])
        for place, seed in enumerate(inputs.seeds)
    ]
    rows.append(Row("Mean", [interval(group, "rate") for group in shown], strong=True))
    says = "; ".join(
        f"{one.name} {number(group['rate'])}, standard deviation {number(group['seeds']['std'])}"
        for one, group in zip(series, shown)
    )
    svg = interval_chart(
        rows,
        series,
        name=f"figure-seeds-{name}",
        title=f"WER by training seed on {inputs.set_name(name)}",
        desc=f"WER in percent of each seed, and their mean with its interval. {says}.",
        axis="WER, %",
    )
    caption = f"By seed; the mean: {rates_caption(inputs, 'WER')}"
    return Figure(f"seeds-{name}", svg, caption, legend(series))


def _table(inputs: ReportInputs, name: str) -> Table:
    """Rows are seeds, columns arms, then the differences that answer the question."""
    one = inputs.comparison["sets"][name]["wer"]
    groups = _overall(inputs, name)
    compared = [
        (arm, reference, found[OVERALL]["seeds"])
        for arm, reference in roles(inputs.comparison).pairs()
        for found in [difference(one, arm, reference)]
        if found
    ]

    def row(label: str, rates: Sequence[float], points: Sequence[float], signed: bool = True):
        cells = [Cell(number(rate), rate) for rate in rates]
        return [Cell(label), *cells, *(Cell(number(p, 1, signed), p) for p in points)]

    caption = "WER in % by training seed"
    if compared:
        caption += f"; differences are {arm_name(compared[0][0])} minus another arm, in points"
    return Table(
        name=f"seeds-table-{name}",
        context=set_caption(inputs, name),
        caption=caption,
        columns=[
            Column("Seed", numeric=False),
            *(Column(arm_title(arm)) for arm in groups),
            *(
                Column(f"Difference to {arm_name(reference)}")
                for _, reference, _ in compared
            ),
        ],
        rows=[
            row(
                str(seed),
                [group["seeds"]["rates"][place] for group in groups.values()],
                [found["absolute"][place] for _, _, found in compared],
            )
            for place, seed in enumerate(inputs.seeds)
        ],
        footer=[
            row(
                "Mean",
                [group["rate"] for group in groups.values()],
                [statistics.fmean(found["absolute"]) for _, _, found in compared],
            ),
            row(
                "Standard deviation",
                [group["seeds"]["std"] for group in groups.values()],
                [found["std"] for _, _, found in compared],
                signed=False,
            ),
            [
                Cell("p, over seeds"),
                *[Cell("")] * len(groups),
                *(p_cell(found["p_value"]) for _, _, found in compared),
            ],
        ],
        sources=[Link("comparison.json", "comparison.json")],
    )
