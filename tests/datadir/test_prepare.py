"""Stage 1 on real files: what is written, what is rejected, what is refused."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet_saliency.corpora.utterance import Rejection, Utterance
from espnet_saliency.datadir import prepare as prepare_module
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.rejection import RejectionLog, check_reject_share
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError


def contents(folder):
    return {p.name: p.read_text(encoding="utf-8") for p in sorted(folder.iterdir())}


def reasons(log):
    lines = log.path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "utt_id\tstage\treason"
    return {line.split("\t")[0]: line.split("\t")[2] for line in lines[1:]}


def test_whole_recordings_in_many_formats(tmp_path, tone, utterance, prepare):
    files = [
        tone(tmp_path / "a 8k.wav", seconds=1.5, fs=8000),
        tone(tmp_path / "b.wav", seconds=2, fs=22050, channels=2),
        tone(tmp_path / "c.flac", seconds=0.5, fs=44100),
        tone(tmp_path / "d.mp3", seconds=2.5, fs=44100),
        tone(tmp_path / "e.ogg", seconds=3, fs=16000),
    ]
    utterances = [utterance(path, f"ann-{i}", text=f"text  {i}\t!") for i, path in enumerate(files)]
    folder, counts, log = prepare(reversed(utterances))
    assert contents(folder) == {
        "wav.scp": "".join(f"ann-{i} {path}\n" for i, path in enumerate(files)),
        "text": "".join(f"ann-{i} text {i} !\n" for i in range(5)),
        "utt2spk": "".join(f"ann-{i} ann\n" for i in range(5)),
        "spk2utt": "ann ann-0 ann-1 ann-2 ann-3 ann-4\n",
        "utt2accent": "".join(f"ann-{i} scottish\n" for i in range(5)),
        "utt2dur": "ann-0 1.5\nann-1 2.0\nann-2 0.5\nann-3 2.5\nann-4 3.0\n",
    }
    assert (counts.utterances, counts.speakers, counts.seconds) == (5, 1, 9.5)
    assert counts.accents == {"scottish": 5} and log.count == 0
    assert validate_data_dir(folder) == 5


def test_optional_files_are_there_only_when_needed(tmp_path, tone, utterance, prepare):
    path = tone(tmp_path / "a.wav", channels=2)
    plain = utterance(path, accent="")
    folder, counts, _ = prepare([plain])
    assert set(contents(folder)) == {"wav.scp", "text", "utt2spk", "spk2utt", "utt2dur"}
    assert not counts.accents
    other = utterance(path, "ann-2", channel=1, columns={"gender": "f"})
    third = utterance(path, "ann-3", columns={"l1": "Scots  Gaelic"})
    folder, counts, _ = prepare([plain, other, third])
    files = contents(folder)
    assert files["utt2accent"] == "ann-1 unknown\nann-2 scottish\nann-3 scottish\n"
    assert files["utt2channel"] == "ann-1 0\nann-2 1\nann-3 0\n"
    assert files["utt2gender"] == "ann-1 unknown\nann-2 f\nann-3 unknown\n"
    assert files["utt2l1"] == "ann-1 unknown\nann-2 unknown\nann-3 Scots Gaelic\n"
    assert counts.accents == {"scottish": 2, "unknown": 1}
    assert validate_data_dir(folder) == 3


def test_segments(tmp_path, tone, utterance, prepare):
    long = tone(tmp_path / "x" / "talk one.wav", seconds=10)
    same_name = tone(tmp_path / "y" / "talk one.wav", seconds=4)
    folder, counts, log = prepare(
        [
            utterance(long, "ann-2", start=2.25, end=3.0),
            utterance(long, "bob-1", start=9.0, end=10.3),  # 0.3 s behind the end: cut to it
            utterance(long, "ann-1", start=9.5),  # to the end
            utterance(same_name, "bob-2"),  # whole
        ]
    )
    files = contents(folder)
    assert files["segments"] == (
        "ann-1 talk%20one 9.5 10.0\nann-2 talk%20one 2.25 3.0\n"
        "bob-1 talk%20one 9.0 10.0\nbob-2 talk%20one@2 0.0 4.0\n"
    )
    assert files["wav.scp"] == f"talk%20one {long}\ntalk%20one@2 {same_name}\n"
    assert files["reco2dur"] == "talk%20one 10.0\ntalk%20one@2 4.0\n"
    assert files["utt2dur"] == "ann-1 0.5\nann-2 0.75\nbob-1 1.0\nbob-2 4.0\n"
    assert counts.seconds == pytest.approx(6.25) and log.count == 0
    assert validate_data_dir(folder) == 4


def broken_files(tmp_path, tone):
    """Name -> a file that is broken in that way."""
    whole = tone(tmp_path / "whole.wav", seconds=1).read_bytes()
    aiff = tone(tmp_path / "whole.aiff", seconds=1).read_bytes()
    made = {
        "zero.wav": b"",
        "text.wav": b"hello world\n" * 100,
        "text.mp3": b"hello world\n" * 100,
        "cut.wav": whole[: len(whole) // 2],
        "cut.aiff": aiff[: len(aiff) // 2],
        "head.wav": whole[:44],
        "headless.wav": whole[:20],
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    (tmp_path / "folder.wav").mkdir()
    return [*made, "none.wav", "folder.wav", "missing.wav"]


def test_broken_files_are_listed_and_the_rest_goes_on(tmp_path, tone, utterance, prepare):
    names = broken_files(tmp_path, tone)
    utterances = [utterance(tmp_path / name, f"ann-{name}") for name in names]
    _, counts, log = prepare([*utterances, utterance(tmp_path / "whole.wav", "ann-good")], nj=2)
    assert counts.utterances == 1 and log.count == len(names)
    assert {k.removeprefix("ann-"): v.split(": ")[0] for k, v in reasons(log).items()} == {
        "zero.wav": "file of zero bytes",
        "text.wav": "not audio",
        "text.mp3": "not audio",
        "cut.wav": "truncated",
        "cut.aiff": "truncated",
        "head.wav": "truncated",
        "headless.wav": "not audio",
        "none.wav": "no samples",
        "folder.wav": "not a file",
        "missing.wav": "file missing",
    }
    assert log.kinds["not audio"] == 3 and log.commonest(2) == "not audio (3), truncated (3)"
    assert str(tmp_path / "cut.wav") in reasons(log)["ann-cut.wav"]


def test_a_header_that_was_written_into_a_pipe_is_not_truncated(tmp_path, tone, utterance, prepare):
    path = tone(tmp_path / "pipe.wav", seconds=1)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    _, counts, log = prepare([utterance(path)])
    assert counts.seconds == 1 and log.count == 0


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"text": " \t\n "}, "empty text"),
        ({"channel": 2}, "channel out of range: 2 of"),
        ({"channel": -1}, "channel out of range: -1 of"),
        ({"start": 0.5, "end": 0.5}, "segment without length: from 0.5 s to 0.5 s"),
        ({"start": 0.7, "end": 0.5}, "segment without length"),
        ({"start": -0.1, "end": 0.5}, "segment without length: from -0.1 s"),
        ({"start": float("nan"), "end": 0.5}, "segment without length: from nan s"),
        ({"start": 0.5, "end": 1.6}, "segment outside the recording: from 0.5 s to 1.6 s"),
        ({"start": 1.0, "end": 1.2}, "segment outside the recording"),
    ],
)
def test_utterances_that_are_rejected(tmp_path, tone, utterance, prepare, change, reason):
    path = tone(tmp_path / "a.wav", channels=2)
    _, counts, log = prepare([utterance(path, "ann-1", **change), utterance(path, "ann-2")])
    assert counts.utterances == 1
    assert list(reasons(log)) == ["ann-1"] and reasons(log)["ann-1"].startswith(reason)


def test_a_recording_without_a_good_segment_is_left_out(tmp_path, tone, utterance, prepare):
    good, bad = tone(tmp_path / "good.wav"), tone(tmp_path / "bad.wav")
    folder, _, _ = prepare([utterance(good, "a-1", start=0), utterance(bad, "a-2", start=5, end=6)])
    assert list(read_table(folder / "wav.scp")) == ["good"]
    assert validate_data_dir(folder) == 1


@pytest.mark.parametrize(
    "change, words",
    [
        ({"utt_id": "ann 1"}, ["'ann 1'", "blank"]),
        ({"utt_id": "ann/1"}, ["'ann/1'", "slash"]),
        ({"utt_id": "..", "speaker": "."}, ["'..'", "point"]),
        ({"utt_id": "ann\u00a01"}, ["ann", "blank"]),
        ({"utt_id": "ann\x011"}, ["control character"]),
        ({"speaker": "bob"}, ["ann-1", "bob", "begin"]),
        ({"accent": "southern english"}, ["'southern english'", "accent"]),
        ({"columns": {"dur": "1"}}, ["'dur'", "utt2dur"]),
        ({"columns": {"birth year": "1"}}, ["'birth year'"]),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, tone, utterance, prepare, change, words):
    path = tone(tmp_path / "a.wav")
    with pytest.raises(UserError) as error:
        prepare([utterance(path, **{"utt_id": "ann-1", **change})])
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data" / "train").exists()


@pytest.mark.parametrize("order", [1, -1])
def test_of_an_id_twice_one_is_kept(tmp_path, tone, utterance, prepare, order):
    a, b = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav", seconds=2)
    missing = tmp_path / "absent.wav"  # comes before b, and cannot be kept
    rows = [utterance(b), utterance(a), utterance(b, "bob-1"), utterance(missing, "bob-1")]
    folder, counts, log = prepare(rows[::order])
    assert counts.utterances == 2 and validate_data_dir(folder) == 2
    assert read_table(folder / "wav.scp") == {"ann-1": str(a), "bob-1": str(b)}
    assert reasons(log) == {
        "ann-1": f"duplicate id: of {b}; the one of {a} is kept",
        "bob-1": f"file missing: {missing}",
    }


@pytest.mark.parametrize("order", [1, -1])
def test_a_recording_of_doubles_alone_is_left_out(tmp_path, tone, utterance, prepare, order):
    a, b = tone(tmp_path / "a.wav"), tone(tmp_path / "b.wav")
    rows = [
        utterance(a, start=0.5, end=0.7),
        utterance(a, start=0.1, end=0.2),
        utterance(b, start=0.1, end=0.2),
    ]
    folder, _, log = prepare(rows[::order])
    assert read_table(folder / "segments") == {"ann-1": "a 0.1 0.2"} and log.count == 2
    assert read_table(folder / "wav.scp") == {"a": str(a)} and validate_data_dir(folder) == 1


@pytest.mark.parametrize(
    "pairs, clash",
    [
        # "a-b-1" lies between "a-a" and "a-c"
        ([("a-a", "a"), ("a-b-1", "a-b"), ("a-c", "a")], "speakers a and a-b clash"),
        # "!" sorts before "-"
        ([("a-1", "a"), ("a!-1", "a!")], "speakers a and a! clash"),
    ],
)
def test_clashing_speakers_are_refused(tmp_path, tone, utterance, prepare, pairs, clash):
    path = tone(tmp_path / "a.wav")
    with pytest.raises(UserError, match=f"data/train: the ids of {clash}"):
        prepare([utterance(path, utt, speaker) for utt, speaker in pairs])


def test_speakers_that_begin_alike_but_do_not_clash(tmp_path, tone, utterance, prepare):
    path = tone(tmp_path / "a.wav")
    ids = ["s1-1", "s1-2", "s10-1", "s1_b-1", "s\u00e9-1"]
    folder, _, _ = prepare([utterance(path, name) for name in ids])
    spk2utt = ["s1 s1-1 s1-2", "s10 s10-1", "s1_b s1_b-1", "s\u00e9 s\u00e9-1"]
    assert (folder / "spk2utt").read_text(encoding="utf-8").splitlines() == spk2utt
    # What Kaldi checks, with the system's own sort.
    c_locale = {**os.environ, "LC_ALL": "C"}
    for order in (["-k1"], ["-k2"]):
        command = ["sort", *order, folder / "utt2spk"]
        done = subprocess.run(command, env=c_locale, capture_output=True)
        assert done.stdout == (folder / "utt2spk").read_bytes()


def test_nothing_left_says_why(tmp_path, utterance, prepare):
    with pytest.raises(UserError, match=r"all rejected: file missing \(1\); see .*rejected.tsv"):
        prepare([utterance(tmp_path / "missing.wav")])
    assert (tmp_path / "data" / "train.rejected.tsv").exists()
    with pytest.raises(UserError, match="no utterance"):
        prepare([])


def test_order_and_nj_do_not_matter_and_headers_are_read_once(
    tmp_path, tone, utterance, prepare, monkeypatch
):
    paths = [tone(tmp_path / f"{i}.wav", seconds=0.1 + i / 100) for i in range(20)]
    utterances = [
        utterance(path, f"s{i % 7}-{i:02d}-{k}", start=0.02 * k, end=0.02 * k + 0.05)
        for i, path in enumerate(paths)
        for k in range(4)
    ]
    utterances += [utterance(tmp_path / f"no{i}.wav", f"t-{i}") for i in range(5)]
    # Runs of 16 records and batches of 3 recordings: the sorting on disk is put to work.
    limited = prepare_module.ExternalSort
    monkeypatch.setattr(
        prepare_module, "ExternalSort", lambda key, folder: limited(key, folder, limit=16)
    )
    monkeypatch.setattr(prepare_module, "_BATCH", 3)
    opened = []
    probe = prepare_module.probe
    monkeypatch.setattr(prepare_module, "probe", lambda path: (opened.append(path), probe(path))[1])
    first, _, log = prepare(utterances, "one")
    expected = contents(first)
    listed = log.path.read_text(encoding="utf-8")
    assert len(opened) == len(set(opened)) == 25
    for seed, nj in ((0, 1), (1, 3)):
        random.Random(seed).shuffle(utterances)
        folder, _, log = prepare(iter(utterances), "two", nj)
        assert contents(folder) == expected
        assert log.path.read_text(encoding="utf-8") == listed


def test_memory_does_not_grow_with_the_corpus(tmp_path, tone):
    path = tone(tmp_path / "0.flac", seconds=60)
    for i in range(1, 100):
        (tmp_path / f"{i}.flac").symlink_to(path)
    program = """
import resource, sys
from pathlib import Path
from espnet_saliency.corpora.utterance import Utterance
from espnet_saliency.datadir.filter import filter_data_dir
from espnet_saliency.datadir.prepare import write_data_dir
from espnet_saliency.datadir.rejection import RejectionLog
from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.datadir.speed import perturb_speed
from espnet_saliency.datadir.validate import validate_data_dir
audio, out, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
ExternalSort.__init__.__defaults__ = (1000,)
def utterances(segments):
    for i in range(n):
        k = i * 7919 % n
        name = f"s{k % 500:03d}"
        times = dict(start=k % 50, end=k % 50 + 1) if segments else {}
        path = audio / f"{k % 100}.flac"
        yield Utterance(f"{name}-{k:06d}", name, "a", "word " * 40, path, **times)
with RejectionLog(out / "rejected.tsv") as log:
    for segments in (False, True):
        write_data_dir(out / "train", utterances(segments), log)
        assert perturb_speed(out / "train", out / "train_sp", (0.9, 1.0)) == 2 * n
        assert validate_data_dir(out / "train_sp") == 2 * n
        if not segments:
            assert filter_data_dir(out / "train_sp", out / "filtered", 0, 61).kept == n
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(n):  # in kB
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path, tmp_path / str(n), str(n)],
            capture_output=True, text=True, check=True,
        )
        return int(done.stdout.split()[-1])

    # Kept in memory, 12 000 utterances take 12 MB or more.
    assert peak(15_000) - peak(3_000) < 4_000


def test_rejection_log_and_share(tmp_path):
    path = tmp_path / "deep" / "rejected.tsv"
    with RejectionLog(path) as log:
        log.extend(Rejection(f"u{i}", "prepare", f"file missing: /x/{i}.wav") for i in range(3))
        log.add(Rejection("odd\tid", "prepare", "not audio: a\nb"))
    assert path.read_text().splitlines()[-1] == "odd id\tprepare\tnot audio: a b"
    check_reject_share(log, 400, 0.01, "stage 1")
    with pytest.raises(UserError) as error:
        check_reject_share(log, 399, 0.01, "stage 1")
    for words in ("4 of 399", "file missing (3), not audio (1)", str(path), "--max_reject"):
        assert words in str(error.value)


def test_rejections_are_listed_even_when_the_stage_stops(tmp_path):
    with pytest.raises(KeyError), RejectionLog(tmp_path / "rejected.tsv") as log:
        log.add(Rejection("u1", "prepare", "empty text"))
        raise KeyError
    lines = (tmp_path / "rejected.tsv").read_text().splitlines()
    assert lines == ["utt_id\tstage\treason", "u1\tprepare\tempty text"]
