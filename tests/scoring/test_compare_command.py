"""`python -m espnet_saliency.scoring.compare` on finished experiments and on other toolkits' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.compare import main
from espnet_saliency.scoring.score_folder import score_decode
from espnet_saliency.scoring.transcripts import read_labels, read_transcripts

REFERENCE = {"s1-a": "hello world", "s2-b": "good day sir", "s3-c": "many thanks"}
ERRORS = {"s1-a": "hello word", "s2-b": "good day", "s3-c": "many many thanks"}  # 1 S, 1 D, 1 I
STM = """;; a comment
talk 1 ann 0.00 1.50 <o,f1,female> hello world
talk 1 bob 1.50 3.25 good day sir
talk 1 bob 3.25 4.00 IGNORE_TIME_SEGMENT_IN_SCORING
"""


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ref").write_text("".join(f"{i} {text}\n" for i, text in REFERENCE.items()))
    Path("good.trn").write_text("".join(f"{text} ({i})\n" for i, text in REFERENCE.items()))
    Path("bad.trn").write_text("".join(f"{text} ({i})\n" for i, text in ERRORS.items()))
    Path("utt2spk").write_text("s1-a s1\ns2-b s2\ns3-c s3\n")
    Path("accents.csv").write_text("speaker,accent\ns1,north\ns2,south\ns3,south\n")
    return tmp_path


def compared(*arguments: str) -> dict:
    assert main(["--out", "out", "--draws", "50", *arguments]) == 0
    return json.loads(Path("out/comparison.json").read_text())


def test_files_of_other_toolkits(files):
    found = compared(
        *("--reference", "ref", "--speakers", "utt2spk", "--accents", "accents.csv"),
        *("base=bad.trn", "ours=good.trn"),
    )
    wer = found["sets"]["test"]["wer"]
    base = wer["arms"]["base"]["groups"]
    assert (base["overall"]["words"], base["overall"]["errors"]) == (7, 3)
    assert (base["overall"]["sub"], base["overall"]["del"], base["overall"]["ins"]) == (1, 1, 1)
    assert base["north"]["rate"] == 50.0 and base["south"]["rate"] == 40.0
    assert wer["arms"]["ours"]["groups"]["overall"]["rate"] == 0
    assert found["baseline"] == "base"
    page = Path("out/index.html").read_text()
    assert "seen accents" not in page and "30" in page


def test_a_name_given_twice_is_one_system_with_two_seeds(files):
    Path("copy.trn").write_text(Path("good.trn").read_text())
    found = compared("--reference", "ref", "x=good.trn", "x=bad.trn", "y=good.trn", "y=copy.trn")
    assert found["seeds"] == [1, 2]
    rates = found["sets"]["test"]["wer"]["arms"]["x"]["groups"]["overall"]["seeds"]["rates"]
    assert rates == [0.0, pytest.approx(300 / 7)]


def test_two_files_of_one_name_are_two_systems_and_want_names(files, capsys):
    for folder in ("lab1", "lab2"):
        Path(folder).mkdir()
        Path(folder, "hyp.trn").write_text(Path("good.trn").read_text())
    assert main(["--out", "out", "--reference", "ref", "lab1/hyp.trn", "lab2/hyp.trn"]) == 2
    assert "2 systems would be called hyp: name them, e.g. ours=PATH theirs=PATH" in capsys.readouterr().err
    found = compared("--reference", "ref", "one=lab1/hyp.trn", "two=lab2/hyp.trn")
    assert [arm["name"] for arm in found["arms"]] == ["one", "two"] and found["seeds"] == []
    # A file's own name may have a "=" in it.
    Path("lr=0.1.trn").write_text(Path("bad.trn").read_text())
    assert [arm["name"] for arm in compared("--reference", "ref", "good.trn", "lr=0.1.trn")["arms"]][1] == "lr=0.1"


def test_other_columns_are_scored_by_utterance_or_speaker(files, capsys):
    Path("columns.csv").write_text("speaker,gender,first language\ns1,f,Urdu\ns2,m,\ns3,m,Urdu\n")
    arguments = ["--reference", "ref", "--speakers", "utt2spk", "--columns", "columns.csv", "bad.trn"]
    assert main(["--out", "out", *arguments]) == 2
    assert "columns.csv: column id 'first language'" in capsys.readouterr().err
    Path("columns.csv").write_text("speaker,gender,l1\ns1,f,Urdu\ns2,m,\ns3,m,Urdu\n")
    columns = compared(*arguments)["sets"]["test"]["wer"]["by"]["columns"]
    assert {value: group["arms"]["bad"]["rate"] for value, group in columns["gender"].items()} == {
        "f": 50.0, "m": 40.0
    }  # fmt: skip
    assert columns["l1"]["Urdu"]["words"] == 4 and columns["l1"][""]["words"] == 3
    assert "has a l1 for 2 of 3 utterances; the others (s2-b) are shown as unknown" in capsys.readouterr().err


def test_the_users_own_folders_are_left_alone(files, capsys):
    data = Path("data/test")
    data.mkdir(parents=True)
    kept = {"text": Path("ref").read_text(), "utt2spk": Path("utt2spk").read_text(), "utt2accent": "s1-a x\n"}
    for name, text in kept.items():
        (data / name).write_text(text)
    assert main(["--out", ".", "--draws", "50", "--reference", "data/test/text", "good.trn", "bad.trn"]) == 0
    assert {path.name: path.read_text() for path in data.iterdir()} == kept
    # Nor is what was scored before taken for an input and replaced.
    mine = "compared/systems/1/decode/test/text"
    assert main(["--out", ".", "--reference", "ref", mine, "bad.trn"]) == 2
    assert f"{mine}: lies in compared, which is written anew: name another folder with --out" in capsys.readouterr().err
    assert Path(mine).exists()


def test_finished_experiments(files):
    data = files / "data" / "test"
    data.mkdir(parents=True)
    (data / "text").write_text(Path("ref").read_text())
    (data / "utt2spk").write_text(Path("utt2spk").read_text())
    for name, texts in (("asr_a", ERRORS), ("asr_b", REFERENCE)):
        folder = files / "exp" / name / "decode" / "test"
        folder.mkdir(parents=True)
        (folder / "text").write_text("".join(f"{i} {text}\n" for i, text in texts.items()))
        score_decode(folder, data, "none")
    found = compared("exp/asr_a", "exp/asr_b/decode", "--baseline", "asr_b")
    assert [arm["name"] for arm in found["arms"]] == ["asr_a", "asr_b"]
    assert found["baseline"] == "asr_b"
    arms = found["sets"]["test"]["wer"]["arms"]
    assert arms["asr_a"]["groups"]["overall"]["errors"] == 3


def test_mistakes_are_one_line_that_names_the_file(files, capsys):
    def told(*arguments: str) -> str:
        assert main(["--out", "out", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        return line

    Path("short").write_text("s1-a hello\n")
    Path("more.trn").write_text(Path("good.trn").read_text() + "hi (s9-z)\n")
    assert "short, scored against ref: 2 utterances have no hypothesis (s2-b, s3-c)" in told(
        "--reference", "ref", "short"
    )
    assert "1 hypotheses have no reference (s9-z)" in told("--reference", "ref", "more.trn")
    Path("empty").write_text("")
    assert "empty: no utterance in it" in told("--reference", "empty", "--accents", "accents.csv", "good.trn")
    assert "nothing.trn: no such file" in told("--reference", "ref", "nothing.trn")
    assert "no such experiment folder" in told("exp/none")
    assert "--accents goes with --reference" in told("--accents", "accents.csv", "exp/none")
    Path("other.csv").write_text("speaker,dialect\ns1,north\n")
    assert "no column 'accent' in its header, which has speaker, dialect" in told(
        "--reference", "ref", "--accents", "other.csv", "good.trn"
    )
    Path("empty_refs").write_text("s1-a\ns2-b\ns3-c\n")
    assert told("--reference", "empty_refs", "good.trn").startswith(
        "error: empty_refs: all 3 references are empty"
    )
    assert ".: a folder: name a transcript in it" in told("--reference", "ref", ".")
    assert "--draws -5: must lie between 1 and 1000000" in told("--reference", "ref", "--draws", "-5", "good.trn")
    assert "--set: set id '../up'" in told("--reference", "ref", "--set", "../up", "good.trn")
    assert "--seed -1: must lie between 0 and" in told("--reference", "ref", "--seed", "-1", "good.trn")
    assert "good.trn: File exists (results go to good.trn: --out)" in told(
        "--out", "good.trn", "--reference", "ref", "bad.trn"
    )
    assert "good.trn: a file: give its references with --reference" in told("good.trn")
    assert "lab/ours=good.trn: no such file or folder, and no NAME=PATH" in told(
        "--reference", "ref", "lab/ours=good.trn"
    )
    assert "good.trn: given twice for one system" in told("--reference", "ref", "good.trn", "good.trn")
    assert "a is given 2 times, b 1 times: give each system as many trainings" in told(
        "--reference", "ref", "a=good.trn", "a=bad.trn", "b=good.trn"
    )
    assert "--set goes with --reference" in told("--set", "x", "exp/none")
    assert "utterances have no hypothesis (s2-b, s3-c): give one line for each id of the references" in told(
        "--reference", "ref", "short"
    )
    assert "utt2none: no such file" in told("--reference", "ref", "--speakers", "utt2none", "good.trn")
    Path("wrong_speakers").write_text("x s1\n")
    assert "wrong_speakers: has a speaker for none of the 3 utterances (first utterance s1-a, first id of x)" in told(
        "--reference", "ref", "--speakers", "wrong_speakers", "good.trn"
    )
    Path("overall.csv").write_text("speaker,accent\ns1,overall\ns2,x\ns3,x\n")
    assert "overall.csv: no accent may be called 'overall'" in told(
        "--reference", "ref", "--speakers", "utt2spk", "--accents", "overall.csv", "good.trn"
    )
    Path("length.csv").write_text("speaker,length\ns1,a\ns2,x\ns3,x\n")
    assert "length.csv: a column of the data may not be called 'length'" in told(
        "--reference", "ref", "--speakers", "utt2spk", "--columns", "length.csv", "good.trn"
    )
    Path("nfc").write_text("caf\u00e9 one\n")
    Path("nfd").write_text("cafe\u0301 one\n")
    assert "1 of them differ in their Unicode form alone" in told("--reference", "nfc", "nfd")
    Path("slashed").write_text("s1-a {hello/hi} world\n")
    assert "slashed, s1-a: alternatives are not scored" in told("--reference", "ref", "slashed")
    Path("mark").write_text("s1-a hello\n", encoding="utf-8-sig")
    assert "mark: begins with a byte order mark; save it as UTF-8 without one" in told(
        "--reference", "mark", "good.trn"
    )
    Path("wrong").write_text("x north\n")
    assert "has an accent for none of the 3 utterances" in told(
        "--reference", "ref", "--accents", "wrong", "good.trn"
    )


def test_stm(files):
    Path("ref.stm").write_text(STM)
    found = read_transcripts(Path("ref.stm"))
    assert found.texts == {
        "ann-talk-1-0000000": "hello world",
        "bob-talk-1-0000150": "good day sir",
    }
    assert found.speakers == {"ann-talk-1-0000000": "ann", "bob-talk-1-0000150": "bob"}
    assert found.ignored == {"bob-talk-1-0000325"}
    for begin in ("zero", "inf", "nan"):
        Path("ref.stm").write_text(f"talk 1 ann {begin} 1 hello\n")
        with pytest.raises(UserError, match="ref.stm, line 1: not a line of stm"):
            read_transcripts(Path("ref.stm"))


def test_stm_segments_that_are_not_scored_are_left_out_of_both_files(files, capsys):
    """In whatever case, as sclite has it; a recogniser may have heard something there."""
    Path("ref.stm").write_text(
        "talk 1 ann 0 1 <o,f0,female> hello world\ntalk 1 ann 1 2 <o> ignore_time_segment_in_scoring \n"
    )
    Path("hyp.stm").write_text("talk 1 ann 0 1 <unk> world\ntalk 1 ann 1 2 music\n")
    found = compared("--reference", "ref.stm", "hyp.stm")
    group = found["sets"]["test"]["wer"]["arms"]["hyp"]["groups"]["overall"]
    # <unk> is a word that was recognised, no label; `basic` makes it "unk".
    assert (group["words"], group["sub"], group["utterances"]) == (2, 1, 1)
    assert "note: ref.stm: 1 segments are not to be scored: left out" in capsys.readouterr().err


def test_trn_keeps_brackets_in_the_words_and_refuses_doubled_ids(files):
    Path("x.trn").write_text("a (b) c (id1)\n(id2)\n")
    assert read_transcripts(Path("x.trn")).texts == {"id1": "a (b) c", "id2": ""}
    Path("x.trn").write_text("a (id1)\nb (id1)\n")
    with pytest.raises(UserError, match=r"1 ids occur more than once \(id1\)"):
        read_transcripts(Path("x.trn"))
    Path("x.trn").write_text("one { two / to } (id1)\n")
    with pytest.raises(UserError, match=r"line 1: alternatives .* in place of '{ two / to }'"):
        read_transcripts(Path("x.trn"))
    Path("x.trn").write_text("{a} and/or b (id1)\r\n;; comment\r\nc (id2)\r\n", encoding="utf-8-sig")
    assert read_transcripts(Path("x.trn")).texts == {"id1": "{a} and/or b", "id2": "c"}
    Path("x.trn").write_text("no id here\n")
    with pytest.raises(UserError, match="line 1: not a line of trn"):
        read_transcripts(Path("x.trn"))


@pytest.mark.parametrize(
    "content, message",
    [
        (b'speaker,accent\ns1,"north\ns2,south\n', "line 3: unexpected end of data: mend its quotes"),
        (b'speaker,accent\ns1,"no\nrth"\n', "line 3: a cell goes over several lines"),
        (b"speaker,accent\ns1,a,b\n", "line 2: 3 cells, where the header has 2: mend the row"),
        (b"speaker,accent,accent\ns1,a,b\n", "has a column twice or without a name"),
        (b"speaker,accent\ns1,caf\xe9\n", "not UTF-8"),
        (b"speaker,accent\ns1," + b"x" * 200_000 + b"\n", "field larger than field limit"),
        (b"\n", "empty: its first row is to name the columns"),
    ],
)
def test_a_broken_table_of_labels_is_one_line(files, content, message):
    Path("a.CSV").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_labels(Path("a.CSV"), "accent")
    assert "\n" not in str(error.value) and str(error.value).startswith("a.CSV")


def test_labels_that_look_alike_are_one(files):
    Path("a.tsv").write_text("utt\taccent\na \tQue\u0301bec  city\n\nb\tQu\u00e9bec city \r\n")
    assert read_labels(Path("a.tsv"), "accent") == {"a": "Québec city", "b": "Québec city"}
    Path("spk").write_text("a Que\u0301bec\ncity\n".replace("\ncity", "\tcity"))
    assert read_labels(Path("spk"), "speaker") == {"a": "Québec city"}


def test_a_table_of_utterances_may_be_keyed_by_speaker(files):
    """Only the column that is asked for has to agree."""
    Path("a.csv").write_text("speaker,file,accent\ns1,1.wav,north\ns1,2.wav,north\n")
    assert read_labels(Path("a.csv"), "accent") == {"s1": "north"}


def test_two_labels_for_one_speaker_are_refused(files):
    Path("a.tsv").write_text("speaker\taccent\ns1\tnorth\ns1\tsouth\n")
    with pytest.raises(UserError, match="s1 has two labels, 'north' and 'south'"):
        read_labels(Path("a.tsv"), "accent")


def test_utterances_without_a_speaker_are_told_of(files, capsys):
    Path("some").write_text("s1-a s1\n")
    found = compared("--reference", "ref", "--speakers", "some", "good.trn", "bad.trn")
    assert "note: 2 of 3 utterances have no speaker (s2-b, s3-c): each counts as one" in capsys.readouterr().err
    assert found["sets"]["test"]["wer"]["arms"]["good"]["groups"]["overall"]["speakers"] == 3
