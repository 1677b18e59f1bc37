"""LibriSpeech: parts, order, what is rejected, and that it streams."""

from __future__ import annotations

import gc
import re
import tracemalloc

import pytest
from espnet_saliency.corpora.librispeech import Options, prepare
from espnet_saliency.errors import UserError
from fixtures import make_librispeech

THREE = ("train-clean-100", "train-clean-360", "train-other-500")


def read(root, options=Options()):
    corpus = prepare(root, options, seed=1)
    return corpus, {name: list(utterances) for name, utterances in corpus.sets.items()}


def test_sets_of_the_publisher(tmp_path):
    root = make_librispeech(tmp_path, speakers=2, utterances=3)
    corpus, sets = read(root)
    assert {name: len(s) for name, s in sets.items()} == {
        "train": 6,
        "dev": 12,
        "test_clean": 6,
        "test_other": 6,
    }
    assert corpus.rejected == [] and corpus.excluded == []
    first = sets["train"][0]
    assert first.utt_id == "1034-1121-0000" and first.speaker == "1034" and first.accent == ""
    assert first.path == root / "train-clean-100" / "1034" / "1121" / "1034-1121-0000.flac"
    assert first.path.is_file() and first.path.is_absolute()
    line = (first.path.parent / "1034-1121.trans.txt").read_text().splitlines()[0]
    assert line == f"1034-1121-0000 {first.text}"


def test_parts_are_merged_in_the_order_of_ids(tmp_path):
    root = make_librispeech(tmp_path, parts=(*THREE, "dev-clean"), speakers=3, utterances=2)
    _, sets = read(root, Options(("960h",), ("dev-clean",), ()))
    ids = [u.utt_id for u in sets["train"]]
    assert ids == sorted(ids) and len(ids) == 18
    # Speakers of the three parts alternate, so that one part after the other would not be sorted.
    parts = [u.path.parts[-4] for u in sets["train"]]
    assert parts != sorted(parts)
    assert list(sets) == ["train", "dev"]


def test_losses_are_listed_and_counted(tmp_path):
    root = make_librispeech(tmp_path, speakers=1, utterances=3, broken=True)
    corpus, sets = read(root)
    reasons = {r.utt_id: r.reason for r in corpus.rejected}
    assert reasons == {
        "7-121-9000": "no audio: listed in 7-121.trans.txt",
        "7-121-9001": "no text: 7-121.trans.txt",
        "7-121-9002": "no transcript: not in 7-121.trans.txt",
    }
    listed = {
        line.split()[0]
        for table in root.rglob("*.trans.txt")
        for line in table.read_text().splitlines()
    }
    found = listed | {path.stem for path in root.rglob("*.flac")}
    assert len(found) == sum(map(len, sets.values())) + len(corpus.rejected)


def test_duplicate_id_and_missing_transcript_file(tmp_path):
    root = make_librispeech(tmp_path, speakers=2, utterances=1)
    table = root / "train-clean-100" / "7" / "121" / "7-121.trans.txt"
    table.write_text(table.read_text() * 2)
    (root / "train-clean-100" / "1034" / "1121" / "1034-1121.trans.txt").unlink()
    corpus, sets = read(root)
    assert [u.utt_id for u in sets["train"]] == ["7-121-0000"]
    assert {(r.utt_id, r.reason.partition(":")[0]) for r in corpus.rejected} == {
        ("7-121-0000", "duplicate id"),
        ("1034-1121-0000", "no transcript"),
    }


@pytest.mark.parametrize("level", ["LibriSpeech", ".", "LibriSpeech/dev-clean"])
def test_one_level_above_or_below_will_do(tmp_path, level):
    make_librispeech(tmp_path, speakers=1, utterances=1)
    _, sets = read(tmp_path / level)
    assert len(sets["train"]) == 1


def test_what_is_missing_is_named(tmp_path):
    root = make_librispeech(
        tmp_path, parts=("train-clean-100", "dev-clean"), speakers=1, utterances=1
    )
    with pytest.raises(UserError, match="no folder dev-other"):
        prepare(root, Options(), 1)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        prepare(tmp_path / "nowhere", Options(), 1)
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(UserError, match=r"train-clean-100, dev-clean\) there, nor one level"):
        prepare(tmp_path / "empty" / "below", Options(("100h",), ("dev-clean",), ()), 1)
    with pytest.raises(UserError, match="dev-clean is named twice"):
        prepare(root, Options(("dev-clean",), ("dev-clean",), ()), 1)
    (root / "dev-other").mkdir()
    with pytest.raises(UserError, match=r"dev-other: no folders of speakers"):
        prepare(root, Options(("100h",), ("dev-clean", "dev-other"), ()), 1)


def test_two_copies_below_are_ambiguous(tmp_path):
    make_librispeech(tmp_path / "a", speakers=1, utterances=1)
    (tmp_path / "a" / "LibriSpeech").rename(tmp_path / "one")
    make_librispeech(tmp_path / "a", speakers=1, utterances=1)
    (tmp_path / "a" / "LibriSpeech").rename(tmp_path / "two")
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'one'}, {tmp_path / 'two'}")):
        prepare(tmp_path, Options(), 1)


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    def peak(speakers):
        part = tmp_path / str(speakers) / "train-clean-100"
        for s in range(speakers):
            chapter = part / str(s) / "1"
            chapter.mkdir(parents=True, exist_ok=True)
            names = [f"{s}-1-{n:04d}" for n in range(50)]
            for name in names:
                (chapter / f"{name}.flac").touch()
            (chapter / f"{s}-1.trans.txt").write_text("".join(f"{n} SOME TEXT\n" for n in names))
        options = Options(("100h",), (), ())
        tracemalloc.start()
        assert sum(1 for _ in prepare(part.parent, options, 1).sets["train"]) == 50 * speakers
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    # With much in memory (torch, from another test) Python puts off collecting cycles.
    gc.collect()
    gc.freeze()
    gc.collect()
    try:
        peak(2)
        # Python's table of interned strings may double under way, once.
        assert min(peak(100), peak(100)) < 1.3 * peak(10) + 50_000
    finally:
        gc.unfreeze()
