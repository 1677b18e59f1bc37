"""Stage 1: utterances of a corpus to a Kaldi data directory."""

from __future__ import annotations

import re
from collections import Counter, deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple
from urllib.parse import quote

from espnet_saliency.corpora.text import one_line
from espnet_saliency.corpora.utterance import Rejection, Utterance
from espnet_saliency.datadir.kaldi import (
    UNKNOWN,
    check_id,
    check_speaker_prefix,
    in_batches,
    write_spk2utt,
)
from espnet_saliency.datadir.parallel import muted_stderr, ordered_map
from espnet_saliency.datadir.probe import AudioInfo, BadAudio, probe
from espnet_saliency.datadir.rejection import RejectionLog
from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir
from espnet_saliency.progress import Progress

STAGE = "prepare"

MAX_OVERSHOOT = 0.5
"""A segment may end this far (s) behind its recording, and is then cut to it, as in Kaldi's
extract-segments; further behind, it is rejected."""

# Names of utt2… that have a meaning of their own; the others are free for a corpus's columns.
_TAKEN = {"spk", "accent", "dur", "channel", "speed", "num_samples"}

# Recordings whose headers are read in one piece of work.
_BATCH = 64


@dataclass
class DataDirCounts:
    """What a data directory holds."""

    utterances: int = 0
    speakers: int = 0
    seconds: float = 0.0
    accents: Counter[str] = field(default_factory=Counter)
    """Accent -> utterances; empty where no accent is known."""


class _Row(NamedTuple):
    """An utterance on its way: plain values, quick to write to a run and to read back."""

    stem: str
    path: str
    utterance: str
    speaker: str
    accent: str
    text: str
    start: float | None
    end: float | None
    channel: int
    columns: dict[str, str]
    recording: str = ""
    recording_seconds: float = 0.0
    seconds: float = 0.0


@dataclass
class _Seen:
    """Which of the optional files a set needs."""

    segments: bool = False
    accents: bool = False
    channels: bool = False
    columns: set[str] = field(default_factory=set)


def write_data_dir(
    folder: Path, utterances: Iterable[Utterance], log: RejectionLog, nj: int = 1
) -> DataDirCounts:
    """Write the data directory of one set, whole or not at all.

    wav.scp, text, utt2spk, spk2utt and utt2dur always; segments and reco2dur (durations of the
    recordings) where an utterance has a start or an end, and then for all of them; utt2accent where
    any accent is known, `unknown` standing for the others; utt2channel where any channel is not 0;
    utt2<column> for each of the columns, `unknown` standing for what is missing.

    Utterances may come in any order, and more of them than fit in memory: they are sorted on disk,
    once by recording, so that each header is read exactly once, and once by id. The result does
    not depend on the order, nor on `nj`. Every utterance ends in the folder or in `log`.

    Of several utterances with one id, the first by path, start and text that can be used is kept.

    Recordings of a set with segments are named by their file's name, those of a set without by
    their utterance. Texts are brought to one line with single blanks (`one_line`).

    Args:
        folder: data/<set>; an older one is replaced.
        utterances: the set. Ids begin with the speaker id, and the order of the speakers is that of
            their utterances (see `check_speaker_order`): `<speaker>-<rest>` does both, unless
            one speaker id is the beginning of another.
        log: takes the utterances that are rejected: a file missing, without content, not audio or
            cut off; a channel that is not there; a segment that ends before it starts or lies
            outside its recording (see MAX_OVERSHOOT); an empty text; an id that is there already.
        nj: headers read at a time.

    Raises:
        UserError: an id, accent or column name that cannot be written; an utterance id that does
            not begin with its speaker's; clashing speaker ids; no utterance left.
    """
    with atomic_dir(folder) as temporary:
        seen = _Seen()
        by_recording: ExternalSort[_Row] = ExternalSort(
            attrgetter("stem", "path", "utterance"), temporary
        )
        for utterance in utterances:
            by_recording.add(_to_row(utterance, folder, seen))
        by_utterance: ExternalSort[_Row] = ExternalSort(
            attrgetter("utterance", "path", "start", "text"), temporary
        )
        label = f"{folder.name}: reading audio headers"
        with Progress(label, len(by_recording)) as progress, muted_stderr():
            for rows, info in _measured(by_recording, nj):
                for row in _checked(rows, info, seen, log):
                    by_utterance.add(row)
                progress.advance(len(rows))
        if not len(by_utterance):
            why = f", all rejected: {log.commonest()}; see {log.path}" if len(by_recording) else ""
            raise UserError(f"{folder}: no utterance to write{why}; look at what the corpus holds")
        counts = _write_utterances(temporary, _unique(by_utterance, log), seen)
        counts.speakers = write_spk2utt(temporary, folder)
        return counts


def _to_row(utterance: Utterance, folder: Path, seen: _Seen) -> _Row:
    """The utterance as a row, its ids checked; notes in `seen` what it needs."""
    path = str(utterance.path)
    where = f"{folder.name}: {path}"
    check_id("utterance", utterance.utt_id, where)
    check_id("speaker", utterance.speaker, where)
    check_speaker_prefix(utterance.utt_id, utterance.speaker, where)
    if utterance.accent:
        check_id("accent", utterance.accent, where)
        seen.accents |= utterance.accent != UNKNOWN
    if "\n" in path or not _is_utf8(path):
        raise UserError(f"{path!r}: a path in a table is one line of UTF-8; rename the file")
    for name in sorted(utterance.columns.keys() - seen.columns):
        if not re.fullmatch("[A-Za-z0-9_]+", name) or name in _TAKEN:
            raise UserError(
                f"{where}: column {name!r} cannot become a file utt2{name}: a name has ASCII "
                f"letters, digits and _ only and is none of {', '.join(sorted(_TAKEN))}; rename it"
            )
        seen.columns.add(name)
    segment = utterance.start is not None or utterance.end is not None
    seen.segments |= segment
    seen.channels |= utterance.channel != 0
    return _Row(
        # Names of recordings must sort and print as ids do.
        stem=quote(utterance.path.stem, safe="+="),
        path=path,
        utterance=utterance.utt_id,
        speaker=utterance.speaker,
        accent=utterance.accent or UNKNOWN,
        text=one_line(utterance.text),
        start=(utterance.start or 0.0) if segment else None,
        end=utterance.end,
        channel=utterance.channel,
        columns=dict(utterance.columns),
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _measured(
    rows: Iterable[_Row], nj: int
) -> Iterator[tuple[list[_Row], AudioInfo | str]]:
    """The rows of each recording, named, with its header or the reason why there is none."""
    waiting: deque[list[_Row]] = deque()

    def tasks() -> Iterator[list[str]]:
        for batch in in_batches(_recordings(rows), _BATCH):
            waiting.extend(batch)
            yield [rows[0].path for rows in batch]

    for infos in ordered_map(_probe_all, tasks(), nj):
        for info in infos:
            yield waiting.popleft(), info


def _recordings(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows of each path, with a recording id: the file's name, numbered where several share it."""
    for stem, same_stem in groupby(rows, key=attrgetter("stem")):
        for number, (_, same_path) in enumerate(groupby(same_stem, key=attrgetter("path")), 1):
            # "@" is percent-encoded in a stem, so no stem looks like a numbered one.
            name = stem if number == 1 else f"{stem}@{number}"
            yield [row._replace(recording=name) for row in same_path]


def _probe_all(paths: list[str]) -> list[AudioInfo | str]:
    """Header, or reason for rejection, of each path."""
    infos: list[AudioInfo | str] = []
    for path in paths:
        try:
            infos.append(probe(path))
        except BadAudio as error:
            infos.append(str(error))
    return infos


def _checked(
    rows: list[_Row], info: AudioInfo | str, seen: _Seen, log: RejectionLog
) -> list[_Row]:
    """The good rows of one recording with their times; the others go to `log`."""
    kept = []
    for row in rows:
        reason = info if isinstance(info, str) else _why_not(row, info)
        if reason:
            log.add(Rejection(row.utterance, STAGE, reason))
            continue
        start, end = row.start or 0.0, info.seconds
        if row.end is not None:
            end = min(row.end, end)
        if seen.segments:
            row = row._replace(start=start, end=end, recording_seconds=info.seconds)
        kept.append(row._replace(seconds=end - start))
    return kept


def _why_not(row: _Row, info: AudioInfo) -> str | None:
    if not row.text:
        return "empty text"
    if not 0 <= row.channel < info.channels:
        return f"channel out of range: {row.channel} of {row.path}, which has {info.channels}"
    if row.start is not None:
        end = info.seconds if row.end is None else row.end
        # Written so that a time that is not a number fails too.
        if not 0 <= row.start < end:
            return f"segment without length: from {row.start:g} s to {end:g} s of {row.path}"
        if not (row.start < info.seconds and end <= info.seconds + MAX_OVERSHOOT):
            return (
                f"segment outside the recording: from {row.start:g} s to {end:g} s of {row.path}, "
                f"which has {info.seconds:g} s"
            )
    return None


def _unique(rows: Iterable[_Row], log: RejectionLog) -> Iterator[_Row]:
    """The first row of each utterance id; the others go to `log`."""
    for name, same_id in groupby(rows, key=attrgetter("utterance")):
        first = next(same_id)
        yield first
        for row in same_id:
            reason = f"duplicate id: of {row.path}; the one of {first.path} is kept"
            log.add(Rejection(name, STAGE, reason))


def _write_recordings(folder: Path, recordings: Iterable[tuple[str, str, float]]) -> None:
    with ExitStack() as files:
        wav = _create(files, folder / "wav.scp")
        durations = _create(files, folder / "reco2dur")
        for (name, path, seconds), _ in groupby(recordings):
            wav.write(f"{name} {path}\n")
            durations.write(f"{name} {_number(seconds)}\n")


def _write_utterances(folder: Path, rows: Iterable[_Row], seen: _Seen) -> DataDirCounts:
    """All tables with one line an utterance, and those of the recordings that segments lie in."""
    counts = DataDirCounts()
    recordings: ExternalSort[tuple[str, str, float]] = ExternalSort(itemgetter(0), folder)
    with ExitStack() as files:
        text = _create(files, folder / "text")
        utt2spk = _create(files, folder / "utt2spk")
        utt2dur = _create(files, folder / "utt2dur")
        where = _create(files, folder / ("segments" if seen.segments else "wav.scp"))
        accents = _create(files, folder / "utt2accent") if seen.accents else None
        channels = _create(files, folder / "utt2channel") if seen.channels else None
        columns = {n: _create(files, folder / f"utt2{n}") for n in sorted(seen.columns)}
        for row in rows:
            name = row.utterance
            text.write(f"{name} {row.text}\n")
            utt2spk.write(f"{name} {row.speaker}\n")
            utt2dur.write(f"{name} {_number(row.seconds)}\n")
            if seen.segments:
                where.write(f"{name} {row.recording} {_number(row.start)} {_number(row.end)}\n")
                recordings.add((row.recording, row.path, row.recording_seconds))
            else:
                where.write(f"{name} {row.path}\n")
            if accents:
                accents.write(f"{name} {row.accent}\n")
                counts.accents[row.accent] += 1
            if channels:
                channels.write(f"{name} {row.channel}\n")
            for column, file in columns.items():
                file.write(f"{name} {one_line(row.columns.get(column, '')) or UNKNOWN}\n")
            counts.utterances += 1
            counts.seconds += row.seconds
    if seen.segments:
        _write_recordings(folder, recordings)
    return counts


def _create(files: ExitStack, path: Path):
    return files.enter_context(open(path, "w", encoding="utf-8", newline="\n"))


def _number(seconds: float) -> str:
    """Seconds to the microsecond, without superfluous digits."""
    return repr(round(float(seconds), 6))
