"""Charts: positions by hand, true minus signs, inert text, well-formed SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from espnet_saliency.scoring.charts import (
    Curve,
    Interval,
    Row,
    Series,
    interval_chart,
    interval_mark,
    line_chart,
    number,
    shape,
    shorten,
    text_width,
    ticks,
)


def chart(rows, series=(Series("one", 0),), **options):
    given = {"name": "n", "title": "t", "desc": "d", "axis": "WER, %"} | options
    return ET.fromstring(interval_chart(rows, list(series), **given))


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (-0.84, {}, "−0.8"),
        (0.84, {"signed": True}, "+0.8"),
        (-0.04, {"signed": True}, "0.0"),
        (1234.5, {"digits": 0}, "1,234"),
        (-1234.56, {}, "−1,234.6"),
        (None, {}, "–"),
    ],
)
def test_number(value, options, text):
    assert number(value, **options) == text


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 24.3, [0, 5, 10, 15, 20, 25]),
        (-7.8, 3.5, [-10, -7.5, -5, -2.5, 0, 2.5, 5]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    ],
)
def test_ticks_are_round_and_enclose_the_range(low, high, expected):
    assert ticks(low, high) == expected


def test_dots_stand_where_their_numbers_say():
    drawn = chart([Row("a", [Interval(0, 0, 5)]), Row("b", [Interval(10, 5, 10)])])
    first, second = (float(c.get("cx")) for c in drawn.iter("circle"))
    zero, ten = (
        float(t.get("x")) for t in drawn.iter("text") if t.get("class") == "tick"
        and t.text in ("0", "10")
    )
    assert (first, second) == (zero, ten)
    whisker = next(p.get("d") for p in drawn.iter("path") if p.get("class") == "whisker")
    low, high = (float(x) for x in (whisker[1:].split()[0], whisker.split("H")[1].split("M")[0]))
    assert low == zero and high == pytest.approx((zero + ten) / 2, abs=0.11)


def test_bars_start_at_zero_and_are_as_long_as_their_numbers():
    drawn = chart([Row("a", [Interval(4)]), Row("b", [Interval(8)])], mark="bar")
    bars = [(float(b.get("x")), float(b.get("width"))) for b in drawn.iter("rect")]
    assert bars[0][0] == bars[1][0]
    assert bars[1][1] == pytest.approx(2 * bars[0][1], abs=0.2)


def test_a_missing_value_draws_nothing_and_a_missing_interval_no_line():
    drawn = chart([Row("a", [Interval(None)]), Row("b", [Interval(3)])])
    assert len(list(drawn.iter("circle"))) == 1
    assert not [p for p in drawn.iter("path") if p.get("class") == "whisker"]


def test_differences_have_a_line_at_zero():
    drawn = chart([Row("a", [Interval(-2, -4, 1)])], signed=True)
    line = next(p.get("d") for p in drawn.iter("path") if p.get("class") == "zero")
    zero = next(t.get("x") for t in drawn.iter("text") if t.text == "0")
    assert line.startswith(f"M{zero} ")
    assert [t.text for t in drawn.iter("title")][1] == "a, one: −2.0 (−4.0 to +1.0)"


def test_charts_of_one_span_share_their_axis():
    one = chart([Row("abc", [Interval(1)])], span=(-5.0, 10.0))
    two = chart([Row("abd", [Interval(9)])], span=(-5.0, 10.0))
    axes = [[(t.text, t.get("x")) for t in c.iter("text") if t.get("class") == "tick"]
            for c in (one, two)]
    assert axes[0] == axes[1]


def test_each_chart_is_named_and_described():
    drawn = chart([Row("a", [Interval(1)])], name="x")
    ids = drawn.get("aria-labelledby").split()
    named = {e.get("id"): e.text for e in drawn.iter() if e.get("id")}
    assert [named[i] for i in ids] == ["t", "d"] and drawn.get("role") == "img"


def test_markup_in_names_is_text():
    evil = "<script>alert(1)</script>&\"'"
    drawn = chart([Row(evil, [Interval(1)])], [Series(evil, 0)], title=evil, desc=evil, axis=evil)
    assert not list(drawn.iter("script"))
    assert next(drawn.iter("title")).text == evil


def test_long_labels_are_cut_and_kept_whole_in_the_tooltip():
    label = "the English of a very long valley in the north"
    drawn = chart([Row(label, [Interval(1)])])
    text = next(t for t in drawn.iter("text") if "label" in t.get("class"))
    assert next(text.iter("title")).text == label
    assert text_width(shorten(label)) <= 160 and "…" in shorten(label)
    # 160 units hold 22 characters: the ellipsis, two thirds of the rest in front of it.
    assert shorten("an accent with a long name, number 7") == "an accent with…umber 7"
    assert shorten("short") == "short"


def test_wide_characters_count_double():
    assert text_width("漢字") > text_width("ab")


def test_series_differ_in_shape():
    assert len({shape(style, 5, 5) for style in range(6)}) == 6


def test_an_unknown_mark_is_refused():
    with pytest.raises(ValueError, match="'dot' or 'bar'"):
        chart([Row("a", [Interval(1)])], mark="pie")


def test_line_chart_has_a_marker_for_each_point_and_the_level():
    drawn = ET.fromstring(line_chart(
        [0, 10, 50], [Curve("salient", 0, [70, 50, 8])], name="n", title="t", desc="d",
        x_axis="x", y_axis="y", level=("chance", 12.5),
    ))
    heights = [float(c.get("cy")) for c in drawn.iter("circle")]
    assert len(heights) == 3 and heights == sorted(heights)
    level = next(p.get("d") for p in drawn.iter("path") if p.get("class") == "level")
    assert heights[1] < float(level.split()[1].split("H")[0]) < heights[2]


def test_inset_marks_share_a_scale():
    wide = ET.fromstring(interval_mark(Interval(-2, -4, 0), (-4.0, 4.0)))
    circle = next(wide.iter("circle"))
    zero = next(p.get("d") for p in wide.iter("path") if p.get("class") == "zero")
    assert float(zero[1:].split()[0]) == 60.0 and float(circle.get("cx")) == 33.0
    assert interval_mark(Interval(1.0), (-4.0, 4.0)) == ""
