"""Stage 2: ids, durations and order by hand."""

from __future__ import annotations

import pytest

from espnet_saliency.datadir.speed import perturb_speed
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError


def test_whole_recordings(tmp_path, tone, utterance, prepare):
    # Speaker "sz" sorts behind every perturbed one, "ann" before.
    a, b = tone(tmp_path / "a.wav", seconds=1.8), tone(tmp_path / "b.wav", seconds=0.9)
    other = utterance(b, "sz-1", accent="us", text="good day")
    source, _, _ = prepare([utterance(a, "ann-1"), other])
    target = tmp_path / "data" / "train_sp"
    assert perturb_speed(source, target, (0.9, 1.0, 1.125)) == 6
    assert (target / "utt2dur").read_text() == (
        "ann-1 1.8\nsp0.9-ann-1 2.0\nsp0.9-sz-1 1.0\n"
        "sp1.125-ann-1 1.6\nsp1.125-sz-1 0.8\nsz-1 0.9\n"
    )
    assert (target / "utt2speed").read_text() == (
        "ann-1 1\nsp0.9-ann-1 0.9\nsp0.9-sz-1 0.9\n"
        "sp1.125-ann-1 1.125\nsp1.125-sz-1 1.125\nsz-1 1\n"
    )
    assert (target / "spk2utt").read_text() == (
        "ann ann-1\nsp0.9-ann sp0.9-ann-1\nsp0.9-sz sp0.9-sz-1\n"
        "sp1.125-ann sp1.125-ann-1\nsp1.125-sz sp1.125-sz-1\nsz sz-1\n"
    )
    assert "sp0.9-sz-1 good day\n" in (target / "text").read_text()
    assert "sp0.9-sz-1 us\n" in (target / "utt2accent").read_text()
    assert f"sp0.9-sz-1 {b}\n" in (target / "wav.scp").read_text()
    assert validate_data_dir(target) == 6


def test_segments_keep_their_times(tmp_path, tone, utterance, prepare):
    path = tone(tmp_path / "a.wav", seconds=4)
    source, _, _ = prepare([utterance(path, "ann-1", start=1, end=2.8)])
    target = tmp_path / "data" / "train_sp"
    perturb_speed(source, target, (0.9,))
    assert (target / "segments").read_text() == "sp0.9-ann-1 a 1.0 2.8\n"
    assert (target / "utt2dur").read_text() == "sp0.9-ann-1 2.0\n"
    for name in ("wav.scp", "reco2dur"):
        assert (target / name).read_text() == (source / name).read_text()
    assert validate_data_dir(target) == 1
    with pytest.raises(UserError, match="speed-perturbed already"):
        perturb_speed(target, tmp_path / "data" / "twice", (0.9,))


@pytest.mark.parametrize("factors", [(), (0.9, 0.9), (0.0, 1.0), (-1.0,), (float("nan"),)])
def test_factors_that_are_refused(tmp_path, tone, utterance, prepare, factors):
    source, _, _ = prepare([utterance(tone(tmp_path / "a.wav"))])
    with pytest.raises(UserError, match="--speed_perturb_factors"):
        perturb_speed(source, tmp_path / "out", factors)
    assert not (tmp_path / "out").exists()
