"""The table, plot and chart of error rates by condition and accent, from a comparison of real scores."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from espnet_saliency.scoring.comparison import ArmDecode, compare
from espnet_saliency.scoring.conditions import (
    condition_chart,
    condition_markdown,
    condition_rows,
    has_conditions,
    label_conditions,
    write_conditions,
)
from espnet_saliency.scoring.score_folder import score_decode

# Share of wrong words by arm and set; the accents are an unknown one, and one with markup.
WRONG = {
    "specaug": {"test": 0.1, "test_noise_0": 0.5, "test_reverb": 0.3},
    "saliency": {"test": 0.1, "test_noise_0": 0.4, "test_reverb": 0.2},
}
ACCENTS = {"a<$^$b|c": 6, "south": 2, "unknown": 5}


def score(folder: Path, arm: str) -> ArmDecode:
    """An arm with exactly the share of wrong words, in sets of thirteen speakers of ten words."""
    speakers = [f"s{n:02d}-{accent[:1]}" for accent, count in ACCENTS.items() for n in range(count)]
    accent_of = dict(zip(speakers, [a for a, count in ACCENTS.items() for _ in range(count)]))
    for name, share in WRONG[arm].items():
        data, decode = folder / "data" / name, folder / arm / "decode" / name
        data.mkdir(parents=True, exist_ok=True)
        decode.mkdir(parents=True)
        tables = {"text": [], "utt2spk": [], "utt2accent": []}
        hypotheses = []
        for speaker in sorted(speakers):
            draw = random.Random(f"{speaker} {name}")
            wrong = set(draw.sample(range(10), round(10 * share)))
            tables["text"].append(f"{speaker}-1 {' '.join(f'w{n}' for n in range(10))}")
            tables["utt2spk"].append(f"{speaker}-1 {speaker}")
            tables["utt2accent"].append(f"{speaker}-1 {accent_of[speaker]}")
            heard = ["x" if n in wrong else f"w{n}" for n in range(10)]
            hypotheses.append(f"{speaker}-1 {' '.join(heard)}")
        for table, lines in tables.items():
            (data / table).write_text("\n".join(lines) + "\n")
        (decode / "text").write_text("\n".join(hypotheses) + "\n")
        score_decode(decode, data, "none")
    return ArmDecode(arm, folder / arm, "decode", tuple(WRONG[arm]), "./run.sh")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditions")
    arms = [score(folder, arm) for arm in WRONG]
    found = compare(arms, "specaug", "digits", draws=200)
    assert not has_conditions(found)
    label_conditions(
        found,
        {"test": ("test", "clean"), "test_noise_0": ("test", "noise_0"),
         "test_reverb": ("test", "reverb")},
    )  # fmt: skip
    return found


def test_sets_say_what_they_are(comparison):
    assert has_conditions(comparison)
    one = comparison["sets"]["test_noise_0"]
    assert (one["of"], one["condition"]) == ("test", "noise_0")


def test_rows_have_every_condition_arm_and_accent(comparison):
    rows = condition_rows(comparison)
    assert len(rows) == 3 * 2 * 4
    assert [r.condition for r in rows[::8]] == ["clean", "noise_0", "reverb"]
    found = {(r.condition, r.arm, r.group): r for r in rows}
    noisy = found["noise_0", "saliency", "overall"]
    assert (noisy.of, noisy.set, noisy.speakers, noisy.words) == ("test", "test_noise_0", 13, 130)
    # by hand: 40 against 10 clean, and against 50 of the baseline
    assert (noisy.rate, noisy.increase, noisy.change) == pytest.approx((40.0, 30.0, -10.0))
    assert noisy.change_low <= -10 <= noisy.change_high and noisy.p_value < 0.05
    base = found["reverb", "specaug", "south"]
    assert (base.rate, base.increase, base.change) == (pytest.approx(30.0), pytest.approx(20.0), None)
    assert base.small and not noisy.small
    assert found["clean", "saliency", ""].increase == 0


def test_markdown(comparison):
    lines = condition_markdown(comparison).splitlines()
    head = "|condition|arm|overall|more|change|p|unknown*|a&lt;$^$b/c*|south*|"
    assert head in lines
    rows = [line.split("|")[1:-1] for line in lines[lines.index(head) + 2 :]]
    assert [row[:2] for row in rows] == [
        ["clean", "specaug"], ["clean", "saliency"], ["noise_0", "specaug"],
        ["noise_0", "saliency"], ["reverb", "specaug"], ["reverb", "saliency"],
    ]  # fmt: skip
    assert rows[3][2].startswith("40.0 (") and rows[3][3] == "+30.0"
    assert rows[3][4].startswith("-10.0 (") and rows[3][6:] == ["40.0", "40.0", "40.0"]
    assert rows[0][3:6] == ["-", "-", "-"]


def test_files(tmp_path, comparison):
    table = write_conditions(tmp_path, comparison)
    assert table == tmp_path / "conditions.md"
    assert table.read_text().startswith("# Conditions, digits\n")
    assert (tmp_path / "conditions.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "conditions.png").stat().st_size > 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conditions.md", "conditions.png"]


@pytest.mark.parametrize("group, whom", [("overall", "all accents"), ("", "unknown accent")])
def test_chart_says_every_number(comparison, group, whom):
    svg = condition_chart(comparison, "test", group)
    tree = ET.fromstring(svg)
    titles = [element.text for element in tree.iter("title")]
    assert titles[0] == f"WER of test by condition, {whom}"
    assert sum("noise_0, specaug: 50.0" in title for title in titles) == 1
    assert len(titles) == 1 + 3 * 2
    assert "reverb, saliency: 20.0 %" in tree.find("desc").text


def test_an_accent_becomes_no_markup_in_the_chart(comparison):
    ET.fromstring(condition_chart(comparison, "test", "a<$^$b|c"))
