from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.score_folder import read_scores, read_table, score_decode


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path):
    return write(
        tmp_path / "data" / "test",
        text="s1-a the cat sat\ns1-b hello world\ns2-a good day\n",
        utt2spk="s1-a s1\ns1-b s1\ns2-a s2\n",
        utt2accent="s1-a scots\ns1-b scots\ns2-a irish\n",
    )


@pytest.fixture
def decode(tmp_path):
    # in another order than the references; the hypothesis of s1-b is empty
    return write(tmp_path / "exp" / "test", text="s2-a good day day\ns1-b \ns1-a the cat sit\n")


def test_files(data, decode):
    scores = score_decode(decode, data)
    assert scores["wer"].counts.tolist() == [[2, 1, 0, 0], [0, 0, 2, 0], [2, 0, 0, 1]]
    wer, cer = decode / "score_wer", decode / "score_cer"
    assert (wer / "utterances.tsv").read_text().split("\n") == [
        "utt_id\tspeaker\taccent\twords\thits\tsub\tdel\tins\treference\thypothesis",
        "s1-a\ts1\tscots\t3\t2\t1\t0\t0\tthe cat sat\tthe cat sit",
        "s1-b\ts1\tscots\t2\t0\t0\t2\t0\thello world\t",
        "s2-a\ts2\tirish\t2\t2\t0\t0\t1\tgood day\tgood day day",
        "",
    ]
    assert (wer / "by_accent.tsv").read_text().split("\n") == [
        "accent\tutterances\tspeakers\twords\thits\tsub\tdel\tins\terrors\trate",
        "overall\t3\t2\t7\t4\t1\t2\t1\t4\t57.1429",
        "irish\t1\t1\t2\t2\t0\t0\t1\t1\t50.0000",
        "scots\t2\t1\t5\t2\t1\t2\t0\t3\t60.0000",
        "",
    ]
    assert (wer / "hyp.trn").read_text() == (
        "the cat sit\t(s1-s1-a)\n\t(s1-s1-b)\ngood day day\t(s2-s2-a)\n"
    )
    assert (cer / "ref.trn").read_text().split("\n")[2] == "g o o d <space> d a y\t(s2-s2-a)"


def test_result_txt_is_read_by_espnets_script(data, decode):
    """show_asr_result.sh takes the line with Avg, and turns bars and blanks into cells."""
    score_decode(decode, data)
    lines = (decode / "score_wer" / "result.txt").read_text().split("\n")
    (line,) = [line for line in lines if "Avg" in line]
    cells = line.replace("Sum/Avg", "").replace("|", " ").split()
    # Snt Wrd Corr Sub Del Ins Err S.Err
    assert cells == ["3", "7", "57.1", "14.3", "28.6", "14.3", "57.1", "100.0"]
    assert len({len(line) for line in lines[1:-1]}) == 1  # columns stand below each other
    assert "text policy none" in lines[0]


def test_read_back_is_what_was_written(data, decode):
    written = score_decode(decode, data, "basic")
    for metric, before in written.items():
        after = read_scores(decode / f"score_{metric}")
        for name in ("metric", "policy", "ids", "speakers", "accents", "references", "hypotheses"):
            assert getattr(after, name) == getattr(before, name)
        assert np.array_equal(after.edits, before.edits)


def test_scoring_again_gives_the_same_bytes(data, decode):
    def content():
        score_decode(decode, data)
        return {p.relative_to(decode): p.read_bytes() for p in decode.rglob("*") if p.is_file()}

    assert content() == content()


def test_policy_applies_to_both_sides(data, decode):
    write(decode, text="s1-a The cat, sat!\ns1-b HELLO world\ns2-a good day\n")
    assert score_decode(decode, data, "none")["wer"].rate().errors == 4
    assert score_decode(decode, data, "basic")["wer"].rate().errors == 0


def test_reference_that_a_policy_empties_keeps_its_insertions(data, decode):
    write(data, text="s1-a the cat sat\ns1-b um\ns2-a good day\n")
    write(decode, text="s1-a the cat sat\ns1-b yes\ns2-a good day\n")
    total = score_decode(decode, data, "english")["wer"].rate()
    assert (total.utterances, total.words, total.insertions) == (3, 5, 1)
    assert read_scores(decode / "score_wer").rate() == total


@pytest.mark.parametrize("accents", ["s1-a scots\ns1-b\n", "s1-a scots\ns1-b unknown\n"])
def test_unknown_accents(data, decode, accents):
    write(data, utt2accent=accents)
    assert score_decode(decode, data)["wer"].accents == ("scots", "", "")
    rows = (decode / "score_wer" / "by_accent.tsv").read_text().split("\n")
    assert [row.split("\t")[:2] for row in rows[2:-1]] == [["unknown", "2"], ["scots", "1"]]
    (data / "utt2accent").unlink()
    score_decode(decode, data)
    rows = (decode / "score_wer" / "by_accent.tsv").read_text().split("\n")
    assert [row.split("\t")[0] for row in rows[1:-1]] == ["overall"]


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ("s1-a x\n", r"2 utterances have no hypothesis \(s1-b, s2-a\)"),
        ("s1-a x\ns1-b x\ns2-a x\ns3-a x\n", r"1 hypotheses have no reference \(s3-a\)"),
        ("s1-a x\ns1-b x\ns1-b y\ns2-a x\n", r"1 ids occur more than once \(s1-b\)"),
        ("s1-a x\ns3 x\n", r"2 utterances have no hypothesis .* and 1 hypotheses have no ref"),
    ],
)
def test_hypotheses_that_do_not_fit(data, decode, hypotheses, message):
    write(decode, text=hypotheses)
    with pytest.raises(UserError, match=message) as caught:
        score_decode(decode, data)
    assert str(decode / "text") in str(caught.value) and "\n" not in str(caught.value)
    assert not (decode / "score_wer").exists()


def test_only_the_first_few_ids_are_named(data, decode):
    write(data, text="".join(f"s1-{n} w\n" for n in range(9)))
    write(decode, text="")
    with pytest.raises(UserError, match=r"9 utterances have no hyp.*\(s1-0, s1-1, s1-2, \.\.\.\)"):
        score_decode(decode, data)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"utt2spk": "s1-a s1\ns1-b s1\n"}, r"1 utterances of text have no speaker \(s2-a\)"),
        ({"utt2accent": "s1-a overall\n"}, "no accent may be called 'overall'"),
        ({"text": "s1-a\ns1-b\ns2-a\n"}, "text: all 3 references are empty: write the words"),
    ],
)
def test_data_that_does_not_fit(data, decode, files, message):
    write(data, **files)
    with pytest.raises(UserError, match=message):
        score_decode(decode, data)


def test_a_policy_that_leaves_no_word_is_named(data, decode):
    write(data, text="s1-a ...\ns1-b !\ns2-a ?\n")
    with pytest.raises(UserError, match="text: text policy 'basic' leaves no word: choose another"):
        score_decode(decode, data, "basic")


def test_missing_and_broken_files(data, decode):
    (decode / "text").write_bytes(b"s1-a caf\xe9\n")
    with pytest.raises(UserError, match="text: .*not UTF-8"):
        score_decode(decode, data)
    (decode / "text").unlink()
    with pytest.raises(UserError, match="text: no such file"):
        score_decode(decode, data)
    with pytest.raises(UserError, match="holds no scores: score the set first"):
        read_scores(decode / "score_wer")


def test_changed_scores_are_refused(data, decode):
    score_decode(decode, data)
    table = decode / "score_wer" / "utterances.tsv"
    table.write_text(table.read_text().replace("the cat sit", "the cat sat"))
    with pytest.raises(UserError, match="s1-a has counts"):
        read_scores(table.parent)


def test_read_table(tmp_path):
    write(tmp_path, table="b  two  words \na\tone\u2028line\nc\nd \n")
    table = read_table(tmp_path / "table")
    assert table == {"b": "two  words", "a": "one\u2028line", "c": "", "d": ""}


def test_a_tab_in_a_speaker_or_a_column_is_a_blank(data, decode):
    write(data, utt2spk="s1-a New\tYork\ns1-b New York\ns2-a s2\n", utt2town="s1-a a\tb\ns1-b c\ns2-a c\n")
    score_decode(decode, data)
    scores = read_scores(decode / "score_wer")
    assert scores.speakers == ("New York", "New York", "s2") and scores.columns["town"] == ("a b", "c", "c")


@pytest.mark.parametrize(
    "name, damage",
    [
        ("scoring.json", lambda text: text[:5]),
        ("scoring.json", lambda text: "[]"),
        ("utterances.tsv", lambda text: text.replace("\tins\t", "\tother\t")),
        ("utterances.tsv", lambda text: text + text.splitlines(keepends=True)[1]),
        ("utterances.tsv", lambda text: text.replace("s1-b\t", "s1-b ", 1)),
    ],
)
def test_damaged_scores_are_one_line(data, decode, name, damage):
    score_decode(decode, data)
    path = decode / "score_wer" / name
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match="score_wer: utterances.tsv or scoring.json is damaged: score the set again"):
        read_scores(path.parent)
