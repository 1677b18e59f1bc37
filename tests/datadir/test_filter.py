"""Stage 4: what stays, what goes, and that all files agree."""

from __future__ import annotations

import pytest

from espnet_saliency.datadir.audio import format_audio
from espnet_saliency.datadir.filter import filter_data_dir
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError


@pytest.fixture
def formatted(tmp_path, tone, utterance, prepare):
    """ann-0 to ann-3 of 0.05, 0.1, 2 and 2.5 s; bob-1 of 1 s."""
    seconds = {"ann-0": 0.05, "ann-1": 0.1, "ann-2": 2, "ann-3": 2.5, "bob-1": 1}
    utterances = [
        utterance(tone(tmp_path / f"{n}.wav", seconds=s), n, accent=n[:3], columns={"l1": "x"})
        for n, s in seconds.items()
    ]
    source, _, _ = prepare(utterances)
    org = tmp_path / "dump" / "org" / "train"
    format_audio(source, org)
    return org


def test_too_short_too_long_and_empty(tmp_path, formatted):
    text = (formatted / "text").read_text()
    (formatted / "text").write_text(text.replace("bob-1 hello", "bob-1"))
    target = tmp_path / "dump" / "train"
    done = filter_data_dir(formatted, target, min_seconds=0.1, max_seconds=2.0)
    assert (done.kept, done.rejected) == (2, 3)
    assert done.why == "empty text (1), too long (1), too short (1)"
    assert (target / "rejected.tsv").read_text() == (
        "utt_id\tstage\treason\n"
        "ann-0\tfilter\ttoo short: 0.05 s, --min_wav_duration 0.1\n"
        "ann-3\tfilter\ttoo long: 2.5 s, --max_wav_duration 2\n"
        "bob-1\tfilter\tempty text\n"
    )
    names = {"wav.scp", "text", "utt2spk", "utt2dur", "utt2num_samples", "utt2accent", "utt2l1"}
    for name in names:
        assert list(read_table(target / name)) == ["ann-1", "ann-2"]
    assert {p.name for p in target.iterdir()} == names | {"spk2utt", "category2utt", "rejected.tsv"}
    assert (target / "category2utt").read_text() == "ann ann-1 ann-2\n"
    assert (target / "spk2utt").read_text() == "ann ann-1 ann-2\n"
    assert validate_data_dir(target) == 2
    assert len(read_table(formatted / "text")) == 5


def test_it_can_be_done_again_with_other_limits(tmp_path, formatted):
    target = tmp_path / "dump" / "train"
    assert filter_data_dir(formatted, target, 1.0, 2.0).kept == 2
    done = filter_data_dir(formatted, target, 0.0, 30.0)
    assert (done.kept, done.rejected, done.why) == (5, 0, "")
    assert (target / "wav.scp").read_bytes() == (formatted / "wav.scp").read_bytes()


def test_limits_that_are_refused(tmp_path, formatted):
    with pytest.raises(UserError, match="--min_wav_duration 3 and --max_wav_duration 2"):
        filter_data_dir(formatted, tmp_path / "x", 3, 2)
    with pytest.raises(UserError, match=r"none of 5 utterances is left: too short \(5\)"):
        filter_data_dir(formatted, tmp_path / "x", 10, 20)
    assert not (tmp_path / "x").exists()
