"""Rates by what else is known of the utterances: length, any column of the data, speaker."""

from __future__ import annotations

from typing import Any, Mapping

from espnet_saliency.scoring.report_cells import (
    Cell,
    Column,
    Link,
    Table,
    count_cell,
    rate_cell,
    relative_cell,
)
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_tables import set_caption
from espnet_saliency.scoring.report_words import accent_name, arm_title, capital, count

MOST_ROWS = 100  # speakers shown of each set; all are in comparison.json
_SPEAKER, _LENGTH = "speaker", "length"


def by_column(inputs: ReportInputs) -> Section | None:
    """WER by every column that the comparison has rates of; None where it has none."""
    blocks: list[Block] = []
    seen: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for name in inputs.sets:
        found = inputs.comparison["sets"][name]["wer"].get("by")
        if not found:
            continue
        left_out |= dict.fromkeys(found["left_out"])
        seen |= dict.fromkeys(found["columns"])
        tables = {
            column: _table(inputs, name, number, column, values)
            for number, (column, values) in enumerate(found["columns"].items())
        }
        speakers = tables.pop(_SPEAKER, None)
        blocks.append(
            Block(set_caption(inputs, name), None, list(tables.values()), folded=bool(blocks))
        )
        if speakers:
            heading = f"{set_caption(inputs, name)} by speaker"
            blocks.append(Block(heading, None, [speakers], folded=True))
    if not blocks:
        return None
    text = [
        "Relative is the change against the baseline in percent. A value of a single speaker has "
        "no interval; what a few speakers said is no more than an anecdote. CER by the same "
        "columns is in comparison.json."
    ]
    if left_out:
        text.append(f"Left out for having too many values: {', '.join(left_out)}.")
    names = [*(name for name in seen if name != _SPEAKER), _SPEAKER]
    title = f"By {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else f"By {names[0]}"
    return Section("columns", capital(names[0]) + ", …", title, text, blocks)


def _table(
    inputs: ReportInputs, name: str, number: int, column: str, values: Mapping[str, Any]
) -> Table:
    part = roles(inputs.comparison)
    shown = list(values)
    if column == _SPEAKER:  # the hardest first
        rate = {value: one["arms"][part.baseline]["rate"] for value, one in values.items()}
        shown = sorted(shown, key=lambda value: (-(rate[value] or 0.0), value))[:MOST_ROWS]
    rest = len(values) - len(shown)
    asked = part.method != part.baseline

    def row(value: str, place: int) -> list[Cell]:
        one = values[value]
        # Classes of length sort by length, not as words.
        key = f"{place:03d}" if column == _LENGTH else accent_name(value)
        cells = [Cell(accent_name(value), key)]
        cells += [rate_cell(one["arms"][arm]) for arm in inputs.arms]
        cells += [relative_cell(one["arms"][part.method]["relative"])] * asked
        return cells + [count_cell(one[key]) for key in ("utterances", "speakers", "words")]

    label = f"{capital(column)}, words" if column == _LENGTH else capital(column)
    caption = f"WER in % by {column}, with intervals"
    if rest:
        caption += f"; {count(rest, 'easier speaker')} more in comparison.json"
    return Table(
        name=f"by-{number}-{name}",
        context=set_caption(inputs, name),
        caption=caption,
        columns=[
            Column(label, numeric=False),
            *(Column(arm_title(arm)) for arm in inputs.arms),
            *[Column(f"{arm_title(part.method)}, relative")] * asked,
            *map(Column, ("Utterances", "Speakers", "Words")),
        ],
        rows=[row(value, place) for place, value in enumerate(shown)],
        sources=[Link("comparison.json", "comparison.json")],
    )
