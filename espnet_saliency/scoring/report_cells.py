"""What the tables of the report are made of: cells, columns, links; how numbers look there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.scoring.charts import Interval, number
from espnet_saliency.scoring.report_answer import interval
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_words import NBSP, p_text


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


def links(inputs: ReportInputs, folder: Path, paths: Mapping[str, Path]) -> list[Link]:
    """Links from a page in `folder` to those of `paths` (text: path) that are there."""
    hrefs = {text: inputs.href(folder, path) for text, path in paths.items()}
    return [Link(text, href) for text, href in hrefs.items() if href]


def rate_cell(group: Mapping[str, Any]) -> Cell:
    """A rate with its interval beside it."""
    return Cell(number(group["rate"]), group["rate"], note=range_text(interval(group, "rate")))


def range_text(value: Interval) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"{number(value.low)}{NBSP}to{NBSP}{number(value.high)}"


def relative_cell(value: float | None) -> Cell:
    return Cell("–" if value is None else f"{number(value, 1, signed=True)} %", value)


def count_cell(value: float | None) -> Cell:
    """A count; a mean of counts over seeds has one decimal where it is no whole number."""
    return Cell(number(value, 0 if value is None or value == int(value) else 1), value)


def p_cell(value: float | None) -> Cell:
    return Cell(p_text(value), value)
