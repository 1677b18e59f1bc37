"""The figures of the report: which numbers each chart shows, and what it says to a listener."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.charts import (
    Interval,
    Row,
    Series,
    interval_chart,
    legend_mark,
    limits,
    number,
)
from espnet_saliency.scoring.report_answer import OVERALL, difference, interval
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_tables import accents_in_order
from espnet_saliency.scoring.report_words import (
    accent_name,
    arm_name,
    arm_title,
    capital,
    interval_text,
)


@dataclass(frozen=True)
class Figure:
    """SVG of ours, its caption, and (marker, name) of each series where there are several."""

    name: str
    svg: str
    caption: str
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI with its size in pixels."""

    uri: str
    width: int
    height: int
    caption: str


def arm_series(inputs: ReportInputs) -> list[Series]:
    """The charted arms with their styles; method, baseline and control have fixed ones."""
    part = roles(inputs.comparison)
    styles = {part.control: 2, part.baseline: 1, part.method: 0}
    free = iter([3, 4, 5, *(style for style in (2, 1, 0) if style not in styles.values())])
    found = []
    for arm in inputs.charted:
        style = styles[arm] if arm in styles else next(free)
        found.append(Series(arm_title(arm), style))
    return found


def answer_figures(inputs: ReportInputs) -> list[Figure]:
    """Differences by accent of the headline set: against the baseline, against random masks."""
    name = inputs.headline
    one = inputs.comparison["sets"][name]
    part = roles(inputs.comparison)
    compared = [(arm, ref, difference(one["wer"], arm, ref)) for arm, ref in part.pairs()]
    compared = [(arm, ref, groups) for arm, ref, groups in compared if groups]
    # One axis for both, so that the eye compares them rightly.
    span = limits([
        interval(group, "absolute") for _, _, groups in compared for group in groups.values()
    ])
    found = []
    for arm, reference, groups in compared:
        rows = [Row("Overall", [interval(groups[OVERALL], "absolute")], strong=True)]
        for accent in accents_in_order(inputs, name):
            rows.append(Row(accent_name(accent), [interval(groups[accent], "absolute")]))
        title = f"{arm_title(arm)} minus {arm_name(reference)}"
        desc = f"WER difference in points with intervals; below zero is better. {_overall(groups)}"
        svg = interval_chart(
            rows,
            [Series(arm_title(arm), 0)],
            name=f"figure-answer-{reference}",
            title=f"{title}, {inputs.set_name(name)}",
            desc=desc,
            axis="← better    WER difference, points    worse →",
            signed=True,
            span=span,
        )
        hidden = reference == part.control and part.masks
        against = "random masks" if hidden else arm_name(reference)
        found.append(Figure(f"answer-{reference}", svg, f"Against {against}"))
    return found


def rates_figure(inputs: ReportInputs, name: str, metric: str) -> Figure:
    """Rate of each accent and arm in one set, with intervals."""
    scores = inputs.comparison["sets"][name][metric]["arms"]
    series = arm_series(inputs)

    def row(group: str, label: str, strong: bool = False) -> Row:
        values = [interval(scores[arm]["groups"][group], "rate") for arm in inputs.charted]
        return Row(label, values, strong)

    rows = [row(OVERALL, "Overall", strong=True)]
    rows += [row(a, accent_name(a)) for a in accents_in_order(inputs, name)]
    says = "; ".join(
        f"{one.name} {number(value.value)}" for one, value in zip(series, rows[0].values)
    )
    unit = metric.upper()
    svg = interval_chart(
        rows,
        series,
        name=f"figure-{metric}-{name}",
        title=f"{unit} by accent on {inputs.set_name(name)}",
        desc=f"{unit} in percent of each arm with intervals. Overall: {says}. "
        "The table beside it has the numbers.",
        axis=f"{unit}, %",
    )
    return Figure(f"{metric}-{name}", svg, rates_caption(inputs, unit), legend(series))


def overall_figure(inputs: ReportInputs, metric: str) -> Figure:
    """Bars of the overall rate of each set and arm."""
    series = arm_series(inputs)
    sets = inputs.comparison["sets"]
    rows = [
        Row(
            capital(inputs.set_name(name)),
            [
                interval(sets[name][metric]["arms"][arm]["groups"][OVERALL], "rate")
                for arm in inputs.charted
            ],
        )
        for name in inputs.sets
    ]
    says = ". ".join(
        f"{row.label}: " + ", ".join(
            f"{one.name} {number(value.value)}" for one, value in zip(series, row.values)
        )
        for row in rows
    )
    unit = metric.upper()
    svg = interval_chart(
        rows,
        series,
        name=f"figure-{metric}-overall",
        title=f"{unit} by test set and arm",
        desc=f"{unit} in percent with intervals. {says}.",
        axis=f"{unit}, %",
        mark="bar",
    )
    return Figure(f"{metric}-overall", svg, rates_caption(inputs, unit), legend(series))


def cost_figure(inputs: ReportInputs) -> Figure:
    """Bars of the training time of each arm."""
    arms = [
        (series, Interval(_minutes(inputs.runs[arm]["train_seconds"])))
        for arm, series in zip(inputs.charted, arm_series(inputs))
        if arm in inputs.runs
    ]
    series = [one for one, _ in arms]
    says = ", ".join(f"{one.name} {number(value.value)}" for one, value in arms)
    svg = interval_chart(
        [Row("", [value for _, value in arms])],
        series,
        name="figure-cost",
        title="Training time of each arm",
        desc=f"In minutes: {says}.",
        axis="Training time, minutes",
        mark="bar",
    )
    return Figure("cost", svg, "Training time by arm", legend(series))


def picture(inputs: ReportInputs, one: Mapping[str, Any]) -> Picture:
    """Read a PNG into the page.

    Raises:
        UserError: the file is missing or is no PNG.
    """
    path = inputs.path(one["png"])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run stage 9 again") from error
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise UserError(f"{path}: not a PNG; run stage 9 again")
    width, height = struct.unpack(">II", content[16:24])
    uri = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
    return Picture(uri, width, height, one["caption"])


def rates_caption(inputs: ReportInputs, unit: str) -> str:
    text = f"{unit} with {100 * inputs.comparison['bootstrap']['level']:g} % intervals"
    return text + some_of(inputs)


def some_of(inputs: ReportInputs) -> str:
    """What a caption adds where a chart shows some of the arms only."""
    if len(inputs.charted) == len(inputs.arms):
        return ""
    return f"; {len(inputs.charted)} of {len(inputs.arms)} arms, all are in the table"


def legend(series: Sequence[Series]) -> list[tuple[str, str]]:
    return [(legend_mark(one.style), one.name) for one in series]


def _overall(groups: Mapping[str, Mapping[str, Any]]) -> str:
    one = groups[OVERALL]
    value = number(one["absolute"], 1, signed=True)
    return f"Overall: {value}, interval {interval_text(one)}."


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60
