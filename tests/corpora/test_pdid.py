"""PDID: columns by name or by guess, audio wherever it is, splits that share no speaker."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from espnet_saliency.corpora.pdid import Options, prepare
from espnet_saliency.errors import UserError
from fixtures import make_pdid


@pytest.mark.parametrize(
    "columns, table",
    [
        (("path", "text", "speaker", "accent"), "pdid.tsv"),
        (("audio", "sentence", "speaker_id", "dialect"), "metadata.csv"),
        (("file_name", "transcript", "client_id", "accent"), "all.csv"),
        (("File_Name", "Text", "Speaker", "Dialect"), "all.csv"),
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path, columns, table):
    root = make_pdid(tmp_path, speakers=4, utterances=2, columns=columns, table=table)
    corpus = prepare(root, Options(), 1)
    assert {name: len(s) for name, s in corpus.sets.items()} == {"train": 16, "dev": 8, "test": 8}
    assert corpus.notes[0].startswith(f"{table}: path = {columns[0]}, text = {columns[1]}")
    for s in corpus.sets.values():
        assert Counter(u.accent for u in s) == {
            accent: len(s) // 4 for accent in ("Tehrani", "Isfahani", "Shirazi", "Yazdi")
        }
        assert all(u.path.is_file() and u.utt_id.startswith(f"{u.speaker}-") for u in s)
    speakers = [{u.speaker for u in s} for s in corpus.sets.values()]
    assert len(set().union(*speakers)) == sum(map(len, speakers)) == 16


def test_columns_named_by_the_user(tmp_path):
    root = make_pdid(tmp_path, speakers=3, utterances=1, columns=("clip", "said", "who", "from"))
    with pytest.raises(
        UserError, match="no table .* with columns for path, text, speaker and accent"
    ):
        prepare(root, Options(), 1)
    named = Options(
        path_column="clip", text_column="said", speaker_column="who", accent_column="from"
    )
    assert sum(len(s) for s in prepare(root, named, 1).sets.values()) == 12
    with pytest.raises(
        UserError,
        match="no column for the speaker .*it has clip, said, who, from: name it with "
        "--speaker_column NAME",
    ):
        prepare(root, Options(path_column="clip", text_column="said", accent_column="from"), 1)


def test_training_text_is_normalised_and_test_text_is_not(tmp_path):
    corpus = prepare(make_pdid(tmp_path), Options(), 1)
    arabic_yeh = "\u064a"
    assert not any(arabic_yeh in u.text for name in ("train", "dev") for u in corpus.sets[name])
    assert any(arabic_yeh in u.text for u in corpus.sets["test"])
    raw = prepare(tmp_path / "PDID", Options(text_policy="none"), 1)
    assert any(arabic_yeh in u.text for u in raw.sets["train"])


def test_splits_of_the_table_are_kept(tmp_path):
    root = make_pdid(tmp_path, splits=True)
    corpus = prepare(root, Options(), 1)
    assert {name: len(s) for name, s in corpus.sets.items()} == {"train": 48, "dev": 16, "test": 16}
    rows = [line.split(",") for line in (root / "metadata.csv").read_text().splitlines()[1:]]
    train = {row[0] for row in rows if row[-1] == "train"}
    assert {u.path.name for u in corpus.sets["train"]} == train


def test_broken_rows_are_listed(tmp_path):
    root = make_pdid(tmp_path, broken=True)
    corpus = prepare(root, Options(), 1)
    assert {
        r.utt_id.split("-")[-1]: r.reason.partition(":")[0] for r in corpus.rejected
    } == {
        "absent.wav": "no file",
        "mute.wav": "empty text",
        "stray.wav": "5 fields where the header has 4 (a stray separator or quote)",
    }
    rows = len((root / "metadata.csv").read_text().splitlines()) - 1
    assert rows == sum(map(len, corpus.sets.values())) + len(corpus.rejected)


def test_a_text_without_a_word_is_no_training_text(tmp_path):
    root = make_pdid(tmp_path, speakers=3, utterances=1)
    table = root / "metadata.csv"
    text = table.read_text().splitlines()
    text[1:] = [
        ",".join([line.split(",")[0], "«؟»", *line.split(",")[2:]])
        if "_00.wav," in line and line.startswith("0")
        else line
        for line in text[1:]
    ]
    table.write_text("\n".join(text))
    corpus = prepare(root, Options(), 1)
    # One of the three speakers of the first dialect is in test, where the text is the publisher's.
    assert [r.reason for r in corpus.rejected] == ["no text: no word in it"] * 2
    assert "«؟»" in {u.text for u in corpus.sets["test"]}


def test_seed_and_unseen_accents(tmp_path):
    root = make_pdid(tmp_path, speakers=8, utterances=1)

    def speakers(**options):
        seed = options.pop("seed", 1)
        return {
            n: {u.speaker for u in s}
            for n, s in prepare(root, Options(**options), seed).sets.items()
        }

    assert speakers() == speakers() != speakers(seed=2)
    held = speakers(unseen_accents=("yazdi",))
    assert held["test_unseen"] == {s for s in speakers()["test"] if s.startswith("spk3")}
    assert not any(s.startswith("spk3") for name in ("train", "dev", "test") for s in held[name])


@pytest.mark.parametrize("level", ["PDID", ".", "PDID/wavs"])
def test_one_level_above_or_below(tmp_path, level):
    make_pdid(tmp_path, speakers=3, utterances=1)
    assert len(prepare(tmp_path / level, Options(), 1).sets["train"]) == 4


def test_table_in_a_folder_of_its_own(tmp_path):
    root = make_pdid(tmp_path, speakers=3, utterances=1)
    (root / "lists").mkdir()
    (root / "metadata.csv").rename(root / "lists" / "metadata.csv")
    with pytest.raises(UserError, match="none of the files that its column file_name names"):
        prepare(root, Options(), 1)
    assert prepare(root, Options(audio_dir=root / "wavs"), 1).sets["train"]
    assert prepare(root, Options(table=Path("lists/metadata.csv")), 1).sets["train"]
    with pytest.raises(UserError, match="--table lists/nothing.csv: no such file"):
        prepare(root, Options(table=Path("lists/nothing.csv")), 1)


def test_several_tables(tmp_path):
    root = make_pdid(tmp_path, speakers=3, utterances=1)
    (root / "notes.csv").write_text("date,remark\n")
    assert prepare(root, Options(), 1).sets["train"]
    shutil.copy(root / "metadata.csv", root / "old.csv")
    with pytest.raises(
        UserError, match=r"several tables \(metadata.csv, old.csv\): name one with --table"
    ):
        prepare(root, Options(), 1)
    assert prepare(root, Options(table=Path("old.csv")), 1).sets["train"]
