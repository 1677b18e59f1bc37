"""Charts of the report as inline SVG: dots or bars with intervals, and lines.

The drawings are text, made by arithmetic alone: the same numbers give the same bytes. They carry
no colour of their own but CSS classes (`s0` … `s5` for the series) and `currentColor`, so that the
page decides for light, dark and paper; series differ in shape as well as in colour. Each has a
title and a description for those who do not see it. About 400 units wide, they are readable at
the width of a phone without scaling.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import Sequence

WIDTH = 400.0
LABEL_LIMIT = 160.0
LINE = 12.0  # height of one mark, in units
SHAPES = 6  # series that can be told apart
MARKERS = 10  # of a longer curve only so many points have one


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def numbers(self) -> list[float]:
        return [x for x in (self.value, self.low, self.high) if x is not None]


@dataclass(frozen=True)
class Row:
    """One line of an interval chart: its label and one `Interval` for each series."""

    label: str
    values: Sequence[Interval]
    strong: bool = False


@dataclass(frozen=True)
class Series:
    """Name of a series and the number (0 to 5) of its colour and shape."""

    name: str
    style: int


@dataclass(frozen=True)
class Curve:
    """One line of a line chart: y for each x of the chart, or for each of its own."""

    name: str
    style: int
    ys: Sequence[float]
    xs: Sequence[float] | None = None


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """`-0.84` as "−0.8", with a true minus; a zero has no sign; None is a dash."""
    if value is None:
        return "–"
    text = f"{abs(value):,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers whose first and last enclose `low` and `high`."""
    if high <= low:
        high = low + 1.0
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def limits(intervals: Sequence[Interval]) -> tuple[float, float]:
    """The range that holds all `intervals` and zero: for charts that share an axis."""
    seen = [x for interval in intervals for x in interval.numbers()] + [0.0]
    return min(seen), max(seen)


def interval_chart(
    rows: Sequence[Row],
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    desc: str,
    axis: str,
    mark: str = "dot",
    signed: bool = False,
    span: tuple[float, float] | None = None,
    digits: int = 1,
) -> str:
    """Rows of dots or bars with interval lines over one horizontal axis that holds zero.

    Args:
        rows: from top to bottom; each with one value for each of `series`.
        name: unique in the page; prefix of the element ids.
        axis: what the numbers are, with the unit; written below the axis.
        mark: "dot", or "bar" (from zero).
        signed: the numbers are differences: zero is drawn as a line, numbers carry a sign.
        span: range of the axis (widened to round numbers); that of the values by default.
    """
    if mark not in ("dot", "bar"):
        raise ValueError(f"mark is {mark!r}: 'dot' or 'bar'")
    lowest, highest = span or limits([v for row in rows for v in row.values])
    marks = ticks(lowest, highest)
    left = 14 + min(LABEL_LIMIT, max((text_width(row.label) for row in rows), default=0.0))
    right, top = WIDTH - 18, 6.0
    pitch = LINE * len(series) + 10
    bottom = top + pitch * len(rows)

    def x(value: float) -> float:
        return left + (value - marks[0]) / (marks[-1] - marks[0]) * (right - left)

    out = _open(name, title, desc, bottom + 40)
    out += _vertical_grid(marks, x, top, bottom)
    for index, row in enumerate(rows):
        start = top + pitch * index
        middle = start + pitch / 2
        if index:
            out.append(f'<path class="rule" d="M0 {start:.1f}H{WIDTH:g}"/>')
        label = shorten(row.label)
        strong = " strong" if row.strong else ""
        whole = f"<title>{escape(row.label)}</title>" if label != row.label else ""
        out.append(
            f'<text class="label{strong}" x="{left - 10:.1f}" y="{middle + 4:.1f}" '
            f'text-anchor="end">{whole}{escape(label)}</text>'
        )
        for place, (one, value) in enumerate(zip(series, row.values, strict=True)):
            if value.value is not None:
                y = start + 5 + LINE * (place + 0.5)
                out += _mark(row, one, value, x, y, mark, signed, digits)
    if signed:
        out.append(f'<path class="zero" d="M{x(0):.1f} {top:g}V{bottom:.1f}"/>')
    out.append(
        f'<text class="axis" x="{(left + right) / 2:.1f}" y="{bottom + 33:.1f}" '
        f'text-anchor="middle">{escape(axis)}</text></svg>'
    )
    return "".join(out)


def line_chart(
    xs: Sequence[float],
    curves: Sequence[Curve],
    *,
    name: str,
    title: str,
    desc: str,
    x_axis: str,
    y_axis: str,
    level: tuple[str, float] | None = None,
) -> str:
    """Curves over `xs` with markers; `level` draws a named horizontal line, such as chance.

    `xs` spans the axis also where the curves have their own.
    """
    highest = max([y for curve in curves for y in curve.ys] + ([level[1]] if level else []))
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(0.0, highest)
    left, right, top, bottom = 42.0, WIDTH - 18, 26.0, 236.0

    def x(value: float) -> float:
        return left + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (bottom - top)

    out = _open(name, title, desc, bottom + 40)
    for tick in y_ticks:
        out.append(f'<path class="grid" d="M{left:g} {y(tick):.1f}H{right:g}"/>')
        out.append(
            f'<text class="tick" x="{left - 7:g}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{_tick(tick, y_ticks)}</text>"
        )
    for tick in x_ticks:
        out.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16:g}" text-anchor="middle">'
            f"{_tick(tick, x_ticks)}</text>"
        )
    out.append(f'<text class="axis" x="2" y="12">{escape(y_axis)}</text>')
    out.append(
        f'<text class="axis" x="{(left + right) / 2:.1f}" y="{bottom + 33:g}" '
        f'text-anchor="middle">{escape(x_axis)}</text>'
    )
    if level:
        height = y(level[1])
        out.append(f'<path class="level" d="M{left:g} {height:.1f}H{right:g}"/>')
        out.append(
            f'<text class="tick" x="{right:g}" y="{height - 4:.1f}" text-anchor="end">'
            f"{escape(level[0])}</text>"
        )
    for curve in curves:
        own = xs if curve.xs is None else curve.xs
        points = [(x(a), y(b)) for a, b in zip(own, curve.ys, strict=True)]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        out.append(f'<g class="s{curve.style}"><path class="curve" d="M{path}"/>')
        every = -(-len(points) // MARKERS)
        # Counted from the end, so that the last point has a marker.
        chosen = list(zip(points, own, curve.ys))[::-1][::every][::-1]
        for (a, b), share, value in chosen:
            says = f"{curve.name}: {number(value)} at {number(share, 0)}"
            out.append(f"<g><title>{escape(says)}</title>{shape(curve.style, a, b)}</g>")
        out.append("</g>")
    return "".join(out) + "</svg>"


def interval_mark(value: Interval, span: tuple[float, float]) -> str:
    """One signed interval for a table cell: dot, line, and zero on the scale `span`."""
    if value.value is None or value.low is None or value.high is None:
        return ""
    width, middle = 120.0, 7.0
    lowest, highest = min(span[0], 0.0), max(span[1], 0.0)
    scale = (width - 12) / ((highest - lowest) or 1.0)

    def x(point: float) -> float:
        return 6 + (point - lowest) * scale

    return (
        f'<svg class="inset" viewBox="0 0 {width:g} 14" aria-hidden="true">'
        f'<path class="zero" d="M{x(0):.1f} 0V14"/><path class="whisker" '
        f'd="M{x(value.low):.1f} {middle:g}H{x(value.high):.1f}"/>'
        f'<circle class="fill" cx="{x(value.value):.1f}" cy="{middle:g}" r="3.5"/></svg>'
    )


def legend_mark(style: int) -> str:
    """The marker of a series by itself, for a legend in the text."""
    drawn = shape(style, 7, 7)
    return f'<svg class="mark s{style}" viewBox="0 0 14 14" aria-hidden="true">{drawn}</svg>'


def shape(style: int, x: float, y: float, size: float = 4.0) -> str:
    """Circle, square, triangle, diamond, plus or hollow circle around (x, y)."""
    s = size
    if style == 0:
        return f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="{s:g}"/>'
    if style == 1:
        return f'<path class="fill" d="M{x - s + 0.4:.1f} {y - s + 0.4:.1f}h{2 * s - 0.8:g}' \
               f'v{2 * s - 0.8:g}h{0.8 - 2 * s:g}z"/>'
    if style == 2:
        return f'<path class="fill" d="M{x:.1f} {y - s - 0.6:.1f}l{s + 0.8:g} {2 * s:g}' \
               f'h{-2 * s - 1.6:g}z"/>'
    if style == 3:
        r = s + 1
        return f'<path class="fill" d="M{x:.1f} {y - r:.1f}l{r:g} {r:g}l{-r:g} {r:g}' \
               f'l{-r:g} {-r:g}z"/>'
    if style == 4:
        return f'<path class="line" d="M{x - s:.1f} {y:.1f}h{2 * s:g}M{x:.1f} {y - s:.1f}' \
               f'v{2 * s:g}"/>'
    return f'<circle class="line" cx="{x:.1f}" cy="{y:.1f}" r="{s - 0.5:g}"/>'


def text_width(text: str) -> float:
    """Rough width of 12-unit sans-serif text, in units; wide characters count nearly double."""
    return sum(12.0 if unicodedata.east_asian_width(c) in "WF" else 7.2 for c in text)


def shorten(text: str, limit: float = LABEL_LIMIT) -> str:
    """`text` with an ellipsis in its middle that brings it to `limit` units; unchanged where it fits.

    Names that are too long often begin alike: both ends are kept.
    """
    if text_width(text) <= limit:
        return text
    kept = len(text) - 1
    while kept > 1 and text_width(_ends(text, kept)) > limit:
        kept -= 1
    return _ends(text, kept)


def _ends(text: str, kept: int) -> str:
    end = kept // 3
    return text[: kept - end].rstrip() + "…" + text[len(text) - end :].lstrip()


def _open(name: str, title: str, desc: str, height: float) -> list[str]:
    name = escape(name)
    return [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(desc)}</desc>'
    ]


def _vertical_grid(marks: Sequence[float], x, top: float, bottom: float) -> list[str]:
    out = []
    for tick in marks:
        out.append(f'<path class="grid" d="M{x(tick):.1f} {top:g}V{bottom:.1f}"/>')
        out.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16:.1f}" text-anchor="middle">'
            f"{_tick(tick, marks)}</text>"
        )
    return out


def _tick(value: float, marks: Sequence[float]) -> str:
    """A tick's text with as many decimals as the step between the ticks needs."""
    step = marks[1] - marks[0]
    digits = next(d for d in range(10) if abs(step * 10**d - round(step * 10**d)) < 1e-6 * 10**d)
    return number(value, digits)


def _mark(
    row: Row, one: Series, value: Interval, x, y: float, mark: str, signed: bool, digits: int
) -> list[str]:
    says = f"{row.label}, {one.name}: {number(value.value, digits, signed)}"
    whole = value.low is not None and value.high is not None
    if whole:
        says += f" ({number(value.low, digits, signed)} to {number(value.high, digits, signed)})"
    out = [f'<g class="s{one.style}"><title>{escape(says)}</title>']
    if mark == "bar":
        start, end = sorted((x(0.0), x(value.value)))
        out.append(
            f'<rect class="bar" x="{start:.1f}" y="{y - 4.5:.1f}" '
            f'width="{end - start:.1f}" height="9"/>'
        )
    if whole:
        kind = "whisker over" if mark == "bar" else "whisker"
        low, high = x(value.low), x(value.high)
        out.append(
            f'<path class="{kind}" d="M{low:.1f} {y:.1f}H{high:.1f}'
            f'M{low:.1f} {y - 3:.1f}v6M{high:.1f} {y - 3:.1f}v6"/>'
        )
    if mark == "dot":
        out.append(shape(one.style, x(value.value), y, 4.5 if row.strong else 4.0))
    return out + ["</g>"]
