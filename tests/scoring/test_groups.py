"""Rates by length, speaker and the columns of the data."""

from __future__ import annotations

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.groups import groupings, length_class, rates_by_column
from espnet_saliency.scoring.score_folder import read_scores, score_decode

TEXT = {
    "a-1": "one two three",
    "a-2": "one",
    "b-1": "one two three four five six",
    "c-1": "one two",
}
HYPOTHESIS = {"a-1": "one two", "a-2": "one", "b-1": "one two three four", "c-1": "two two"}
GENDER = {"a-1": "f", "a-2": "f", "b-1": "m", "c-1": "unknown"}


@pytest.fixture
def decoded(tmp_path):
    data, folder = tmp_path / "data", tmp_path / "decode"
    for where in (data, folder):
        where.mkdir()
    (data / "text").write_text("".join(f"{i} {t}\n" for i, t in TEXT.items()))
    (data / "utt2spk").write_text("".join(f"{i} {i[0]}\n" for i in TEXT))
    (data / "utt2gender").write_text("".join(f"{i} {g}\n" for i, g in GENDER.items()))
    (data / "utt2dur").write_text("".join(f"{i} 1.0\n" for i in TEXT))
    (folder / "text").write_text("".join(f"{i} {t}\n" for i, t in HYPOTHESIS.items()))
    return data, folder


def test_columns_of_the_data_come_back_from_disk(decoded):
    data, folder = decoded
    score_decode(folder, data)
    scores = read_scores(folder / "score_wer")
    assert scores.columns == {"gender": ("f", "f", "m", "")}  # durations are no groups
    header = (folder / "score_wer" / "utterances.tsv").read_text().splitlines()[0]
    assert header.endswith("reference\thypothesis\tgender")


def test_rates_by_hand(decoded):
    data, folder = decoded
    scores = score_decode(folder, data)["wer"]
    found = rates_by_column({"base": [scores], "twin": [scores]}, draws=100, seed=1, level=0.95)
    by = found["columns"]
    assert list(by) == ["length", "gender", "speaker"]
    assert list(by["length"]) == ["1-2", "3-5", "6-10"]
    assert by["length"]["1-2"]["arms"]["base"]["rate"] == pytest.approx(100 / 3)  # a-2, c-1
    assert by["gender"]["f"]["arms"]["base"]["rate"] == 25.0  # one of four words
    assert by["gender"]["m"]["arms"]["base"]["rate"] == pytest.approx(100 * 2 / 6)
    assert by["gender"][""]["words"] == 2
    assert by["gender"]["f"]["arms"]["base"]["low"] is None  # a single speaker
    assert by["speaker"]["a"]["utterances"] == 2
    assert by["speaker"]["a"]["arms"]["twin"]["relative"] == 0.0
    assert by["length"]["1-2"]["arms"]["base"]["low"] == 0.0  # two speakers


def test_a_column_of_free_text_is_left_out_and_named(decoded, tmp_path):
    data, folder = decoded
    (data / "text").write_text("".join(f"a-{n:03} one\n" for n in range(60)))
    (data / "utt2spk").write_text("".join(f"a-{n:03} a\n" for n in range(60)))
    (data / "utt2gender").write_text("".join(f"a-{n:03} f\n" for n in range(60)))
    (data / "utt2stated").write_text("".join(f"a-{n:03} my own words {n}\n" for n in range(60)))
    (folder / "text").write_text("".join(f"a-{n:03} one\n" for n in range(60)))
    found, left_out = groupings(score_decode(folder, data)["wer"])
    assert left_out == ["stated"]
    assert list(found) == ["length", "speaker"]  # everybody is of one gender


def test_a_table_that_lacks_an_utterance_is_refused(decoded):
    data, folder = decoded
    (data / "utt2gender").write_text("a-1 f\n")
    with pytest.raises(UserError, match="utt2gender: 3 utterances of text are missing, the first a-2"):
        score_decode(folder, data)
    (data / "utt2gender").unlink()
    (data / "utt2words").write_text("".join(f"{i} x\n" for i in TEXT))
    with pytest.raises(UserError, match="may not be called 'words'"):
        score_decode(folder, data)


def test_classes_of_length():
    assert [length_class(n) for n in (0, 1, 2, 3, 5, 6, 10, 11, 20, 21, 400)] == [
        "0", "1-2", "1-2", "3-5", "3-5", "6-10", "6-10", "11-20", "11-20", "21+", "21+",
    ]  # fmt: skip
