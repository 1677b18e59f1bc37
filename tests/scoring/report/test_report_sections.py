"""What a larger run adds to the page: seeds, conditions, columns, sound, curves, a sweep."""

from __future__ import annotations

import base64
import copy
import dataclasses
import html
import io
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from espnet_saliency.scoring.charts import number
from espnet_saliency.scoring.conditions import condition_rows
from espnet_saliency.scoring.report import write_report
from espnet_saliency.scoring.report_answer import answer, difference
from espnet_saliency.scoring.report_cells import count_cell
from espnet_saliency.scoring.report_examples import BYTES, SECONDS, encode
from espnet_saliency.scoring.report_tables import pairs
from espnet_saliency.scoring.report_training import TrainingLog, read_log, unfinished
from espnet_saliency.scoring.report_words import arm_name, capital


@pytest.fixture(scope="module")
def text(recipe) -> str:
    return recipe[1].read_text("utf-8")


def rows(text: str, name: str) -> list[list[tuple[str, str]]]:
    """(text, data-value) of the cells of one table, its header left out."""
    body = re.search(rf'<table class="sortable" id="{name}">(.*?)</table>', text, re.S).group(1)
    cell = r'<t[hd][^>]*?(?: data-value="([^"]*)")?>(.*?)</t[hd]>'
    return [
        [(html.unescape(re.sub(r"<[^>]*>", "", inner)).strip(), value)
         for value, inner in re.findall(cell, row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", body.split("</thead>")[1], re.S)
    ]  # fmt: skip


def values(row: list[tuple[str, str]]) -> list[float | None]:
    return [float(value) if value else None for _, value in row]


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def sections(text: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', text)


def test_a_whole_run_has_every_section(text):
    assert sections(text) == [
        "answer", "wer", "differences", "overall", "seeds", "conditions", "unseen", "columns",
        "probe", "cer", "classifier", "faithfulness", "examples", "worst", "sweep", "curves", "cost", "made",
    ]  # fmt: skip
    links = re.findall(r'<li><a href="#([^"]+)"', text)
    assert set(links) == set(sections(text)) - {"answer"}
    assert "<pre" in text and "--seed 7 --arm random_specaug" in text


def test_the_whole_page_keeps_its_rules(text, recipe):
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for label in re.findall(r'aria-labelledby="([^"]+)"', text):
        assert set(label.split()) <= set(ids)
    assert "media-src data:;" in text and "default-src 'none'" in text
    again = write_report(recipe[1].parent, recipe[0])
    assert again.read_text("utf-8") == text


def test_the_answer_says_how_many_trainings_and_what_each_seed_says(recipe):
    comparison = recipe[0].comparison
    said = plain(answer(comparison, "test_unseen", {}, "1 2 7").certainty)
    assert "with 3 training runs an arm (seeds 1 2 7)" in said and "one training run" not in said
    assert "bootstrap draws over speakers and seeds" in said
    found = difference(comparison["sets"]["test_unseen"]["wer"], "saliency_specaug", "specaug")
    seeds = found["overall"]["seeds"]
    fell = sum(value < 0 for value in seeds["absolute"])
    assert f"Against SpecAugment WER fell in {fell} of 3 seeds" in said
    assert f"standard deviation {seeds['std']:.1f} points" in said
    assert f"p = {seeds['p_value']:.3f}" in said
    assert "From 3 seeds an interval is rough" in said


def test_differences_turned_round_turn_their_seeds(recipe):
    scores = recipe[0].comparison["sets"]["test"]["wer"]
    one = difference(scores, "random_specaug", "saliency_specaug")["overall"]["seeds"]
    other = difference(scores, "saliency_specaug", "random_specaug")["overall"]["seeds"]
    assert one["absolute"] == [-value for value in other["absolute"]]
    assert one["std"] == other["std"] and one["p_value"] == other["p_value"]


def test_the_table_by_seed_equals_the_comparison(recipe, text):
    inputs = recipe[0]
    for name in inputs.sets:
        scores = inputs.comparison["sets"][name]["wer"]
        shown = rows(text, f"seeds-table-{name}")
        groups = [scores["arms"][arm]["groups"]["overall"] for arm in inputs.arms]
        compared = [
            difference(scores, "saliency_specaug", other)["overall"]
            for other in ("specaug", "random_specaug")
        ]
        for place, row in enumerate(shown[:3]):
            assert row[0][0] == str(inputs.seeds[place])
            wanted = [group["seeds"]["rates"][place] for group in groups]
            wanted += [group["seeds"]["absolute"][place] for group in compared]
            assert values(row[1:]) == wanted
        mean, spread, test = shown[3:]
        assert values(mean[1:4]) == [group["rate"] for group in groups]
        assert values(mean[4:]) == pytest.approx([group["absolute"] for group in compared])
        assert values(spread[1:]) == [g["seeds"]["std"] for g in [*groups, *compared]]
        assert values(test[4:]) == [group["seeds"]["p_value"] for group in compared]
        assert f'id="chart-seeds-{name}"' in text


def test_means_of_counts_are_readable():
    assert [count_cell(value).text for value in (None, 0, 12, 12.0, 12.3333, 4812.5)] == [
        "–", "0", "12", "12", "12.3", "4,812.5",
    ]  # fmt: skip


def test_noisy_sets_are_under_their_condition_alone(recipe, text):
    inputs = recipe[0]
    assert inputs.sets == ["test_unseen", "test"] and inputs.headline == "test_unseen"
    ids = re.findall(r' id="([^"]+)"', text)
    assert not [name for name in ids if "noise_0" in name]
    assert not [line for line in answer(inputs.comparison, "test", {}).others if "noise" in line]
    assert "noise_0" not in "".join(str(row) for row in rows(text, "wer-overall"))


def test_the_table_of_conditions_equals_the_comparison(recipe, text):
    inputs = recipe[0]
    for name, accents in (("test", ["London", "Scottish"]), ("test_unseen", ["Hindi", "Thai"])):
        head = re.search(rf'id="conditions-table-{name}">.*?</thead>', text, re.S).group(0)
        order = sorted(accents, key=head.index)
        found = {
            (row.condition, row.arm, row.group): row
            for row in condition_rows(inputs.comparison)
            if row.of == name
        }
        shown = rows(text, f"conditions-table-{name}")
        assert len(shown) == 2 * 3
        for row in shown:
            arm = next(a for a in inputs.arms if capital(arm_name(a)) == row[1][0])
            one = found[row[0][0], arm, "overall"]
            wanted = [one.rate, one.increase, one.change, one.change_low, one.p_value]
            wanted += [found[row[0][0], arm, accent].rate for accent in order]
            assert values(row[2:]) == [*wanted, one.speakers]
        truth = inputs.comparison["sets"][f"{name}_noise_0"]["wer"]["arms"]["specaug"]
        assert found["noise_0", "specaug", "overall"].rate == truth["groups"]["overall"]["rate"]
    assert len(re.findall(r'id="chart-conditions-', text)) == 2 * (1 + 2)


def test_tables_by_column_equal_the_comparison(recipe, text):
    inputs = recipe[0]
    assert "By length, gender and speaker</h2>" in text
    for name in inputs.sets:
        columns = inputs.comparison["sets"][name]["wer"]["by"]["columns"]
        for place, (column, truth) in enumerate(columns.items()):
            shown = rows(text, f"by-{place}-{name}")
            assert {row[0][0] for row in shown} == set(truth)
            for row in shown:
                one = truth[row[0][0]]
                wanted = [one["arms"][arm]["rate"] for arm in inputs.arms]
                wanted.append(one["arms"]["saliency_specaug"]["relative"])
                wanted += [one[key] for key in ("utterances", "speakers", "words")]
                assert values(row[1:]) == wanted
                if column == "speaker":  # one speaker has no interval
                    assert row[1][0] == number(wanted[0])
    folded = re.findall(r"<summary>(.*? by speaker)</summary>", text)
    assert folded == ["Unseen accents (test_unseen) by speaker", "Seen accents (test) by speaker"]


def test_unseen_accents_equal_the_table_of_the_runs(recipe, text):
    table = recipe[0].unseen["sets"]["test"]["wer"]
    for arm, groups in table["arms"].items():
        for row in rows(text, f"unseen-test-{arm}"):
            one = groups["overall" if row[0][0] == "Overall" else row[0][0].split()[0]]
            wanted = [one["seen"], one["unseen"], one["loss"], one["low"]]
            wanted.append(one.get("p_holm", one["p_value"]))
            if arm != "specaug":
                wanted += [one["change"], one.get("change_p_holm", one["change_p"])]
            assert values(row[1:]) == [*wanted, one["speakers"], one["words"]]
    assert "../leave_one_out/results.json" in text and "Seen: the ordinary run." in text


def test_both_curves_of_faithfulness_and_their_areas(recipe, text):
    one = recipe[0].faithfulness
    hidden, heard = rows(text, "faithfulness-table"), rows(text, "insertion-table")
    assert values(hidden[0]) == [0, 71, 71] and values(heard[0]) == [0, 12.5, 12.5]
    for shown, curves in ((hidden, one["curves"]), (heard, one["insertion"]["curves"])):
        for place, row in enumerate(shown[1:]):
            assert values(row[1:]) == [100 * ys[place] for ys in curves.values()]
    assert plain(heard[1][1][0]) == "30.0 20.0 to 40.0"
    areas = {row[0][0]: row[1:] for row in rows(text, "auc-table")}
    assert plain(areas["Most salient"][0][0]) == "42.0 38.0 to 46.0"
    gain = areas["Gain of most salient over random"]
    assert [plain(cell[0]) for cell in gain] == ["+11.0 5.0 to 16.0", "−2.0 −6.0 to 2.0"]
    assert 'id="chart-insertion"' in text
    stable = rows(text, "stability-table")
    assert [row[1][0] for row in stable] == ["0.61", "34.0", "80.0"]


def test_examples_have_sound_and_each_arms_words(recipe, text):
    inputs = recipe[0]
    part = re.search(r'<section id="examples".*?</section>', text, re.S).group(0)
    items = re.findall(r"<li>(.*?)</li>", part, re.S)
    assert len(items) == 3  # one for each of two unseen accents, one with a picture
    method, base = (
        read_texts(inputs.decodes(arm, "test_unseen")[0][1])
        for arm in ("saliency_specaug", "specaug")
    )
    for item, accent in zip(items[:2], part_accents(items)):
        utt_id = re.search(r"<bdi>(.*?)</bdi>", item).group(1)
        apart = {u: abs(method[u][1] - base[u][1]) for u in method if u.startswith(accent)}
        assert apart[utt_id] == max(apart.values())
        assert re.findall(r"<h4>(.*?): (\d+) error", item)[:2] == [
            ("Saliency masking + SpecAugment", str(method[utt_id][1])),
            ("SpecAugment", str(base[utt_id][1])),
        ]
        assert item.count("<del>") == sum(map(int, re.findall(r": (\d+) error", item)))
    assert {*part_accents(items)} == {"hindi", "thai"}
    assert "scottish1-0" in items[2] and "<img" in items[2] and 'id="pictures"' not in text
    for uri in re.findall(r'<audio controls [^>]*src="data:audio/mpeg;base64,([^"]+)"', part):
        content = base64.b64decode(uri)
        wave, rate = soundfile.read(io.BytesIO(content))
        assert rate == 16_000 and len(content) < BYTES and abs(len(wave) / rate - 0.75) < 0.2


def part_accents(items: list[str]) -> list[str]:
    return [re.search(r"<bdi>([a-z]+)", item).group(1) for item in items[:2]]


def read_texts(folder) -> dict[str, tuple[str, int]]:
    """Utterance -> (hypothesis, errors), of the files that were scored."""
    lines = (folder / "score_wer/utterances.tsv").read_text("utf-8").splitlines()
    names = lines[0].split("\t")
    table = [dict(zip(names, line.split("\t"))) for line in lines[1:]]
    return {
        row["utt_id"]: (row["hypothesis"], sum(int(row[k]) for k in ("sub", "del", "ins")))
        for row in table
    }


def test_sound_is_cut_resampled_and_never_a_command(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, (20 * 8000, 2)), 8000)
    uri, seconds, cut = encode(str(path))
    assert (seconds, cut) == (20.0, True)
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert rate == 16_000 and wave.ndim == 1 and abs(len(wave) / rate - SECONDS) < 0.2
    assert encode(str(path)) == (uri, seconds, cut)  # the same bytes each time
    marker = tmp_path / "ran"
    assert encode(f"touch {marker} |") is None and not marker.exists()
    path.write_bytes(b"no sound")
    assert encode(str(path)) is None and encode("") is None and encode(str(tmp_path)) is None


def test_utterances_without_sound_are_passed_over_and_counted(tmp_path, recipe):
    table = Path(recipe[0].audio["test_unseen"], "wav.scp").read_text("utf-8")
    (tmp_path / "wav.scp").write_text(re.sub(r"/thai\d-\d.flac", "/gone.flac", table), "utf-8")
    inputs = dataclasses.replace(recipe[0], audio={"test_unseen": tmp_path})
    page = write_report(tmp_path / "report", inputs).read_text("utf-8")
    part = re.search(r'<section id="examples".*?</section>', page, re.S).group(0)
    assert "could not be read: 5." in part and "<bdi>Thai</bdi>" not in part
    assert "<bdi>Hindi</bdi>" in part


def test_learning_curves_are_means_over_seeds(recipe, text):
    shown = rows(text, "curves-table")
    assert len(shown) == 9
    assert [cell[0] for cell in shown[0]] == ["specaug, seed 1", "12", "0.75", "0.75", "12"]
    for name in ("loss-0", "acc-0"):
        chart = re.search(rf'id="chart-{name}".*?</figure>', text, re.S).group(0)
        assert chart.count('class="curve"') == 3
    assert "SpecAugment 95.8" in text  # 1 - 0.5 / 12


def test_a_log_is_read_as_far_as_it_goes(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(
        "# python -m first\n# started 2026-11-23 02:00:00\n"
        "1epoch results: [train] loss=9.0, acc=0.9, [valid] loss_ctc=1, loss=5.5, acc=nan, "
        "cer=0.3, [att_plot] time=1 seconds\n"
        "# srun python -m again --x 'a b'\n# started 2026-11-23 03:00:00\n"
        "1epoch results: [train] loss=8.0, [valid] loss=5.0, acc=0.5\n"
        "2epoch results: [train] loss=8.0, [valid] loss=4.0e+00, total_count=3, acc=0.6\n"
        "3epoch resu",
        "utf-8",
    )
    found = read_log(log)
    assert found.command == "srun python -m again --x 'a b'"
    assert found.epochs[1] == {"loss": 5.0, "acc": 0.5}
    assert found.epochs[2]["loss"] == 4.0 and list(found.epochs) == [1, 2]


def test_the_sweep_has_its_table_and_plot(recipe, text):
    inputs = recipe[0]
    for name in inputs.sets:
        shown = rows(text, f"sweep-{name}")
        for row, truth in zip(shown, inputs.sweep[name], strict=True):
            found = values(row[2:])
            keys = ("rate", "change", "change_low", "p_value", "macro")
            assert found[:5] == [truth[key] for key in keys]
            assert found[5:] == list(truth["accents"].values())
    part = re.search(r'<section id="sweep".*?</section>', text, re.S).group(0)
    assert part.count("data:image/png;base64,") == 1 and "sweep.json" in part


def test_the_probe_answers_and_has_its_numbers(recipe, text):
    one = recipe[0].probe
    part = re.search(r'<section id="probe".*?</section>', text, re.S).group(0)
    assert html.escape(one["answer"], quote=False) in plain(part)
    assert "Warning: test: &lt;b&gt;near&lt;/b&gt; chance" in plain(part)
    assert "SpecAugment on seen accents, 10 speakers" in plain(part)
    assert 'href="probe.json"' in part and 'id="figure-probe' in part
    for row, truth in zip(rows(text, "probe-table"), one["rows"], strict=True):
        groups = truth["groups"]
        assert row[0][1] == truth["order"]
        assert values(row[1:]) == [
            truth["share"], groups["overall"]["more"], *(found["rate"] for found in groups.values())
        ]  # fmt: skip
    shown = iter(rows(text, "probe-differences"))
    for truth in one["salient_minus_random"]:
        for group, found in truth["groups"].items():
            row = next(shown)
            assert row[1][1] == group
            keys = ("absolute", "p_value", "p_holm")
            assert values([row[0], *row[2:]]) == [truth["share"], *(found[key] for key in keys)]
    assert one["answer"] in (recipe[1].parent / "report.md").read_text("utf-8").replace("\\", "")


def test_many_arms_stay_readable(tmp_path, make_recipe):
    arms = {"specaug": 1.0, "saliency_specaug": 0.9, "random_specaug": 1.0}
    arms |= {f"saliency_specaug_mask_ratio_{n}": 1.0 for n in range(5)}
    inputs = make_recipe(tmp_path, arms=arms, seeds=(1, 2), draws=20)
    page = write_report(tmp_path / "exp/report", inputs)
    text = page.read_text("utf-8")
    found = pairs(inputs)
    assert found[:2] == [("saliency_specaug", "specaug"), ("saliency_specaug", "random_specaug")]
    assert len(found) == 7 + 6  # with the baseline, and with the control
    assert all({"specaug", "random_specaug"} & set(pair) for pair in found)
    part = re.search(r'<section id="differences".*?</section>', text, re.S).group(0)
    assert part.count("<summary>") == 2 and part.split("<details>")[0].count("<table") == 2
    legend = re.search(r'id="chart-wer-test">.*?</ul>', text, re.S).group(0)
    assert len(re.findall(r'class="mark s(\d)"', legend)) == 6 and "6 of 8 arms" in legend
    assert all(row[0][0] for row in rows(text, "wer-test")) and len(rows(text, "wer-test")[0]) == 11
    assert len(re.findall(r'id="chart-loss-', text)) == 2  # six arms a chart
    assert page.stat().st_size < 2_000_000


def test_markup_in_columns_notes_and_logs_is_inert(tmp_path, recipe):
    evil = "<script>alert(1)</script>"
    comparison = copy.deepcopy(recipe[0].comparison)
    columns = comparison["sets"]["test"]["wer"]["by"]["columns"]
    columns[evil] = {evil: columns["gender"]["f"]}
    (tmp_path / "train.log").write_text(f"# {evil}\n# started \n", "utf-8")
    comparison["arms"][0]["experiments"][0] = str(tmp_path)
    inputs = dataclasses.replace(
        recipe[0], comparison=comparison, unseen=recipe[0].unseen | {"seen_from": evil}, audio={}
    )
    text = write_report(tmp_path / "report", inputs).read_text("utf-8")
    assert text.count("<script>") == 1 and text.count(html.escape(evil)) >= 4
    said = (tmp_path / "report/report.md").read_text("utf-8")
    assert "&lt;script&gt;" in said


def test_the_markdown_has_the_new_tables(recipe):
    said = recipe[1].with_name("report.md").read_text("utf-8")
    for heading in (
        "By training seed", "Noise and rooms", "Each accent unseen in turn",
        "By length, gender and speaker", "Sweep of settings", "Learning curves",
    ):  # fmt: skip
        assert f"## {heading}\n" in said
    assert "Area" not in said and "Gain of most salient over random" in said


def test_every_link_of_the_whole_page_leads_to_a_file(recipe, text):
    hrefs = set(re.findall(r'<a href="([^"#]+)"', text))
    assert len(hrefs) > 40
    for href in hrefs:
        assert (recipe[1].parent / unquote(html.unescape(href))).exists(), href



def trained(*losses):
    epochs = {n: {"loss": loss} for n, loss in enumerate(losses, 1)}
    return "a", Path("train.log"), TrainingLog("", epochs)


def test_arms_that_had_not_finished_learning():
    # Of ten epochs the last two count: from 10 to 8 is a fall of 20 %, and 2 of 52 is 3.8 % of all.
    falling = trained(60, 50, 40, 30, 25, 20, 15, 10, 9, 8)
    assert unfinished({"a": [falling]}) == {"a": pytest.approx(0.2)}
    # The same, but for 13 %; the same fall, but of 100 to 8 of which 2 is 2.2 %.
    assert unfinished({"a": [trained(60, 50, 40, 30, 25, 20, 15, 10, 9, 8.7)]}) == {}
    assert unfinished({"a": [trained(100, 50, 40, 30, 25, 20, 15, 10, 9, 8)]}) == {}
    # It rose again at the end; too few epochs to tell; no epoch at all.
    assert unfinished({"a": [trained(60, 50, 40, 30, 25, 20, 8, 10, 9, 8.5)]}) == {}
    assert unfinished({"a": [trained(60, 50, 40, 30)], "b": [], "c": [trained()]}) == {}
    # Over seeds the mean counts: 20 % and 0 %.
    flat = trained(60, 50, 40, 30, 25, 20, 15, 10, 10, 10)
    assert unfinished({"a": [falling, flat]}) == {}
    steep = trained(60, 50, 40, 30, 25, 20, 15, 10, 9, 6)
    assert unfinished({"a": [falling, steep], "b": [flat]}) == {"a": pytest.approx(0.3)}
