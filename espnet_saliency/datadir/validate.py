"""Is a data directory what every later stage takes it for?"""

from __future__ import annotations

import os
from collections import deque
from itertools import zip_longest
from operator import itemgetter
from pathlib import Path
from tempfile import gettempdir
from typing import Iterable, Iterator, NoReturn

from espnet_saliency.datadir.kaldi import (
    check_id,
    check_speaker_order,
    check_speaker_prefix,
    iter_table,
    utterance_tables,
)
from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.errors import UserError

REQUIRED = ("wav.scp", "text", "utt2spk", "spk2utt")

# Rounding of times written with few digits.
_TOLERANCE = 0.001


def validate_data_dir(folder: Path) -> int:
    """Check a data directory, in one pass over each of its files; return its number of utterances.

    Needed are wav.scp, text, utt2spk and spk2utt; segments, reco2dur and any utt2… are checked
    where they are there. All tables are in UTF-8, sorted in the C locale and unique; the utterances
    of all of them are the same; ids can stand in a table and begin with the speaker id; speakers
    come in the order of their utterances; spk2utt is the inverse of utt2spk; no text is empty;
    durations, speeds and numbers of samples are positive; recordings exist on disk, none is a
    command, none is unused; segments lie within their recordings, as far as reco2dur tells their
    durations.

    Raises:
        UserError: naming the first file and id that is wrong, and both values.
    """
    folder = Path(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            needed = ", ".join(REQUIRED)
            raise UserError(f"{folder / name}: no such file; a data directory has {needed}")
    utterances = _check_utterances(folder)
    _check_spk2utt(folder)
    _check_recordings(folder)
    if (folder / "segments").exists():
        _check_segments(folder)
    return utterances


def iter_sorted(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a table, checked to be sorted and unique.

    Raises:
        UserError: naming both keys.
    """
    before = ""
    for key, value in iter_table(path):
        if key == before:
            raise UserError(f"{path}: {key} is there twice; keep one of the lines")
        if key < before:
            raise UserError(f"{path}: not sorted: {before} stands before {key}; LC_ALL=C sort it")
        yield key, value
        before = key


def _check_utterances(folder: Path) -> int:
    """All tables by utterance, in step."""
    names = utterance_tables(folder)
    if "segments" not in names:
        names.insert(0, "wav.scp")
    count = 0
    before = ("", "")
    tables = [iter_sorted(folder / name) for name in names]
    for lines in zip_longest(*tables):
        if len({line and line[0] for line in lines}) > 1:
            # A table out of order disagrees too, and its order is then what is wrong.
            for table in tables:
                deque(table, maxlen=0)
            _refuse_utterance(folder, names, lines)
        utterance = lines[0][0]
        values = {name: value for name, (_, value) in zip(names, lines)}
        speaker = values["utt2spk"]
        check_id("utterance", utterance, folder / "utt2spk")
        check_id("speaker", speaker, folder / "utt2spk")
        check_speaker_prefix(utterance, speaker, folder / "utt2spk")
        check_speaker_order(before, (utterance, speaker), folder / "utt2spk")
        for name, value in values.items():
            _check_value(folder / name, utterance, value)
        before = (utterance, speaker)
        count += 1
    if not count:
        raise UserError(f"{folder}: the tables are empty; prepare the directory again")
    return count


def _refuse_utterance(folder: Path, names: list[str], lines: Iterable) -> NoReturn:
    """The tables name several utterances; the smallest id is the one that others lack."""
    ids = [line[0] if line else None for line in lines]
    first = min(key for key in ids if key is not None)
    has = next(name for name, key in zip(names, ids) if key == first)
    lacks = next(name for name, key in zip(names, ids) if key != first)
    raise UserError(
        f"{folder}: utterance {first} is in {has} but not in {lacks}; all files must agree on the "
        "utterances"
    )


def _check_value(path: Path, utterance: str, value: str) -> None:
    """A value is there, and a positive number where it is one."""
    if not value:
        what = "text" if path.name == "text" else "value"
        raise UserError(f"{path}: utterance {utterance} has an empty {what}; mend or remove it")
    if path.name in ("utt2dur", "utt2speed", "utt2num_samples"):
        if not _to_float(path, utterance, value) > 0:
            raise UserError(f"{path}: utterance {utterance} has {value}, which is not above 0")
    elif path.name == "utt2channel" and not value.isdecimal():
        raise UserError(f"{path}: utterance {utterance} has channel {value}, not one of 0, 1, 2 …")


def _to_float(path: Path, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"{path}: {key} has '{value}', which is not a number") from None


def _check_spk2utt(folder: Path) -> None:
    """spk2utt, read line by line, gives utt2spk."""
    path = folder / "spk2utt"
    pairs = ((u, speaker) for speaker, value in iter_sorted(path) for u in value.split())
    for here, there in zip_longest(pairs, iter_table(folder / "utt2spk")):
        if here != there:
            says = [f"{p[0]} is of speaker {p[1]}" if p else "no more" for p in (here, there)]
            raise UserError(
                f"{path}: is not the inverse of utt2spk: it says '{says[0]}' where utt2spk says "
                f"'{says[1]}'; write it anew from utt2spk"
            )


def _check_recordings(folder: Path) -> None:
    """Every recording is a file."""
    for recording, path in iter_sorted(folder / "wav.scp"):
        if path.endswith("|"):
            raise UserError(
                f"{folder / 'wav.scp'}: {recording} is a command, '{path}'; commands are not run: "
                "write the audio to a file"
            )
        if not os.path.isfile(path):
            raise UserError(f"{folder / 'wav.scp'}: the file of {recording} is missing: {path}")


def _check_segments(folder: Path) -> None:
    """Segments have a length, a recording, and lie within it; each recording has one."""
    path = folder / "segments"
    segments: ExternalSort[tuple[str, str, float]] = ExternalSort(itemgetter(0), Path(gettempdir()))
    for utterance, value in iter_table(path):
        parts = value.split()
        if len(parts) != 3:
            raise UserError(f"{path}: {utterance}: '{value}' is not 'recording start end'")
        start, end = (_to_float(path, utterance, time) for time in parts[1:])
        if not 0 <= start < end:
            raise UserError(f"{path}: {utterance} starts at {start:g} s and ends at {end:g} s")
        segments.add((parts[0], utterance, end))
    recordings = _recordings(folder)
    recording, seconds = next(recordings)
    used = False
    for name, utterance, end in segments:
        while recording is not None and recording < name:
            _check_used(folder, recording, used)
            recording, seconds = next(recordings, (None, None))
            used = False
        if recording != name:
            raise UserError(f"{path}: recording {name} of {utterance} is not in wav.scp")
        if seconds is not None and end > seconds + _TOLERANCE:
            raise UserError(
                f"{path}: {utterance} ends at {end:g} s, but recording {name} has {seconds:g} s"
            )
        used = True
    while recording is not None:
        _check_used(folder, recording, used)
        recording, used = next(recordings, (None, None))[0], False


def _check_used(folder: Path, recording: str, used: bool) -> None:
    if not used:
        raise UserError(
            f"{folder / 'wav.scp'}: recording {recording} has no line in segments; remove it"
        )


def _recordings(folder: Path) -> Iterator[tuple[str, float | None]]:
    """Recordings of wav.scp with their durations (s), None where reco2dur is not there."""
    durations = folder / "reco2dur"
    if not durations.exists():
        yield from ((name, None) for name, _ in iter_table(folder / "wav.scp"))
        return
    for wav, dur in zip_longest(iter_table(folder / "wav.scp"), iter_sorted(durations)):
        if wav is None or dur is None or wav[0] != dur[0]:
            names = " and ".join(f"'{line[0]}'" if line else "nothing" for line in (wav, dur))
            raise UserError(f"{folder}: wav.scp and reco2dur disagree: {names} in the same place")
        yield wav[0], _to_float(durations, dur[0], dur[1])
