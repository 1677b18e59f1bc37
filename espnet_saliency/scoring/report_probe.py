"""Masking as a probe: what hiding costs in words, by what was hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from espnet_saliency.scoring.charts import Curve, Interval, Series, line_chart, number
from espnet_saliency.scoring.probe import NAMES, ORDERS
from espnet_saliency.scoring.report_cells import (
    Cell,
    Column,
    Table,
    p_cell,
    range_text,
    rate_cell,
)
from espnet_saliency.scoring.report_figures import Figure, legend
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import source
from espnet_saliency.scoring.report_words import accent_name, arm_name, capital, count
from espnet_saliency.scoring.score_folder import OVERALL


def probe(inputs: ReportInputs, folder: Path) -> Section | None:
    """The answer of probe.json, WER by what was hidden, and what the order makes; None without."""
    one = inputs.probe
    if not one:
        return None
    heard = f"{arm_name(one['recogniser'])} on {inputs.set_name(one['set'])}"
    text = [
        one["answer"],
        *(f"Warning: {warning}" for warning in one["warnings"]),
        f"{capital(heard)}, {count(one['speakers'], 'speaker')}, decoded as it is and with a share "
        "of each utterance's features hidden.",
    ]
    blocks = [
        Block("WER by what was hidden", _figure(one), [_rates(inputs, folder, one)], wide=True),
        Block("Most salient minus random", None, [_differences(inputs, folder, one)]),
    ]
    return Section("probe", "Probe", "Do words need what gives the accent away?", text, blocks)


def _figure(one: Mapping[str, Any]) -> Figure:
    plain, *hidden = (
        (row["order"], row["share"], row["groups"][OVERALL]["rate"]) for row in one["rows"]
    )
    shares = sorted({share for _, share, _ in hidden})
    rate = {(order, share): wer for order, share, wer in hidden}
    curves = [
        Curve(capital(NAMES[order]), style, [plain[2], *(rate[order, share] for share in shares)])
        for style, order in enumerate(reversed(ORDERS))
    ]
    says = "; ".join(f"{curve.name} {number(curve.ys[-1])} %" for curve in curves)
    svg = line_chart(
        [0.0, *(100 * share for share in shares)],
        curves,
        name="figure-probe",
        title="WER by the share of the spectrogram that was hidden",
        desc=f"At {100 * shares[-1]:g} %: {says}.",
        x_axis="Hidden, % of the spectrogram",
        y_axis="WER, %",
    )
    shown = legend([Series(curve.name, curve.style) for curve in curves])
    return Figure("probe", svg, "WER over all accents, by what was hidden", shown)


def _rates(inputs: ReportInputs, folder: Path, one: Mapping[str, Any]) -> Table:
    groups = list(one["rows"][0]["groups"])
    rows = []
    for row in one["rows"]:
        more = row["groups"][OVERALL]
        change = Interval(more["more"], more["more_low"], more["more_high"])
        rows.append([
            Cell(capital(NAMES[row["order"]]), row["order"]),
            Cell(f"{100 * row['share']:g} %", row["share"]),
            Cell(number(change.value, 1, signed=True), change.value, note=range_text(change)),
            *(rate_cell(row["groups"][group]) for group in groups),
        ])  # fmt: skip
    return Table(
        name="probe-table",
        caption="WER in %, with intervals over speakers; more: points above nothing hidden",
        columns=[
            Column("Hidden", numeric=False), Column("Share"), Column("More"),
            *(Column(_group(group)) for group in groups),
        ],
        rows=rows,
        sources=source(inputs, folder, "probe"),
    )  # fmt: skip


def _differences(inputs: ReportInputs, folder: Path, one: Mapping[str, Any]) -> Table:
    heard, rows = one["rows"][0]["groups"], []
    for difference in one["salient_minus_random"]:
        for group, found in difference["groups"].items():
            change = Interval(found["absolute"], found["low"], found["high"])
            rows.append([
                Cell(f"{100 * difference['share']:g} %", difference["share"]),
                Cell(_group(group), group, note="few speakers" if heard[group]["small"] else ""),
                Cell(number(change.value, 1, signed=True), change.value, note=range_text(change)),
                p_cell(found["p_value"]),
                p_cell(found["p_holm"]),
            ])  # fmt: skip
    return Table(
        name="probe-differences",
        caption="Points of WER; above zero, hiding what gives the accent away costs more words. p "
        "corrected by Holm over the shares, and for accents over the accents",
        columns=[
            Column("Share"), Column("Accent", numeric=False),
            *map(Column, ("Difference", "p", "p, corrected")),
        ],
        rows=rows,
        sources=source(inputs, folder, "probe"),
    )  # fmt: skip


def _group(group: str) -> str:
    return "All" if group == OVERALL else capital(accent_name(group))
