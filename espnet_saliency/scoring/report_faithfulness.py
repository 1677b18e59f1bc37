"""How faithful the maps are to the classifier, and whether two classifiers show the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from espnet_saliency.scoring.charts import SHAPES, Curve, Interval, Series, line_chart, number
from espnet_saliency.scoring.report_cells import Cell, Column, Table, count_cell, range_text
from espnet_saliency.scoring.report_figures import Figure, legend
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block
from espnet_saliency.scoring.report_tables import source
from espnet_saliency.scoring.report_warnings import unseen_speakers

_NAMES = {
    "salient": "Most salient",
    "random": "At random",
    "least": "Least salient",
    "rolled": "Most salient, shifted in time",
    "salient_gain": "Gain of most salient over random",
}


def faithfulness(inputs: ReportInputs, folder: Path) -> list[Block]:
    """Curves and areas of faithfulness.json, agreement of stability.json; [] without either."""
    one = inputs.faithfulness
    blocks = []
    if one:
        blocks.append(_curves(
            inputs, folder, "faithfulness", "Deletion: lower is more faithful", "Hidden", one,
            one.get("untouched"),
        ))
        if "insertion" in one:
            blocks.append(_curves(
                inputs, folder, "insertion", "Insertion: higher is more faithful",
                "Heard, all else hidden", one["insertion"], one["insertion"]["nothing"],
            ))
        if "auc" in one:
            blocks.append(Block("Area under the curves", None, [_areas(inputs, folder)]))
    if inputs.stability:
        blocks.append(Block(
            "Do two classifiers show the same?", None, [_stability(inputs, folder)]))
    return blocks


def _curves(
    inputs: ReportInputs,
    folder: Path,
    name: str,
    heading: str,
    what: str,
    one: Mapping[str, Any],
    first: float | None,
) -> Block:
    """Accuracies over the shares, with `first` at a share of 0 where it is known."""
    heard = unseen_speakers(inputs.classifier)
    shares = [100 * share for share in inputs.faithfulness["shares"]]
    start = [] if first is None else [100 * first]
    curves = {curve: [*start, *(100 * y for y in ys)] for curve, ys in one["curves"].items()}
    xs = [0.0] * len(start) + shares
    drawn = [Curve(_name(c), i % SHAPES, ys) for i, (c, ys) in enumerate(curves.items())]
    says = "; ".join(f"{curve.name} {number(curve.ys[-1])} %" for curve in drawn)
    svg = line_chart(
        xs,
        drawn,
        name=f"figure-{name}",
        title=f"Accuracy of the classifier. {heading}",
        desc=f"At {number(xs[-1], 0)} %: {says}.",
        x_axis=f"{what}, % of the spectrogram",
        y_axis="Accuracy, %",
        level=("chance", 100 * heard[1]["chance"]) if heard else None,
    )
    by_first = "hidden" if name == "faithfulness" else "heard"
    figure = Figure(
        name, svg, f"Accuracy by what was {by_first} first",
        legend([Series(curve.name, curve.style) for curve in drawn]),
    )
    table = Table(
        name=f"{name}-table",
        caption=f"Accuracy on {inputs.faithfulness['set']} in %, by what was {by_first} first",
        columns=[Column(f"{what}, %"), *(Column(_name(curve)) for curve in curves)],
        rows=[
            [Cell(number(x, 0), x), *(
                Cell(number(ys[i]), ys[i], note=_ends(one, curve, i - len(start)))
                for curve, ys in curves.items()
            )]
            for i, x in enumerate(xs)
        ],
        sources=source(inputs, folder, "faithfulness"),
    )
    return Block(heading, figure, [table])


def _areas(inputs: ReportInputs, folder: Path) -> Table:
    """Rows are orders, columns deletion and insertion."""
    auc = inputs.faithfulness["auc"]
    orders = dict.fromkeys(order for areas in auc.values() for order in areas)

    def cell(direction: str, order: str) -> Cell:
        one = auc[direction].get(order)
        if one is None:
            return Cell("–")
        value, low, high = (100 * one[key] for key in ("value", "low", "high"))
        text = range_text(Interval(value, low, high))
        return Cell(number(value, 1, signed=order == "salient_gain"), value, note=text)

    return Table(
        name="auc-table",
        caption="Mean accuracy over the shares in %, with 95 % intervals; above zero a gain speaks "
        "for the maps",
        columns=[
            Column("Order", numeric=False),
            *(Column(name.capitalize()) for name in auc),
        ],
        rows=[[Cell(_name(o), o), *(cell(direction, o) for direction in auc)] for o in orders],
        sources=source(inputs, folder, "faithfulness"),
    )


def _stability(inputs: ReportInputs, folder: Path) -> Table:
    one = inputs.stability
    rows = [
        ("Rank correlation of the two maps", one["correlation"], one["random_weights_correlation"],
         "with a classifier of random weights", 2, 1.0),
        ("Overlap of the most salient fifths, %", one["overlap"], one["chance_overlap"],
         "of two random fifths", 1, 100.0),
        ("Same accent heard, %", one["agreement"], None, "", 1, 100.0),
    ]  # fmt: skip

    def scaled(value: float | None, digits: int, factor: float, note: str = "") -> Cell:
        value = None if value is None else factor * value
        return Cell(number(value, digits), value, note="" if value is None else note)

    return Table(
        name="stability-table",
        caption=f"Maps of two classifiers on {one['set']}",
        columns=[
            Column("Measure", numeric=False),
            *map(Column, ("These two", "To compare", "Utterances")),
        ],
        rows=[
            [
                Cell(label),
                scaled(value, digits, factor),
                scaled(other, digits, factor, note),
                count_cell(one["utterances"]),
            ]
            for label, value, other, note, digits, factor in rows
        ],
        sources=source(inputs, folder, "stability"),
    )


def _name(curve: str) -> str:
    return _NAMES.get(curve, curve)


def _ends(one: Mapping[str, Any], curve: str, place: int) -> str:
    """Interval of one point of a curve, where there is one; the first point may have none."""
    if place < 0 or "intervals" not in one:
        return ""
    low, high = one["intervals"][curve][place]
    return range_text(Interval(None, 100 * low, 100 * high))
