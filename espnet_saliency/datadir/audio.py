"""Stage 3: every utterance as one mono FLAC file at the rate of the recogniser."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import groupby, repeat
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple
from urllib.parse import quote

import numpy as np
import soundfile
import soxr

from espnet_saliency.corpora.utterance import Rejection
from espnet_saliency.datadir.kaldi import (
    copy_kept,
    in_batches,
    iter_table,
    utterance_tables,
    write_category2utt,
    write_spk2utt,
)
from espnet_saliency.datadir.parallel import muted_stderr, ordered_map
from espnet_saliency.datadir.probe import BadAudio, open_audio
from espnet_saliency.datadir.rejection import RejectionLog, check_reject_share
from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress

STAGE = "format"

# Utterances in one piece of work, and pieces in one folder of audio.
_BATCH = 32
_BATCHES_IN_FOLDER = 64

# What is used up here: times, channel and speed are in the samples; durations are measured anew.
_USED_UP = ("segments", "utt2channel", "utt2speed", "utt2dur", "utt2num_samples")

# An MP3 file without the length in its first frame is taken for up to one MPEG frame too long.
_MP3_SLACK = 1152

# Frames that are decoded and thrown away at a time.
_SKIP = 1 << 20

# File names on common file systems have at most 255 bytes.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Formatted:
    """How many utterances there are in a formatted set, and what was rejected."""

    kept: int
    rejected: int
    seconds: float
    """Duration of what was kept, in s."""


class _Row(NamedTuple):
    """Where the samples of an utterance are."""

    utterance: str
    path: str
    start: float | None
    end: float | None
    channel: int
    speed: float


class _Batch(NamedTuple):
    """A piece of work."""

    rows: list[_Row]
    audio: Path
    """Folder of the FLAC files."""
    part: Path
    """Written when all files of the batch are: `utterance samples` a line."""
    fs: int


class _Result(NamedTuple):
    utterance: str
    file: str
    """Folder and name of the FLAC file, under data/."""
    samples: int
    reason: str = ""
    """Why there is no file, "" where there is one."""


def format_audio(
    source: Path,
    target: Path,
    fs: int = 16000,
    nj: int = 1,
    max_reject: float = 0.01,
    executor: Executor | None = None,
) -> Formatted:
    """Write `target`: the set `source` with one 16 bit mono FLAC file an utterance.

    Files are target/data/format.NN/<utterance>.flac, characters of an id that a file name should
    not hold percent-encoded. The channel of utt2channel (0 without) is taken; the speed of
    utt2speed is applied as sox's `speed` does, by resampling, so that pitch moves with it: at 0.9,
    1000 Hz become 900 Hz and 9 s become 10 s. Beside the tables of `source` there are wav.scp
    (absolute paths), utt2num_samples, utt2dur, measured, category2utt (accent to utterances) and
    rejected.tsv.

    Segments of one recording are read in its order, by seeking. The result is the same, byte for
    byte, whatever `nj`. It is made in <target>.partial; killed and started again with the same
    tables, the work goes on where it was. Batches with a rejected utterance are tried again then.

    Args:
        source: a valid data directory.
        target: dump/raw/<set>; an older one is replaced.
        fs: sampling rate of the files, in Hz.
        nj: utterances at a time.
        max_reject: share of the utterances that may be rejected: missing, cut off, undecodable,
            without samples, of samples that are no numbers, of a channel that is not there.
        executor: see `ordered_map`.

    Raises:
        UserError: more is rejected, or everything.
    """
    work = target.with_name(f"{target.name}.partial")
    total = _resume(work, source, fs)
    by_utterance: ExternalSort[_Result] = ExternalSort(attrgetter("utterance"), work)
    with (
        RejectionLog(work / "rejected.tsv") as log,
        Progress(f"{target.name}: formatting audio", total) as progress,
        muted_stderr(),
    ):
        batches = _batches(_rows(source, work), work, fs)
        for results in ordered_map(_format_batch, batches, nj, executor):
            for result in results:
                if result.reason:
                    log.add(Rejection(result.utterance, STAGE, result.reason))
                else:
                    by_utterance.add(result)
            progress.advance(len(results))
    check_reject_share(log, total, max_reject, f"formatting the audio of {source}")
    if not len(by_utterance):
        raise UserError(f"{source}: no utterance is left: {log.commonest()}; see {log.path}")
    seconds = _write_tables(source, work, target, by_utterance, fs)
    shutil.rmtree(work / "parts")
    (work / "inputs.sha256").unlink()
    if target.exists():
        shutil.rmtree(target)
    work.rename(target)
    return Formatted(len(by_utterance), log.count, seconds)


def _resume(work: Path, source: Path, fs: int) -> int:
    """Make `work` ready, keeping what a run on the same tables left; the number of utterances."""
    digest = hashlib.sha256(f"{fs} {_BATCH} {_BATCHES_IN_FOLDER}\n".encode())
    total = 0
    for name in ("utt2spk", "wav.scp", "segments", "utt2channel", "utt2speed"):
        digest.update(f"{name}\n".encode())
        if (source / name).exists():
            with open(source / name, "rb") as handle:
                for line in handle:
                    digest.update(line)
                    total += name == "utt2spk"
    inputs = work / "inputs.sha256"
    if not (inputs.exists() and inputs.read_text(encoding="utf-8") == digest.hexdigest()):
        shutil.rmtree(work, ignore_errors=True)
        (work / "parts").mkdir(parents=True)
        with atomic_file(inputs) as out:
            out.write(digest.hexdigest())
    return total


def _rows(source: Path, spool: Path) -> Iterator[_Row]:
    """The utterances; those with segments in the order of their recordings."""

    def values(name: str, default: str) -> Iterable[str]:
        path = source / name
        return (value for _, value in iter_table(path)) if path.exists() else repeat(default)

    extras = zip(values("utt2channel", "0"), values("utt2speed", "1"))
    if not (source / "segments").exists():
        for (utterance, path), (channel, speed) in zip(iter_table(source / "wav.scp"), extras):
            yield _Row(utterance, path, None, None, int(channel), float(speed))
        return
    segments: ExternalSort[tuple[str, _Row]] = ExternalSort(_in_recording, spool)
    for (utterance, segment), (channel, speed) in zip(iter_table(source / "segments"), extras):
        recording, start, end = segment.split()
        row = _Row(utterance, "", float(start), float(end), int(channel), float(speed))
        segments.add((recording, row))
    recordings = iter_table(source / "wav.scp")
    for name, pairs in groupby(segments, key=itemgetter(0)):
        path = next((path for recording, path in recordings if recording == name), None)
        if path is None:
            raise UserError(
                f"{source}: recording {name} of segments is not in wav.scp; validate the set"
            )
        for _, row in pairs:
            yield row._replace(path=path)


def _in_recording(pair: tuple[str, _Row]) -> tuple:
    recording, row = pair
    return recording, row.start, row.utterance


def _batches(rows: Iterable[_Row], work: Path, fs: int) -> Iterator[_Batch]:
    for number, batch in enumerate(in_batches(rows, _BATCH)):
        audio = work / "data" / f"format.{number // _BATCHES_IN_FOLDER:02d}"
        audio.mkdir(parents=True, exist_ok=True)
        yield _Batch(batch, audio, work / "parts" / f"{number:06d}", fs)


def _format_batch(batch: _Batch) -> list[_Result]:
    """Do one piece of work, unless an earlier run has done it."""
    if batch.part.exists():
        return [
            _Result(utterance, f"{batch.audio.name}/{_file_name(utterance)}", int(samples))
            for utterance, samples in iter_table(batch.part)
        ]
    results = []
    for path, rows in groupby(batch.rows, key=attrgetter("path")):
        results += _format_recording(path, list(rows), batch.audio, batch.fs)
    if not any(result.reason for result in results):
        with atomic_file(batch.part) as part:
            part.writelines(f"{result.utterance} {result.samples}\n" for result in results)
    return results


def _format_recording(path: str, rows: list[_Row], folder: Path, fs: int) -> list[_Result]:
    results = []
    try:
        with open_audio(path) as audio:
            for row in rows:
                name = _file_name(row.utterance)
                try:
                    samples = _to_rate(_read(audio, row), audio.samplerate * row.speed, fs)
                    if not len(samples):
                        raise BadAudio(f"no samples: {path}")
                except BadAudio as error:
                    results.append(_Result(row.utterance, "", 0, str(error)))
                    continue
                if len(samples) == audio.frames and _is_as_wanted(audio, row, fs):
                    shutil.copyfile(path, folder / name)
                else:
                    soundfile.write(
                        folder / name, _to_16_bit(samples), fs, format="FLAC", subtype="PCM_16"
                    )
                results.append(_Result(row.utterance, f"{folder.name}/{name}", len(samples)))
    except BadAudio as error:
        return [_Result(row.utterance, "", 0, str(error)) for row in rows]
    return results


def _file_name(utterance: str) -> str:
    name = quote(utterance, safe="+=@,")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(utterance.encode()).hexdigest()[:16]}"
    return f"{name}.flac"


def _read(audio: soundfile.SoundFile, row: _Row) -> np.ndarray:
    """Samples (N,) of an utterance at its own rate, in [-1, 1]."""
    fs = audio.samplerate
    if not row.channel < audio.channels:
        raise BadAudio(
            f"channel out of range: {row.channel} of {row.path}, which has {audio.channels}"
        )
    start = round((row.start or 0) * fs)
    stop = audio.frames if row.end is None else min(round(row.end * fs), audio.frames)
    if not start < stop:
        raise BadAudio(f"no samples: {row.path} from {start / fs:g} s on")
    try:
        _go_to(audio, start)
        samples = audio.read(stop - start, dtype="float32", always_2d=True)[:, row.channel]
    except soundfile.LibsndfileError:
        raise BadAudio(f"truncated or damaged: {row.path} cannot be decoded to its end") from None
    if len(samples) < stop - start - (_MP3_SLACK if audio.format == "MP3" else 0):
        there = start + len(samples)
        raise BadAudio(f"truncated: {row.path} has {there} samples of {audio.frames}")
    if not np.isfinite(samples).all():
        raise BadAudio(f"samples that are no numbers: {row.path}")
    return samples


def _go_to(audio: soundfile.SoundFile, frame: int) -> None:
    """Make `frame` the next one that is read."""
    if frame == audio.tell():
        return
    if audio.format != "OGG":
        audio.seek(frame)
        return
    # libsndfile's seek in Vorbis lands up to a block of samples off: decode what lies before.
    if frame < audio.tell():
        audio.seek(0)
    while (missing := frame - audio.tell()) > 0:
        if not len(audio.read(min(missing, _SKIP), dtype="float32")):
            return


def _is_as_wanted(audio: soundfile.SoundFile, row: _Row, fs: int) -> bool:
    """The file is what would be written: a copy costs less (it was read all the same)."""
    form = (audio.format, audio.subtype, audio.channels, audio.samplerate, row.speed)
    return form == ("FLAC", "PCM_16", 1, fs, 1)


def _to_rate(samples: np.ndarray, from_fs: float, to_fs: int) -> np.ndarray:
    if from_fs == to_fs:
        return samples
    return soxr.resample(np.ascontiguousarray(samples), from_fs, to_fs, quality="HQ")


def _to_16_bit(samples: np.ndarray) -> np.ndarray:
    """int16 of samples in [-1, 1); 16 bit samples come out as they went in, beyond is clipped."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _write_tables(
    source: Path, work: Path, target: Path, results: Iterable[_Result], fs: int
) -> float:
    """All tables of the formatted set; its duration in s."""
    audio = target.absolute() / "data"
    total = 0
    with (
        open(work / "wav.scp", "w", encoding="utf-8", newline="\n") as wav,
        open(work / "utt2num_samples", "w", encoding="utf-8", newline="\n") as numbers,
        open(work / "utt2dur", "w", encoding="utf-8", newline="\n") as durations,
    ):
        for utterance, file, samples, _ in results:
            wav.write(f"{utterance} {audio}/{file}\n")
            numbers.write(f"{utterance} {samples}\n")
            durations.write(f"{utterance} {samples / fs!r}\n")
            total += samples
    for name in utterance_tables(source):
        if name not in _USED_UP:
            copy_kept(source / name, work / name, work / "utt2num_samples")
    write_spk2utt(work, target)
    write_category2utt(work)
    return total / fs
