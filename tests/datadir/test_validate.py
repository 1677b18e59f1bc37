"""Each rule of a data directory, broken in turn."""

from __future__ import annotations

import pytest

from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError


@pytest.fixture
def good(tmp_path, tone):
    """A valid directory with segments: utterances a-1, a-2 of a, b-1 of b."""
    x, y = tone(tmp_path / "x y.wav", seconds=2), tone(tmp_path / "z.wav", seconds=2)
    folder = tmp_path / "good"
    folder.mkdir()
    for name, content in {
        "wav.scp": f"rec1 {x}\nrec2 {y}\n",
        "reco2dur": "rec1 2.0\nrec2 2.0\n",
        "segments": "a-1 rec2 0 1\na-2 rec1 0.5 2.0004\nb-1 rec2 1 2\n",
        "text": "a-1 hello\na-2 good day\nb-1 \u0633\u0644\u0627\u0645\n",
        "utt2spk": "a-1 a\na-2 a\nb-1 b\n",
        "spk2utt": "a a-1 a-2\nb b-1\n",
        "utt2dur": "a-1 1\na-2 1.5\nb-1 1\n",
        "utt2accent": "a-1 us\na-2 us\nb-1 southern\n",
        "utt2speed": "a-1 1\na-2 1\nb-1 0.9\n",
        "utt2channel": "a-1 0\na-2 0\nb-1 0\n",
    }.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_a_good_directory(good):
    assert validate_data_dir(good) == 3
    for name in ("reco2dur", "utt2dur", "utt2accent", "utt2channel", "utt2speed"):
        (good / name).unlink()
        assert validate_data_dir(good) == 3


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk", "spk2utt"])
def test_a_missing_file(good, name):
    (good / name).unlink()
    with pytest.raises(UserError, match=f"good/{name}: no such file"):
        validate_data_dir(good)


@pytest.mark.parametrize(
    "name, old, new, message",
    [
        ("text", "a-1 hello\na-2 ", "a-2 x\na-1 ", "text: not sorted: a-2 stands before a-1"),
        ("text", "a-2 good day", "a-1 good day", "text: a-1 is there twice"),
        ("utt2dur", "a-2 1.5\n", "", "utterance a-2 is in segments but not in utt2dur"),
        ("text", "b-1", "b-0", "utterance b-0 is in text but not in segments"),
        ("utt2accent", "b-1 southern\n", "", "utterance b-1 is in segments but not in utt2accent"),
        ("text", "a-2 good day", "a-2 ", "text: utterance a-2 has an empty text"),
        ("utt2accent", "a-1 us", "a-1", "utt2accent: utterance a-1 has an empty value"),
        ("utt2dur", "a-2 1.5", "a-2 0", "utt2dur: utterance a-2 has 0, which is not above 0"),
        ("utt2dur", "a-2 1.5", "a-2 nan", "utt2dur: utterance a-2 has nan, which is not above 0"),
        ("utt2dur", "a-2 1.5", "a-2 long", "utt2dur: a-2 has 'long', which is not a number"),
        ("utt2speed", "0.9", "-0.9", "utt2speed: utterance b-1 has -0.9"),
        ("utt2channel", "b-1 0", "b-1 -1", "utt2channel: utterance b-1 has channel -1"),
        ("spk2utt", "a a-1 a-2", "a a-1", "'b-1 is of .* b' where utt2spk says 'a-2 is of .* a'"),
        ("spk2utt", "b b-1\n", "", "'no more' where utt2spk says 'b-1 is of speaker b'"),
        ("wav.scp", "z.wav", "gone.wav", "the file of rec2 is missing: .*gone.wav"),
        ("wav.scp", "z.wav", "z.wav |", "rec2 is a command, '.*z.wav |'; commands are not run"),
        ("wav.scp", "rec2", "rec3", "wav.scp and reco2dur disagree: 'rec3' and 'rec2'"),
        ("segments", "rec2 1 2", "rec2 1 2.5", "b-1 ends at 2.5 s, but recording rec2 has 2 s"),
        ("segments", "rec2 1 2", "rec2 2 1", "b-1 starts at 2 s and ends at 1 s"),
        ("segments", "rec2 1 2", "rec2 1", "b-1: 'rec2 1' is not 'recording start end'"),
        ("segments", "rec1 0.5 2.0004", "rec0 0.5 2", "recording rec0 of a-2 is not in wav.scp"),
        ("segments", "rec1 0.5 2.0004", "rec2 0.5 2", "recording rec1 has no line in segments"),
        ("reco2dur", "rec2 2.0\n", "", "wav.scp and reco2dur disagree: 'rec2' and nothing"),
    ],
)
def test_one_thing_wrong(good, name, old, new, message):
    before = (good / name).read_text(encoding="utf-8")
    assert old in before
    (good / name).write_text(before.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        validate_data_dir(good)
    assert "\n" not in str(error.value)


def change_everywhere(folder, old, new):
    for path in folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_an_id_that_does_not_begin_with_its_speaker(good):
    (good / "utt2spk").write_text("a-1 a\na-2 a\nb-1 c\n")
    (good / "spk2utt").write_text("a a-1 a-2\nc b-1\n")
    with pytest.raises(UserError, match="utterance id b-1 does not begin with its speaker id c"):
        validate_data_dir(good)


def test_clashing_speakers(good):
    change_everywhere(good, "b-1", "a-3")
    (good / "utt2spk").write_text("a-1 a\na-2 a-2\na-3 a\n")
    with pytest.raises(UserError, match="speakers a and a-2 clash"):
        validate_data_dir(good)


def test_ids_that_no_file_name_can_have(good):
    change_everywhere(good, "a-", ".a-")
    (good / "utt2spk").write_text(".a-1 .a\n.a-2 .a\nb-1 b\n")
    with pytest.raises(UserError, match="utterance id '.a-1'"):
        validate_data_dir(good)


def test_not_utf8(good):
    (good / "text").write_bytes(b"a-1 hello\na-2 caf\xe9\nb-1 x\n")
    with pytest.raises(UserError, match="text: after line .: not UTF-8"):
        validate_data_dir(good)


def test_empty_tables(good):
    for path in good.iterdir():
        path.write_text("")
    with pytest.raises(UserError, match="the tables are empty"):
        validate_data_dir(good)
