"""CommonAccent: the published lists with audio found by its tail, and a Common Voice release."""

from __future__ import annotations

import csv
import shutil
from collections import Counter

import pytest
from espnet_saliency.corpora.commonaccent import (
    RELEASE_LABELS,
    AudioByTail,
    Options,
    parse_accents,
    prepare,
)
from espnet_saliency.errors import UserError
from fixtures import (
    COMMONACCENT_LABELS,
    COMMONVOICE_ACCENTS,
    make_commonaccent_lists,
    make_commonvoice_en,
)


def read(root, options=Options(), seed=1):
    corpus = prepare(root, options, seed)
    return corpus, {name: list(utterances) for name, utterances in corpus.sets.items()}


def test_lists(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(2, 1, 1))
    corpus, sets = read(root)
    assert {name: len(s) for name, s in sets.items()} == {"train": 32, "dev": 16, "test": 16}
    assert (
        {u.accent for u in sets["train"]}
        == set(COMMONACCENT_LABELS)
        == set(RELEASE_LABELS.values())
    )
    assert all(u.path.is_file() and u.path.name[:-4] in u.utt_id for s in sets.values() for u in s)
    assert all(u.speaker == u.utt_id for u in sets["train"])
    with open(root / "data" / "en_cv7" / "test.csv", newline="") as handle:
        published = [(row["utt_id"], row["text"]) for row in csv.DictReader(handle)]
    assert [(u.utt_id, u.text) for u in sets["test"]] == published
    assert sets["train"][0].text == sets["train"][0].text.upper()
    assert any("no speakers" in note for note in corpus.notes) and corpus.rejected == []


def test_broken_rows_of_lists_are_listed(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us", "wales"), broken=True)
    corpus, sets = read(root)
    assert {r.utt_id: r.reason.partition(":")[0] for r in corpus.rejected} == {
        "absent": "no audio sample-888888.mp3 under the corpus folder",
        "textless": "no text",
        "quote": "5 fields where the header has 7 (a stray separator or quote)",
    }
    # The clip of zero bytes is seen where the headers are read.
    assert [u.utt_id for u in sets["train"]][2:] == ["empty"]


@pytest.mark.parametrize(
    "place",
    [
        "cv-valid-train",
        "cv_corpus_v1/cv-valid-train",
        "a/b/cv-valid-train",
        "cv-valid-train/cv-valid-train",
        "cv-valid-train/sample-00",
        "a/cv-valid-train/sample-00",
    ],
)
def test_audio_is_found_by_its_tail(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "cv-valid-test").mkdir()
    for folder in (tmp_path / place, tmp_path / "cv-valid-test"):
        for n in (1, 2):
            (folder / f"sample-00000{n}.mp3").touch()
    find = AudioByTail(tmp_path)
    for n in (1, 2):
        wav = f"/remote/svm/CommonVoice/cv-valid-train/sample-00/sample-00000{n}.mp3"
        assert find(wav) == tmp_path / place / f"sample-00000{n}.mp3"
    # The clip of this name in another folder is another clip.
    (tmp_path / "cv-valid-test" / "sample-000003.mp3").touch()
    assert find("/remote/CommonVoice/cv-valid-train/sample-00/sample-000003.mp3") is None
    assert find("") is None


def test_audio_folder_itself_may_be_the_corpus_folder(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us", "wales"))
    options = Options(lists_dir=root / "data" / "en_cv7")
    assert len(read(root / "cv_corpus_v1" / "cv-valid-train", options)[1]["train"]) == 2
    assert len(read(root / "cv_corpus_v1", options)[1]["train"]) == 2


def test_audio_in_two_places_is_ambiguous(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    shutil.copytree(root / "cv_corpus_v1", root / "copy")
    with pytest.raises(
        UserError, match="is in .*copy/cv-valid-train and in .*cv_corpus_v1/cv-valid-train"
    ):
        prepare(root, Options(), 1)


def test_lists_without_audio_or_columns(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    shutil.rmtree(root / "cv_corpus_v1")
    with pytest.raises(UserError, match="train.csv: none of its clips is under"):
        prepare(root, Options(), 1)
    for table in (root / "data" / "en_cv7").iterdir():
        table.write_text("ID,utt_id,wav,text\n")
    with pytest.raises(UserError, match="no folder with train.csv, dev.csv and test.csv"):
        prepare(root, Options(source="lists"), 1)
    with pytest.raises(UserError, match="no folder en with train.tsv"):
        prepare(root, Options(), 1)


def test_two_folders_of_lists(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    shutil.copytree(root / "data", root / "data2")
    with pytest.raises(UserError, match="several folders with lists, name one by --lists_dir"):
        prepare(root, Options(), 1)
    assert read(root, Options(lists_dir=root / "data2" / "en_cv7"))[1]["train"]


@pytest.mark.parametrize(
    "stated, labels",
    [
        ("United States English", {"us"}),
        ("india and south asia (India, Pakistan, Sri Lanka)", {"indian"}),
        ("United States English,Midwestern,Low", {"us"}),
        ("England English|Scottish English", {"england", "scotland"}),
        (
            "West Indies and Bermuda (Bahamas, Bermuda, Jamaica, Trinidad),Filipino",
            {"bermuda", "philippines"},
        ),
        ("england", {"england"}),  # releases up to 6
        ("German English,Non native speaker", set()),
        ("", set()),
    ],
)
def test_accents_of_a_release(stated, labels):
    assert parse_accents(stated) == labels


def test_release(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=10, clips=3)
    corpus, sets = read(root)
    assert {name: len(s) for name, s in sets.items()} == {"train": 96, "dev": 12, "test": 12}
    speakers = {name: {u.speaker for u in s} for name, s in sets.items()}
    assert sum(map(len, speakers.values())) == len(set().union(*speakers.values())) == 40
    for s in sets.values():
        assert {u.accent for u in s} == {RELEASE_LABELS[name] for name in COMMONVOICE_ACCENTS}
        assert [u.utt_id for u in s] == sorted(u.utt_id for u in s)
        assert all(u.utt_id.startswith(f"{u.speaker}-common_voice_en_") for u in s)
    assert all("." in u.text for u in sets["test"]) and not any(
        "." in u.text for u in sets["train"]
    )
    assert Counter(r.reason for r in corpus.excluded) == {
        "no accent, or none of the sixteen": 2,
        "several accents: england, scotland": 1,
    }
    assert len(corpus.excluded) == 3
    assert "release 17.0" in corpus.notes[0]


def test_selection_does_not_depend_on_the_order_of_rows(tmp_path):
    first = make_commonvoice_en(tmp_path / "a", speakers=4, clips=4, seed=1)
    second = make_commonvoice_en(tmp_path / "b", speakers=4, clips=4, seed=2)
    tables = [root / "en" / "validated.tsv" for root in (first, second)]
    assert tables[0].read_bytes() != tables[1].read_bytes()
    options = Options(max_clips=10)
    (corpus, sets), (_, others) = read(first, options), read(second, options)
    assert {n: [u.utt_id for u in s] for n, s in sets.items()} == {
        n: [u.utt_id for u in s] for n, s in others.items()
    }
    assert Counter(u.accent for s in sets.values() for u in s) == dict.fromkeys(
        ("us", "england", "philippines", "indian"), 10
    )
    left_out = Counter(r.reason for r in corpus.excluded)
    assert left_out["beyond 10 clips of an accent"] == 24 and left_out.total() == len(
        corpus.excluded
    )
    another = read(first, options, seed=2)[1]
    assert [u.utt_id for u in another["train"]] != [u.utt_id for u in sets["train"]]


def test_broken_and_double_rows_of_a_release(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=4, clips=2, broken=True)
    table = root / "en" / "validated.tsv"
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    double = next(line for line in lines if "England English\t" in line)
    table.write_text("\r\n".join([*lines, double]) + "\r\n")
    corpus, sets = read(root)
    assert {r.utt_id: r.reason.partition(":")[0] for r in corpus.rejected} == {
        "tab_validated": "14 fields where the header has 13 (a stray separator or quote)",
        "mute_validated": "no text",
    }
    assert sum(r.reason.startswith("duplicate id") for r in corpus.excluded) == 1
    rows = len(lines) - 1 + 1
    assert rows == sum(map(len, sets.values())) + len(corpus.rejected) + len(corpus.excluded)
    assert len(corpus.excluded) == len(list(corpus.excluded))


def test_without_validated_the_three_tables_are_taken(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=4, clips=2, release="5.1")
    lines = (root / "en" / "validated.tsv").read_text().splitlines()
    for n, name in enumerate(("train", "dev", "test")):
        (root / "en" / f"{name}.tsv").write_text("\n".join([lines[0], *lines[1 + n :: 3]]) + "\n")
    whole = read(root)[1]
    (root / "en" / "validated.tsv").unlink()
    assert read(root)[1] == whole


def test_unseen_accents(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=6, clips=2)
    whole = read(root)[1]
    corpus, sets = read(root, Options(unseen_accents=("Indian",)))
    assert "indian" not in {u.accent for name in ("train", "dev", "test") for u in sets[name]}
    assert sets["test_unseen"] == [u for u in whole["test"] if u.accent == "indian"]
    with pytest.raises(UserError, match="--unseen_accents klingon: no utterance has this accent"):
        prepare(root, Options(unseen_accents=("klingon",)), 1)


def test_lists_are_preferred_and_the_source_can_be_named(tmp_path):
    make_commonvoice_en(tmp_path, speakers=3, clips=1)
    make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    assert len(read(tmp_path)[1]["train"]) == 1
    assert len(read(tmp_path, Options(source="release"))[1]["train"]) == 4
    with pytest.raises(UserError, match="--source wikipedia: one of auto, lists, release"):
        prepare(tmp_path, Options(source="wikipedia"), 1)


def test_options_are_checked(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=3, clips=1)
    for options, message in [
        (Options(max_clips=0), "--max_clips 0"),
        (Options(split_shares=(0.5, 0.5)), "--split_shares 0.5 0.5: three shares"),
        (Options(text_policy="shouting"), "--text_policy shouting"),
    ]:
        with pytest.raises(UserError, match=message):
            prepare(root, options, 1)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prepare(tmp_path / "nowhere", Options(), 1)
    table = root / "en" / "validated.tsv"
    table.write_text(
        table.read_text(encoding="utf-8-sig")
        .replace("English", "Elvish")
        .replace("india", "x")
        .replace("India", "x")
        .replace("Filipino", "x")
        .replace("filipino", "x")
        .replace("english", "x")
    )
    with pytest.raises(UserError, match="no clip has one of the accents"):
        prepare(root, Options(), 1)
