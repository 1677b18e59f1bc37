"""The page as a file: whole, self-contained, true to comparison.json, inert, readable by all."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.charts import number
from espnet_saliency.scoring.comparison import ArmDecode, compare
from espnet_saliency.scoring.report import write_report
from espnet_saliency.scoring.report_cells import duration
from espnet_saliency.scoring.score_folder import score_decode

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements in order as (tag, attributes, list of text pieces); nesting is checked."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict, list[str]]] = []
        self.stack: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        pieces: list[str] = []
        self.elements.append((tag, dict(attrs), pieces))
        if tag not in VOID:
            self.stack.append((tag, pieces))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.stack[-1][0] == tag, f"</{tag}> closes <{self.stack[-1][0]}>"
        self.stack.pop()

    def handle_data(self, data):
        for _, pieces in self.stack:
            pieces.append(data)

    def all(self, tag):
        return [(attrs, " ".join("".join(text).split())) for t, attrs, text in self.elements
                if t == tag]

    def text(self, name):
        return next(" ".join("".join(text).split()) for _, attrs, text in self.elements
                    if attrs.get("id") == name)


def tables(text: str) -> dict[str, list[list[tuple[str, float | None]]]]:
    """{table id: rows of (text, data-value)}, header rows left out."""
    found = {}
    for name, body in re.findall(r'<table class="sortable" id="([^"]+)">(.*?)</table>', text, re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", body.split("</thead>")[1], re.S)
        found[name] = [
            [(re.sub(r"<[^>]*>", "", inner).strip(), value)
             for value, inner in re.findall(
                 r'<t[hd][^>]*?(?: data-value="([^"]*)")?>(.*?)</t[hd]>', row, re.S)]
            for row in rows
        ]
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_inputs):
    folder = tmp_path_factory.mktemp("recipe")
    inputs = make_inputs(folder)
    path = write_report(folder / "exp/report", inputs)
    return inputs, path, path.read_text("utf-8")


def test_the_page_is_well_formed_with_unique_ids_and_landmarks(report):
    page = Page(report[2])
    ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    tags = [tag for tag, _, _ in page.elements]
    assert all(tag in tags for tag in ("header", "nav", "main", "h1"))
    assert page.all("html")[0][0]["lang"] == "en" and tags.count("h1") == 1
    wanted = [ref for _, attrs, _ in page.elements for key in ("aria-labelledby",)
              for ref in attrs.get(key, "").split()]
    wanted += [a["href"][1:] for a, _ in page.all("a") if a["href"].startswith("#")]
    assert wanted and set(wanted) <= set(ids)


def test_every_table_has_a_caption_and_headers(report):
    text = report[2]
    for table in re.findall(r"<table.*?</table>", text, re.S):
        assert "<caption" in table and 'scope="col"' in table and 'scope="row"' in table
    assert len(re.findall('<div class="scroll" role="region"[^>]*tabindex="0">', text)) == len(
        re.findall("<table", text))


def test_nothing_is_asked_of_the_network(report):
    page = Page(report[2])
    targets = [v for _, attrs, _ in page.elements for k, v in attrs.items()
               if k in ("src", "href", "srcset", "action", "data")]
    assert targets
    for target in targets:
        assert not re.match(r"[a-z]+:", target) or target.startswith("data:"), target
        assert not target.startswith("//")
    style = page.all("style")[0][1]
    assert "url(" not in style and "@import" not in style


def test_the_content_policy_allows_the_one_script_only(report):
    page = Page(report[2])
    policy = next(a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    script = re.search(r"<script>(.*?)</script>", report[2], re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not [k for _, attrs, _ in page.elements for k in attrs if k.startswith("on")]


def test_rates_equal_the_comparison(report):
    inputs, _, text = report
    shown = tables(text)
    for name, one in inputs.comparison["sets"].items():
        for metric in ("wer", "cer"):
            rows = {row[0][0]: row for row in shown[f"{metric}-{name}"]}
            assert set(rows) == {*one["accents"], "Overall"}
            for label, row in rows.items():
                group = "overall" if label == "Overall" else label
                for (said, value), arm in zip(row[1:], inputs.arms):
                    truth = one[metric]["arms"][arm]["groups"][group]
                    assert float(value) == truth["rate"]
                    rate, low, high = (number(truth[key]) for key in ("rate", "low", "high"))
                    assert said.replace("\u00a0", " ") == f"{rate} {low} to {high}"
                truth = one[metric]["arms"][inputs.arms[0]]["groups"][group]
                assert [int(row[-2][1]), int(row[-1][1])] == [truth["speakers"], truth["words"]]


def test_differences_equal_the_comparison(report):
    inputs, _, text = report
    shown = tables(text)
    checked = 0
    for name, one in inputs.comparison["sets"].items():
        for stored in one["wer"]["differences"]:
            forward = shown.get(f"difference-wer-{name}-{stored['arm']}-{stored['reference']}")
            sign = 1 if forward else -1
            rows = forward or shown[f"difference-wer-{name}-{stored['reference']}-{stored['arm']}"]
            for row in rows:
                truth = stored["groups"]["overall" if row[0][0] == "Overall" else row[0][0]]
                assert float(row[1][1]) == sign * truth["absolute"]
                assert float(row[2][1]) == min(sign * truth["low"], sign * truth["high"])
                assert float(row[4][1]) == truth["p_value"]
                assert (float(row[5][1]) if row[5][1] else None) == truth["p_holm"]
                assert float(row[6][1]) == truth["p_mapsswe"]
                checked += 1
    assert checked == 3 * (4 + 1) + 3 * (8 + 1)


def test_the_overall_table_equals_the_comparison(report):
    inputs, _, text = report
    for row in tables(text)["wer-overall"]:
        name, arm = row[0][1], row[1][1]
        one = inputs.comparison["sets"][name]["wer"]["arms"][arm]
        group = one["groups"]["overall"]
        assert [float(value) for _, value in row[2:]] == [
            group["rate"], one["macro"], one["worst"]["rate"], one["gap"],
            *(group[k] for k in ("sub", "del", "ins", "words", "speakers"))]
        assert row[4][0].endswith(one["worst"]["accent"])


def test_every_figure_and_picture_is_there(report):
    inputs, _, text = report
    page = Page(text)
    charts = [a["id"] for a, _ in page.all("figure") if "id" in a]
    assert set(charts) == {
        "chart-answer-specaug", "chart-answer-random_specaug", "chart-wer-test_unseen",
        "chart-wer-test", "chart-wer-overall", "chart-cer-test_unseen", "chart-cer-test",
        "chart-faithfulness", "chart-cost"}
    pictures = [a for a, _ in page.all("img")]
    assert len(pictures) == len(inputs.pictures)
    assert all(a["alt"] and (a["width"], a["height"]) == ("480", "336") for a in pictures)
    assert "data:image/png;base64," in pictures[0]["src"]


def test_the_confusion_matrix_has_its_counts_and_shares(report):
    inputs, _, text = report
    matrix = re.search(r'id="confusion-test">(.*?)</table>', text, re.S).group(1)
    counts = inputs.classifier["sets"]["test"]["confusion"]["counts"]
    unseen = re.search(r'id="confusion-test_unseen">(.*?)</table>', text, re.S).group(1)
    assert "<bdi>Hindi</bdi>" in unseen and "75 %<small>30</small>" in unseen
    cells = re.findall(r'--share:([\d.]+)">(?:(\d+) %<small>(\d+)</small>|0)', matrix)
    flat = [n for row in counts for n in row]
    assert [int(c or 0) for _, _, c in cells] == flat
    assert [float(s) for s, _, _ in cells] == pytest.approx([n / 120 for n in flat], abs=6e-4)


def test_the_faithfulness_table_begins_with_nothing_hidden(report):
    inputs, _, text = report
    rows = tables(text)["faithfulness-table"]
    assert [float(value) for _, value in rows[0]] == [0.0] + [71.0] * 4
    assert [float(rows[i + 1][1][1]) for i in range(4)] == pytest.approx(
        [100 * y for y in inputs.faithfulness["curves"]["salient"]])
    assert "30.0\u00a0to\u00a040.0" in rows[1][1][0]
    assert "rank correlation of\n0.04" in text


def test_links_lead_to_files(report):
    inputs, path, text = report
    (path.parent / "comparison.json").touch()
    hrefs = {a["href"] for a, _ in Page(text).all("a") if not a["href"].startswith("#")}
    assert any("by_accent.tsv" in h for h in hrefs) and any("result.txt" in h for h in hrefs)
    assert any("evaluation.json" in h for h in hrefs)
    assert not any("missing.json" in h for h in hrefs)
    for href in hrefs:
        assert (path.parent / unquote(href)).exists(), href


def test_the_same_inputs_give_the_same_bytes_and_no_litter(report, tmp_path):
    inputs, path, text = report
    again = write_report(path.parent, inputs)
    assert again.read_text("utf-8") == text
    assert not [name for name in os.listdir(path.parent) if name.startswith(".")]


def test_sections_without_data_are_left_out(tmp_path, make_inputs):
    path = write_report(tmp_path / "report", make_inputs(
        tmp_path, classifier=None, faithfulness=None, pictures=(), runs={}, data={},
        environment={}, command="", seed=""))
    page = Page(path.read_text("utf-8"))
    sections = [a["id"] for a, _ in page.all("section")]
    assert sections == ["answer", "wer", "differences", "overall", "cer", "worst", "made"]
    links = [a["href"] for a, _ in page.all("nav") for a, _ in page.all("a")]
    assert not {"#classifier", "#faithfulness", "#pictures", "#cost"} & set(links)


def test_a_classifier_at_chance_and_few_speakers_are_said_on_the_first_screen(
    tmp_path, make_inputs, make_comparison, make_classifier
):
    accents = ["Midwest", "South", "North East"]
    path = write_report(tmp_path / "report", make_inputs(
        tmp_path, comparison=make_comparison({"test": accents}, speakers=4),
        classifier=make_classifier(accents, 0.34)))
    page = Page(path.read_text("utf-8"))
    shown = [text for a, text in page.all("aside") if a["class"] == "warning"]
    assert "near chance" in shown[0] and "34.2 %" in shown[0] and "worthless" in shown[0]
    assert "12 speakers" in shown[1]
    assert shown[0] in page.text("answer")
    assert "few speakers" in page.text("differences")


EVIL = '<img src=x onerror=alert(1)>"\'|`*&amp;</td></script><b>'


def test_markup_in_the_data_is_text(tmp_path, make_inputs, make_comparison, make_classifier):
    comparison = make_comparison({"test_unseen": [EVIL, "Thai"]}, speakers=3)
    comparison["corpus"] = EVIL
    for one in comparison["worst_utterances"]:
        one |= {"speaker": EVIL, "utt_id": EVIL}
        one["alignment"] = [["S", EVIL, EVIL], ["D", EVIL, ""], ["I", "", EVIL], ["=", EVIL, EVIL]]
    inputs = make_inputs(
        tmp_path, comparison=comparison, classifier=make_classifier([EVIL, "Thai"]), title=EVIL,
        pictures=[{"png": "map.png", "caption": EVIL}], environment={EVIL: EVIL}, command=EVIL,
        data={EVIL: {"utterances": 1, "speakers": 1, "words": 1, "hours": 0.1}})
    path = write_report(tmp_path / "report", inputs)
    page = Page(path.read_text("utf-8"))
    assert [text for _, text in page.all("script")] and len(page.all("script")) == 1
    assert all(a["src"].startswith("data:") for a, _ in page.all("img"))
    assert not [k for _, attrs, _ in page.elements for k in attrs if k.startswith("on")]
    assert page.all("title")[0][1] == EVIL
    said = " ".join(path.with_name("report.md").read_text("utf-8").split("```")[0].split())
    assert "<img" not in said and "&lt;img" in said


def test_accents_that_are_unknown_and_scripts_from_right_to_left(
    tmp_path, make_inputs, make_comparison
):
    comparison = make_comparison({"test": ["", "لهجه یزدی"]}, speakers=3)
    path = write_report(tmp_path / "report", make_inputs(
        tmp_path, comparison=comparison, language="fa"))
    text = path.read_text("utf-8")
    assert "<bdi>unknown</bdi>" in text and "<bdi>لهجه یزدی</bdi>" in text
    assert '<div class="words" dir="auto" lang="fa">' in text


def test_a_command_that_made_all_arms_is_shown_once(tmp_path, make_inputs):
    run = {"command": "./run.sh --all", "train_seconds": 60.0, "experiment": "exp/a"}
    path = write_report(tmp_path / "report", make_inputs(
        tmp_path, command="./run.sh --all", runs={"specaug": run, "random_specaug": run}))
    assert path.read_text("utf-8").count("./run.sh --all") == 1
    assert path.with_name("report.md").read_text("utf-8").count("./run.sh --all") == 1


def test_aligned_words_are_marked_by_more_than_colour(report):
    page = Page(report[2])
    marks = {text for _, text in page.all("abbr")}
    assert marks == {"S", "D", "I"}
    shown: dict[tuple[str, str], int] = {}
    wanted = 0
    for one in report[0].comparison["worst_utterances"]:
        place = shown[one["set"], one["arm"]] = shown.get((one["set"], one["arm"]), 0) + 1
        wanted += sum(op in "SD" for op, _, _ in one["alignment"]) * (place <= 10)
    assert len(page.all("del")) == wanted


def test_only_the_first_of_many_utterances_are_shown_and_the_rest_counted(
    tmp_path, make_inputs, make_comparison
):
    comparison = make_comparison({"test": ["Thai"]}, speakers=3)
    comparison["worst_utterances"] = comparison["worst_utterances"][:1] * 14
    text = write_report(
        tmp_path / "report", make_inputs(tmp_path, comparison=comparison)).read_text("utf-8")
    assert text.count("<li>\n<p><bdi>") == 10 and "4 more in" in text


def test_the_markdown_has_the_same_answer_and_tables(report):
    inputs, path, text = report
    said = path.with_name("report.md").read_text("utf-8")
    page = Page(text)
    assert page.text("sentence") in said and page.text("verdict") in said
    shown = tables(text)["wer-test_unseen"]
    for row in shown:
        first = row[1][0].replace("\u00a0", " ").split(" ", 1)
        assert f"| {row[0][0]} | {first[0]} ({first[1]}) |" in said
    assert inputs.command in said and "asr_train" in said


def test_a_picture_that_is_missing_or_no_png_is_named(tmp_path, make_inputs):
    inputs = make_inputs(tmp_path, pictures=[{"png": "gone.png", "caption": "x"}])
    with pytest.raises(UserError, match="gone.png: cannot be read"):
        write_report(tmp_path / "report", inputs)
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    inputs = make_inputs(tmp_path, pictures=[{"png": "bad.png", "caption": "x"}])
    with pytest.raises(UserError, match="bad.png: not a PNG"):
        write_report(tmp_path / "report", inputs)
    assert not (tmp_path / "report/index.html").exists()


def test_the_set_that_answers(tmp_path, make_inputs, make_comparison):
    comparison = make_comparison({"a": ["x", "y"], "b": ["z", "w"]}, speakers=3)
    assert make_inputs(tmp_path, comparison=comparison).headline == "a"
    chosen = make_inputs(tmp_path, comparison=comparison, headline_set="b")
    assert (chosen.headline, chosen.sets) == ("b", ["b", "a"])
    with pytest.raises(ValueError, match="headline_set 'c'"):
        make_inputs(tmp_path, comparison=comparison, headline_set="c")


def test_six_arms_have_six_styles(tmp_path, make_inputs, make_comparison):
    arms = dict.fromkeys(
        ["none", "specaug", "saliency", "saliency_specaug", "random", "random_specaug"], 1.0)
    comparison = make_comparison({"test": ["x", "y"]}, arms=arms, speakers=3)
    comparison["baseline"] = "specaug"
    text = write_report(
        tmp_path / "report", make_inputs(tmp_path, comparison=comparison)).read_text("utf-8")
    legend = re.search(r'id="chart-wer-test">.*?</ul>', text, re.S).group(0)
    styles = re.findall(r'class="mark s(\d)"', legend)
    assert sorted(styles) == list("012345") and styles[3] == "0" and styles[1] == "1"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (42.4, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def luminance(colour: str) -> float:
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_have_contrast_in_light_and_dark(report):
    style = Page(report[2]).all("style")[0][1]
    themes = re.findall(r":root \{ (?:color-scheme: light dark; )?(--paper.*?)\}", style)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
        for name, least in {
            "ink": 7, "soft": 4.5, "link": 4.5, "good": 4.5, "bad": 4.5, "warn": 3,
            **{f"c{i}": 3 for i in range(6)},
        }.items():
            one, two = sorted(luminance(colours[c]) for c in (name, "paper"))
            assert (two + 0.05) / (one + 0.05) >= least, (name, colours[name])


def score_real_arms(folder, utterances):
    """Two arms scored and compared by the package: one hears all, one drops the first words."""
    data = folder / "data/test"
    data.mkdir(parents=True)
    for name, column in (("text", 2), ("utt2spk", 0), ("utt2accent", 1)):
        lines = [f"{row[0]}-{i} {row[column]}" for i, row in enumerate(utterances)]
        (data / name).write_text("\n".join(lines) + "\n", "utf-8")
    arms = []
    for arm, lost in (("specaug", 0), ("saliency_specaug", 1)):
        decoded = folder / f"exp/asr_{arm}/decode/test"
        decoded.mkdir(parents=True)
        lines = [f"{row[0]}-{i} {' '.join(row[2].split()[lost:])}"
                 for i, row in enumerate(utterances)]
        (decoded / "text").write_text("\n".join(lines) + "\n", "utf-8")
        score_decode(decoded, data)
        arms.append(ArmDecode(arm, folder / f"exp/asr_{arm}", "decode", ("test",), "./run.sh"))
    return compare(arms, "specaug", "real", draws=200)


def test_a_comparison_made_by_the_package_is_shown(tmp_path, make_inputs):
    rows = [(f"{accent}{n}", accent, "one two three four five") for accent in ("north", "south")
            for n in range(6)]
    inputs = make_inputs(tmp_path, comparison=score_real_arms(tmp_path, rows))
    path = write_report(tmp_path / "exp/report", inputs)
    page = Page(path.read_text("utf-8"))
    assert "by +20.0 points" in page.text("sentence")
    assert "cost" not in [a["id"] for a, _ in page.all("section")]  # no times are known
    shown = tables(path.read_text("utf-8"))["wer-test"]
    assert [row[0][0] for row in shown] == ["north", "south", "Overall"]
    assert [row[2][0].split()[0] for row in shown] == ["20.0"] * 3
    assert len([a for a, _ in page.all("a") if a["href"].endswith("by_accent.tsv")]) == 4


def test_one_speaker_and_no_known_accent_leave_dashes_not_errors(tmp_path, make_inputs):
    rows = [("ann", "unknown", "one two three four five")]
    inputs = make_inputs(tmp_path, comparison=score_real_arms(tmp_path, rows))
    page = Page(write_report(tmp_path / "exp/report", inputs).read_text("utf-8"))
    assert "by +20.0 points (no interval)" in page.text("sentence")
    assert "no interval" in page.text("differences")
    assert "1 speaker and 5 words" in page.text("answer")
