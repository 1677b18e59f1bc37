"""Noise, rooms and babble: error rates by condition and accent."""

from __future__ import annotations

from espnet_saliency.scoring.charts import Interval, interval_mark, limits, number
from espnet_saliency.scoring.conditions import (
    CLEAN,
    ConditionRow,
    condition_chart,
    condition_rows,
    has_conditions,
)
from espnet_saliency.scoring.report_answer import OVERALL
from espnet_saliency.scoring.report_cells import (
    Cell,
    Column,
    Link,
    Table,
    count_cell,
    p_cell,
    rate_cell,
)
from espnet_saliency.scoring.report_figures import Figure, arm_series, legend, rates_caption
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import accents_in_order, set_caption
from espnet_saliency.scoring.report_words import accent_name, arm_title, capital, interval_text


def by_condition(inputs: ReportInputs) -> Section | None:
    """WER of every test set under every condition; None where all are as recorded."""
    if not has_conditions(inputs.comparison):
        return None
    rows = condition_rows(inputs.comparison)
    blocks = []
    for name in inputs.sets:
        mine = [row for row in rows if row.of == name]
        if any(row.condition != CLEAN for row in mine):
            heading, accents = set_caption(inputs, name), accents_in_order(inputs, name)
            table = _table(inputs, name, mine, accents)
            blocks.append(Block(heading, _figure(inputs, name, OVERALL, 0), [table], wide=True))
            charts = [_figure(inputs, name, a, n) for n, a in enumerate(accents, start=1)]
            if charts:
                by_accent = f"{heading}: each accent by condition"
                blocks.append(Block(by_accent, None, (), figures=charts, folded=True))
    text = (
        "The test sets with noise, competing speakers or a room added; a number is the "
        "signal-to-noise ratio in dB, measured on speech. More is what the condition costs, in "
        "points above the same arm on the recordings as they are; change is against the baseline "
        "under the same condition, and below zero is better."
    )
    return Section("conditions", "Noise and rooms", "Noise and rooms", [text], blocks)


def _figure(inputs: ReportInputs, name: str, group: str, place: int) -> Figure:
    series = arm_series(inputs)
    svg = condition_chart(_charted(inputs), name, group, series=series)
    whom = "all accents" if group == OVERALL else accent_name(group)
    caption = f"{capital(whom)}: {rates_caption(inputs, 'WER')}"
    return Figure(f"conditions-{name}-{place}", svg, caption, legend(series))


def _charted(inputs: ReportInputs) -> dict:
    """The comparison with the charted arms only."""
    sets = {}
    for name, one in inputs.comparison["sets"].items():
        arms = {arm: one["wer"]["arms"][arm] for arm in inputs.charted}
        sets[name] = {**one, "wer": {**one["wer"], "arms": arms}}
    return {**inputs.comparison, "sets": sets}


def _table(
    inputs: ReportInputs, name: str, rows: list[ConditionRow], accents: list[str]
) -> Table:
    found = {(row.condition, row.arm, row.group): row for row in rows}
    overall = [row for row in rows if row.group == OVERALL]
    span = limits([Interval(r.change, r.change_low, r.change_high) for r in overall])
    level = inputs.comparison["bootstrap"]["level"]

    def line(place: int, one: ConditionRow) -> list[Cell]:
        ends = {"low": one.change_low, "high": one.change_high}
        drawn = interval_mark(Interval(one.change, one.change_low, one.change_high), span)
        of_accents = [found[one.condition, one.arm, accent] for accent in accents]
        return [
            Cell(one.condition, f"{place:03d}"),  # as compared, not as words
            Cell(arm_title(one.arm), one.arm),
            rate_cell(vars(one)),
            Cell(number(one.increase, 1, signed=True), one.increase),
            Cell(number(one.change, 1, signed=True), one.change),
            Cell(interval_text(ends), one.change_low, drawing=drawn),
            p_cell(one.p_value),
            *(Cell(number(other.rate), other.rate) for other in of_accents),
            count_cell(one.speakers),
        ]

    return Table(
        name=f"conditions-table-{name}",
        context=set_caption(inputs, name),
        caption="WER in % by condition, overall and by accent",
        columns=[
            Column("Condition", numeric=False),
            Column("Arm", numeric=False),
            *map(Column, ("WER", "More, points", "Change, points", f"{100 * level:g} % interval")),
            Column("p"),
            *(Column(accent_name(accent)) for accent in accents),
            Column("Speakers"),
        ],
        rows=[line(place, one) for place, one in enumerate(overall)],
        sources=[Link("comparison.json", "comparison.json")],
    )
