"""Stage 3 on real files: lengths by hand, pitch by FFT, broken files, killed runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import soundfile

from espnet_saliency.datadir.audio import format_audio
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.speed import perturb_speed
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError


def pitch(samples, fs=16000):
    """Frequency of the strongest bin of the middle half, in Hz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 18))
    return np.argmax(spectrum) * fs / (1 << 18)


def files(folder):
    """Relative path -> bytes of all files in a folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.wav", {"fs": 8000}),
        ("a.wav", {"fs": 22050, "channels": 2}),
        ("a.wav", {"fs": 44100, "subtype": "FLOAT"}),
        ("a.wav", {"fs": 16000, "subtype": "PCM_24"}),
        ("a.flac", {"fs": 44100, "channels": 2}),
        ("a.mp3", {"fs": 44100}),
        ("a.ogg", {"fs": 22050}),
    ],
)
def test_every_format_becomes_16_khz_mono(tmp_path, tone, utterance, prepare, name, options):
    path = tone(tmp_path / name, seconds=2, hz=500, **options)
    channel = options.get("channels", 1) - 1
    source, _, _ = prepare([utterance(path, channel=channel)])
    target = tmp_path / "dump" / "train"
    done = format_audio(source, target)
    assert (done.kept, done.rejected, done.seconds) == (1, 0, 2.0)
    made = target / "data" / "format.00" / "ann-1.flac"
    assert (target / "wav.scp").read_text() == f"ann-1 {made}\n"
    info = soundfile.info(made)
    assert (info.samplerate, info.channels, info.frames) == (16000, 1, 32000)
    assert (info.format, info.subtype) == ("FLAC", "PCM_16")
    samples, _ = soundfile.read(made)
    assert pitch(samples) == pytest.approx(500 * (channel + 1), abs=0.5)
    assert np.abs(samples[8000:-8000]).max() == pytest.approx(0.5, abs=0.02)


def test_tables(tmp_path, tone, utterance, prepare):
    a, b = tone(tmp_path / "a.wav", seconds=1.25, fs=8000), tone(tmp_path / "b.wav", seconds=0.5)
    source, _, _ = prepare([
        utterance(a, "ann-1", columns={"l1": "x y"}), utterance(b, "bob-1", accent="us")
    ])  # fmt: skip
    target = tmp_path / "dump" / "train"
    format_audio(source, target)
    assert (target / "utt2num_samples").read_text() == "ann-1 20000\nbob-1 8000\n"
    assert (target / "utt2dur").read_text() == "ann-1 1.25\nbob-1 0.5\n"
    assert (target / "category2utt").read_text() == "scottish ann-1\nus bob-1\n"
    for name in ("text", "utt2spk", "spk2utt", "utt2accent", "utt2l1"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert (target / "rejected.tsv").read_text() == "utt_id\tstage\treason\n"
    assert sorted(p.name for p in target.iterdir()) == [
        *("category2utt", "data", "rejected.tsv", "spk2utt", "text", "utt2accent", "utt2dur"),
        *("utt2l1", "utt2num_samples", "utt2spk", "wav.scp"),
    ]
    assert not (tmp_path / "dump" / "train.partial").exists()
    assert validate_data_dir(target) == 2


def test_espnet_reads_the_set(tmp_path, tone, utterance, prepare):
    from espnet2.fileio.sound_scp import SoundScpReader

    path = tone(tmp_path / "a b.wav", seconds=1.25, fs=8000)
    source, _, _ = prepare([utterance(path, "ann-1:\u0633 100%".replace(" ", ""))], "my set")
    format_audio(source, tmp_path / "dump" / "my set")
    reader = SoundScpReader(str(tmp_path / "dump" / "my set" / "wav.scp"))
    fs, samples = reader["ann-1:\u0633100%"]
    assert (fs, len(samples)) == (16000, 20000)


def test_16_bit_samples_at_16_khz_are_not_changed(tmp_path, utterance, prepare):
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    names = ["a.flac", "b.wav", "c.aiff"]
    for name in names:
        soundfile.write(tmp_path / name, samples, 16000, subtype="PCM_16")
    source, _, _ = prepare([utterance(tmp_path / name, f"ann-{name}") for name in names])
    format_audio(source, tmp_path / "dump")
    for path in read_table(tmp_path / "dump" / "wav.scp").values():
        assert np.array_equal(soundfile.read(path, dtype="int16")[0], samples)


def test_too_loud_is_clipped_not_wrapped(tmp_path, utterance, prepare):
    samples = np.concatenate([np.full(800, 1.5), np.full(800, -1.5)])
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    source, _, _ = prepare([utterance(tmp_path / "a.wav")])
    format_audio(source, tmp_path / "dump")
    made, _ = soundfile.read(tmp_path / "dump" / "data" / "format.00" / "ann-1.flac", dtype="int16")
    assert set(made[:800]) == {32767} and set(made[800:]) == {-32768}


@pytest.mark.parametrize("speed, hz, samples", [(0.9, 900, 32000), (1.125, 1125, 25600)])
def test_speed_changes_length_and_pitch(tmp_path, tone, utterance, prepare, speed, hz, samples):
    path = tone(tmp_path / "a.wav", seconds=1.8, fs=22050, hz=1000)
    source, _, _ = prepare([utterance(path)])
    perturb_speed(source, tmp_path / "data" / "train_sp", (speed, 1.0))
    format_audio(tmp_path / "data" / "train_sp", tmp_path / "dump")
    assert read_table(tmp_path / "dump" / "utt2num_samples") == {
        "ann-1": "28800",
        f"sp{speed}-ann-1": str(samples),
    }
    for name, path in read_table(tmp_path / "dump" / "wav.scp").items():
        expected = 1000 if name == "ann-1" else hz
        assert pitch(soundfile.read(path)[0]) == pytest.approx(expected, abs=0.5)
    assert validate_data_dir(tmp_path / "dump") == 2


@pytest.mark.parametrize(
    "name, fs", [("a.wav", 16000), ("a.flac", 32000), ("a.mp3", 44100), ("a.ogg", 16000)]
)
def test_segments_are_cut_where_they_should_be(tmp_path, utterance, prepare, name, fs):
    # Second k of the recording is a tone of 300 + 100 k Hz; the right channel is silent.
    seconds = np.arange(8 * fs) / fs
    tones = 0.5 * np.sin(2 * np.pi * (300 + 100 * np.floor(seconds)) * seconds)
    soundfile.write(tmp_path / name, np.stack([0 * tones, tones], axis=1), fs)
    order = [5, 0, 7, 2]
    source, _, _ = prepare([
        utterance(tmp_path / name, f"ann-{i}", start=k, end=k + 1, channel=1)
        for i, k in enumerate(order)
    ])  # fmt: skip
    format_audio(source, tmp_path / "dump")
    paths = read_table(tmp_path / "dump" / "wav.scp")
    for i, k in enumerate(order):
        samples, _ = soundfile.read(paths[f"ann-{i}"])
        assert len(samples) == 16000
        assert pitch(samples) == pytest.approx(300 + 100 * k, abs=1)
        # No quarter of the segment belongs to its neighbour.
        for part in np.split(samples, 4):
            assert pitch(part) == pytest.approx(300 + 100 * k, abs=3)


def test_odd_ids_become_safe_file_names(tmp_path, tone, utterance, prepare):
    path = tone(tmp_path / "a.wav", seconds=0.1)
    names = ["ann-a:b*?", "ann-..", "ann-100%", "ann-\u0633\u0644\u0627\u0645"]
    names += ["ann-" + "x" * 300, "ann-" + "x" * 301]
    source, _, _ = prepare([utterance(path, name) for name in names])
    format_audio(source, tmp_path / "dump")
    paths = read_table(tmp_path / "dump" / "wav.scp")
    assert set(paths) == set(names) and len(set(paths.values())) == len(names)
    for made in paths.values():
        name = os.path.basename(made)
        assert os.path.exists(made) and len(name) < 255 and name.isascii()
        assert not set(name) & set(':*?"<>|\\ ')


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_broken_audio_is_listed_and_the_rest_goes_on(tmp_path, tone, utterance, prepare):
    noise = np.random.default_rng(0).standard_normal(48000) * 0.1
    for name in ("cut.flac", "cut.mp3"):
        soundfile.write(tmp_path / name, noise, 16000)
    for name, bad in (("nan.wav", np.nan), ("inf.wav", np.inf)):
        samples = noise.copy()
        samples[100] = bad
        soundfile.write(tmp_path / name, samples, 16000, subtype="FLOAT")
    for name in ("gone.wav", "zero.wav", "good.wav", "mono.wav"):
        tone(tmp_path / name, channels=2)
    names = ["cut.flac", "cut.mp3", "nan.wav", "inf.wav", "gone.wav", "zero.wav", "good.wav"]
    utterances = [utterance(tmp_path / name, f"ann-{name}") for name in names]
    utterances.append(utterance(tmp_path / "mono.wav", "ann-mono.wav", channel=1))
    source, counts, log = prepare(utterances)
    # What cannot be seen in a header passes stage 1; what is broken after it is found here.
    assert counts.utterances == 8 and log.count == 0
    cut(tmp_path / "cut.flac")
    cut(tmp_path / "cut.mp3")
    cut(tmp_path / "zero.wav", 0)
    (tmp_path / "gone.wav").unlink()
    tone(tmp_path / "mono.wav")
    target = tmp_path / "dump" / "train"
    with pytest.raises(UserError) as error:
        format_audio(source, target)
    listed = tmp_path / "dump" / "train.partial" / "rejected.tsv"
    for words in ("7 of 8", "--max_reject 0.01", "samples that are no numbers (2)", str(listed)):
        assert words in str(error.value)
    assert listed.exists() and not target.exists()
    done = format_audio(source, target, nj=2, max_reject=0.9)
    assert (done.kept, done.rejected) == (1, 7)
    lines = (target / "rejected.tsv").read_text().splitlines()[1:]
    assert {line.split("\t")[0]: line.split("\t")[2].split(":")[0] for line in lines} == {
        "ann-cut.flac": "truncated or damaged",
        "ann-cut.mp3": "truncated",
        "ann-nan.wav": "samples that are no numbers",
        "ann-inf.wav": "samples that are no numbers",
        "ann-gone.wav": "file missing",
        "ann-zero.wav": "file of zero bytes",
        "ann-mono.wav": "channel out of range",
    }
    assert validate_data_dir(target) == 1 and list(read_table(target / "text")) == ["ann-good.wav"]
    with pytest.raises(UserError, match="no utterance is left|rejected"):
        (tmp_path / "good.wav").unlink()
        format_audio(source, target, max_reject=1)


def test_a_mended_file_is_tried_again(tmp_path, tone, utterance, prepare):
    good, bad = tone(tmp_path / "good.wav"), tone(tmp_path / "bad.wav")
    source, _, _ = prepare([utterance(good, "ann-1"), utterance(bad, "ann-2")])
    bad.unlink()
    with pytest.raises(UserError):
        format_audio(source, tmp_path / "dump")
    tone(tmp_path / "bad.wav")
    assert format_audio(source, tmp_path / "dump").kept == 2


def test_the_rest_of_a_cut_conversation_is_kept(tmp_path, tone, utterance, prepare):
    path = tmp_path / "talk.flac"
    soundfile.write(path, np.random.default_rng(0).standard_normal(16000 * 10) * 0.1, 16000)
    source, _, _ = prepare([utterance(path, f"ann-{k}", start=k, end=k + 1) for k in range(10)])
    cut(path)
    done = format_audio(source, tmp_path / "dump", max_reject=1)
    assert list(read_table(tmp_path / "dump" / "text")) == [f"ann-{k}" for k in range(done.kept)]
    assert 4 <= done.kept <= 5 and done.kept + done.rejected == 10


@pytest.fixture
def many(tmp_path, tone, utterance, prepare):
    """150 utterances: segments of recordings at 44.1 kHz, of several formats, at two speeds."""
    paths = [
        tone(tmp_path / f"{i}.{form}", seconds=40, fs=44100, hz=200 + 50 * i)
        for i, form in enumerate(["wav", "flac", "mp3"])
    ]
    source, _, _ = prepare([
        utterance(paths[i % 3], f"s{i % 4}-{i:03d}", start=i % 39 + 0.123, end=i % 39 + 1.0)
        for i in range(75)
    ])  # fmt: skip
    perturb_speed(source, tmp_path / "data" / "train_sp", (0.9, 1.0))
    return tmp_path / "data" / "train_sp"


def test_the_same_bytes_whatever_nj(tmp_path, many):
    target = tmp_path / "dump"
    format_audio(many, target, nj=1)
    first = files(target)
    assert sum(name.endswith(".flac") for name in first) == 150
    format_audio(many, target, nj=3)
    assert files(target) == first
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        format_audio(many, target, nj=2, executor=pool)
    assert files(target) == first


def test_killed_and_started_again(tmp_path, many):
    target = tmp_path / "dump" / "train"
    format_audio(many, target)
    expected = files(target)
    target.rename(tmp_path / "first")
    program = (
        "import sys; from pathlib import Path\n"
        "from espnet_saliency.datadir.audio import format_audio\n"
        "format_audio(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, many, target])
    partial = tmp_path / "dump" / "train.partial"
    limit = time.monotonic() + 60
    while len(list(partial.glob("parts/0*"))) < 2 and time.monotonic() < limit:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # As if it had been killed in the middle of a file.
    parts = sorted(partial.glob("parts/0*"))
    assert 2 <= len(parts) < 5 and not target.exists()
    (partial / "data" / "format.00" / "s3-071.flac").write_bytes(b"fLaC")
    done = [partial / "data" / "format.00" / f"{name}.flac" for name in read_table(parts[0])]
    times = {path.name: path.stat().st_mtime_ns for path in done}
    format_audio(many, target, nj=2)
    assert files(target) == expected
    kept = {p.name: p.stat().st_mtime_ns for p in (target / "data").rglob("*") if p.name in times}
    assert kept == times


def test_other_options_or_tables_start_anew(tmp_path, many):
    target = tmp_path / "dump"
    format_audio(many, target, fs=8000)
    expected = files(target)
    partial = tmp_path / "dump.partial"
    target.rename(partial)
    (partial / "parts").mkdir()
    # Left over by a run at another rate.
    (partial / "inputs.sha256").write_text("0" * 64)
    (partial / "parts" / "000000").write_text("s0-000 1\n")
    (partial / "stray").write_text("")
    format_audio(many, target, fs=8000)
    assert files(target) == expected
