"""The sweep of an augmentation's settings: one table and one plot of all its arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.scoring.charts import Interval, interval_mark, limits, number
from espnet_saliency.scoring.report_cells import Cell, Column, Table, p_cell, range_text
from espnet_saliency.scoring.report_figures import picture
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import set_caption, source
from espnet_saliency.scoring.report_words import accent_name, arm_name, arm_title, interval_text


def sweep(inputs: ReportInputs, folder: Path) -> Section | None:
    """WER of every variant; None without a sweep."""
    if not inputs.sweep:
        return None
    blocks = [
        Block(set_caption(inputs, name), None, [_table(inputs, folder, name, inputs.sweep[name])])
        for name in inputs.sets
        if name in inputs.sweep
    ]
    plot = Path(inputs.sources.get("sweep", "sweep.json")).with_suffix(".png")
    if inputs.path(plot).exists():
        caption = "WER over the first setting of the sweep"
        shown = picture(inputs, {"png": plot, "caption": caption})
        blocks.append(Block("Plot", None, (), pictures=[shown]))
    text = (
        "Of many arms the best looks better than it is: what is chosen here has to be confirmed "
        "on other accents and seeds."
    )
    return Section("sweep", "Sweep", "Sweep of settings", [text], blocks)


def _table(
    inputs: ReportInputs, folder: Path, name: str, rows: Sequence[Mapping[str, Any]]
) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
    accents = list(rows[0]["accents"])
    changes = [Interval(row["change"], row["change_low"], row["change_high"]) for row in rows]
    span = limits(changes)

    def line(row: Mapping[str, Any], change: Interval) -> list[Cell]:
        ends = {"low": change.low, "high": change.high}
        return [
            Cell(arm_title(row["base"]), row["base"]),
            *(Cell(str(row["values"].get(key, ""))) for key in keys),
            Cell(
                number(row["rate"]), row["rate"],
                note=range_text(Interval(row["rate"], row["low"], row["high"])),
            ),
            Cell(number(change.value, 1, signed=True), change.value),
            Cell(interval_text(ends), change.low, drawing=interval_mark(change, span)),
            p_cell(row["p_value"]),
            Cell(number(row["macro"]), row["macro"]),
            *(Cell(number(row["accents"][a]), row["accents"][a]) for a in accents),
        ]  # fmt: skip

    level = f"{100 * inputs.comparison['bootstrap']['level']:g} % interval"
    return Table(
        name=f"sweep-{name}",
        context=set_caption(inputs, name),
        caption=f"WER in %; change in points against {arm_name(inputs.comparison['baseline'])}",
        columns=[
            Column("Arm", numeric=False),
            *(Column(key, numeric=False) for key in keys),
            *map(Column, ("WER", "Change, points", level, "p", "Macro")),
            *(Column(accent_name(accent)) for accent in accents),
        ],
        rows=[line(row, change) for row, change in zip(rows, changes)],
        sources=source(inputs, folder, "sweep"),
    )
