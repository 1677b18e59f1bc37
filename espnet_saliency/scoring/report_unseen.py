"""Each accent left out of training in turn: what being unseen costs it, by arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from espnet_saliency.scoring.charts import (
    Interval,
    Row,
    interval_chart,
    interval_mark,
    limits,
    number,
)
from espnet_saliency.scoring.report_answer import OVERALL, interval
from espnet_saliency.scoring.report_cells import Cell, Column, Table, count_cell, p_cell
from espnet_saliency.scoring.report_figures import Figure, arm_series, legend, some_of
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import set_caption, source
from espnet_saliency.scoring.report_words import accent_name, arm_name, arm_title, interval_text


def left_out(inputs: ReportInputs, folder: Path) -> Section | None:
    """WER of every accent when unseen against seen; None where no accent was left out."""
    if not inputs.unseen:
        return None
    blocks = []
    for name, metrics in inputs.unseen["sets"].items():
        table = metrics["wer"]
        tables = [_table(inputs, folder, name, table, arm) for arm in table["arms"]]
        figure = _figure(inputs, name, table)
        blocks.append(Block(set_caption(inputs, name), figure, tables, wide=True))
    text = (
        "Every accent was left out of training in turn, so that each has been unseen once; both "
        "trainings are scored on the same utterances. Loss is unseen minus seen, in points of WER. "
        f"Seen: {inputs.unseen['seen_from']}. An accent's p-values are corrected for the number "
        "of accents (Holm)."
    )
    return Section("unseen", "Unseen accents", "Each accent unseen in turn", [text], blocks)


def _figure(inputs: ReportInputs, name: str, table: Mapping[str, Any]) -> Figure:
    styles = dict(zip(inputs.charted, arm_series(inputs)))
    arms = [arm for arm in table["arms"] if arm in styles]
    groups = [OVERALL, *table["accents"]]
    rows = [
        Row(
            "Overall" if group == OVERALL else accent_name(group),
            [interval(table["arms"][arm][group], "loss") for arm in arms],
            strong=group == OVERALL,
        )
        for group in groups
    ]
    series = [styles[arm] for arm in arms]
    says = "; ".join(f"{s.name} {number(v.value, 1, True)}" for s, v in zip(series, rows[0].values))
    svg = interval_chart(
        rows,
        series,
        name=f"figure-unseen-{name}",
        title="What being unseen costs each accent",
        desc=f"Points of WER, unseen minus seen, with intervals. Overall: {says}.",
        axis="Unseen minus seen, points of WER",
        signed=True,
    )
    level = table["bootstrap"]["level"]
    caption = f"Loss when unseen with {100 * level:g} % intervals{some_of(inputs)}"
    return Figure(f"unseen-{name}", svg, caption, legend(series))


def _table(
    inputs: ReportInputs, folder: Path, name: str, table: Mapping[str, Any], arm: str
) -> Table:
    groups = table["arms"][arm]
    level = f"{100 * table['bootstrap']['level']:g} % interval"
    compared = arm != table["baseline"]
    span = limits([interval(group, "loss") for group in groups.values()])

    def row(group: str) -> list[Cell]:
        one = groups[group]
        label = "Overall" if group == OVERALL else accent_name(group)
        drawn = interval_mark(interval(one, "loss"), span)
        cells = [
            Cell(label, label, note="few speakers" if one["small"] else ""),
            Cell(number(one["seen"]), one["seen"]),
            Cell(number(one["unseen"]), one["unseen"]),
            Cell(number(one["loss"], 1, signed=True), one["loss"]),
            Cell(interval_text(one), one["low"], drawing=drawn),
            p_cell(one.get("p_holm", one["p_value"])),
        ]
        if compared:
            change = Interval(one["change"], one["change_low"], one["change_high"])
            ends = {"low": change.low, "high": change.high}
            note = "" if change.low is None else interval_text(ends)
            cells.append(Cell(number(change.value, 1, signed=True), change.value, note=note))
            cells.append(p_cell(one.get("change_p_holm", one["change_p"])))
        return cells + [count_cell(one["speakers"]), count_cell(one["words"])]

    against = f"Unseen, against {arm_name(table['baseline'])}"
    return Table(
        name=f"unseen-{name}-{arm}",
        context=set_caption(inputs, name),
        caption=f"{arm_title(arm)}: WER in % seen and unseen",
        columns=[
            Column("Accent", numeric=False),
            *map(Column, ("Seen", "Unseen", "Loss, points", level, "p")),
            *[Column(against), Column("p, against it")][: 2 * compared],
            *map(Column, ("Speakers", "Words")),
        ],
        rows=[row(accent) for accent in table["accents"]],
        footer=[row(OVERALL)],
        sources=source(inputs, folder, "unseen"),
    )
