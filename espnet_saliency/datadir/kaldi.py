"""Kaldi tables and data directories: reading, and the rules that every writer and check shares.

A table is a text file in UTF-8 with one `key value` line an entry, sorted by key in the C locale
and unique. Python compares strings by code point, which is the order of their UTF-8 bytes, so
`sorted` is the C locale. Tables are streamed: nothing here grows with the corpus unless it says so.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Iterable, Iterator

from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.errors import UserError

UNKNOWN = "unknown"
"""What a table says of an utterance whose accent (or other fact) is not known."""

# A blank ends an id in a table, a slash a folder's name; the rest cannot be written or printed.
_NOT_IN_IDS = re.compile(r"[\s/\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def iter_table(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of each line; the value is "" where a line holds a key alone.

    Raises:
        UserError: the file is missing, not UTF-8, begins with a byte order mark (Kaldi and ESPnet
            take it for a part of the first key), or has a line without a key.
    """
    number = 0
    try:
        # Only "\n" ends a line: texts may hold other characters that Python takes for line ends.
        with open(path, encoding="utf-8", newline="\n") as handle:
            for number, line in enumerate(handle, 1):
                if number == 1 and line.startswith("\ufeff"):
                    raise UserError(
                        f"{path}: begins with a byte order mark; save it as UTF-8 without one"
                    )
                parts = line.split(maxsplit=1)
                if not parts:
                    raise UserError(f"{path}: line {number} is empty; remove it")
                yield parts[0], parts[1].rstrip() if len(parts) == 2 else ""
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: after line {number}: not UTF-8 ({error.reason}); convert the file to UTF-8"
        ) from error


def read_table(path: str | os.PathLike[str]) -> dict[str, str]:
    """The whole table, key -> value; for tables that fit in memory.

    Raises:
        UserError: as `iter_table`; or a key is there twice.
    """
    table: dict[str, str] = {}
    for key, value in iter_table(path):
        if key in table:
            raise UserError(f"{path}: {key} is there twice: '{table[key]}' and '{value}'; keep one")
        table[key] = value
    return table


def utterance_tables(folder: Path) -> list[str]:
    """Names of the tables in `folder` with one line an utterance: text, segments, utt2…"""
    names = [name for name in ("segments", "text") if (folder / name).exists()]
    return names + sorted(path.name for path in folder.glob("utt2*"))


def write_spk2utt(folder: Path, where: Path) -> int:
    """Write spk2utt, the inverse of utt2spk, whose speakers come in blocks; return their number.

    Args:
        folder: has utt2spk.
        where: the folder to name in an error, which may have another name while it is written.

    Raises:
        UserError: speakers' ids clash (see `check_speaker_order`).
    """
    speakers = 0
    before = ("", "")
    with open(folder / "spk2utt", "w", encoding="utf-8", newline="\n") as out:
        for utterance, speaker in iter_table(folder / "utt2spk"):
            check_speaker_order(before, (utterance, speaker), where)
            if speaker == before[1]:
                out.write(f" {utterance}")
            else:
                out.write(f"{chr(10) if speakers else ''}{speaker} {utterance}")
                speakers += 1
            before = (utterance, speaker)
        out.write("\n" if speakers else "")
    return speakers


def write_category2utt(folder: Path) -> None:
    """Write category2utt, accent -> its utterances, where there is utt2accent.

    ESPnet's category sampler (`--category_sample_size`, `batch_type: catbel`) reads it.
    """
    if not (folder / "utt2accent").exists():
        return
    by_accent: ExternalSort[tuple[str, str]] = ExternalSort(itemgetter(0), folder)
    for utterance, accent in iter_table(folder / "utt2accent"):
        by_accent.add((accent, utterance))
    with open(folder / "category2utt", "w", encoding="utf-8", newline="\n") as out:
        for accent, pairs in groupby(by_accent, key=itemgetter(0)):
            out.write(accent)
            out.writelines(f" {utterance}" for _, utterance in pairs)
            out.write("\n")


def copy_kept(source: Path, target: Path, kept: Path) -> None:
    """Copy those lines of the table `source` to `target` whose keys are in the table `kept`.

    Raises:
        UserError: a key of `kept` is not in `source`.
    """
    wanted = iter_table(kept)
    key, _ = next(wanted, (None, ""))
    with open(target, "w", encoding="utf-8", newline="\n") as out:
        for found, value in iter_table(source):
            if found == key:
                out.write(f"{found} {value}\n")
                key, _ = next(wanted, (None, ""))
    if key is not None:
        raise UserError(f"{source}: utterance {key} is missing; prepare the directory again")


def check_id(kind: str, value: str, where: str | os.PathLike[str]) -> None:
    """Refuse an id that could not stand in a table or in a file's name.

    Args:
        kind: what the id is of, e.g. "utterance".
        value: the id.
        where: the file or folder to name.

    Raises:
        UserError: it is empty, begins with ".", or holds a blank, a "/" or a control character.
    """
    if not value or value[0] == "." or _NOT_IN_IDS.search(value):
        raise UserError(
            f"{where}: {kind} id {value!r}: an id is not empty, does not begin with a point and "
            "has no blank, slash or control character; rename it"
        )


def check_speaker_prefix(
    utterance: str, speaker: str, where: str | os.PathLike[str]
) -> None:
    """Refuse an utterance whose id does not begin with its speaker's.

    Raises:
        UserError: naming both.
    """
    if not utterance.startswith(speaker):
        raise UserError(
            f"{where}: utterance id {utterance} does not begin with its speaker id {speaker}; "
            f"rename it {speaker}-{utterance}"
        )


def check_speaker_order(
    before: tuple[str, str], now: tuple[str, str], where: str | os.PathLike[str]
) -> None:
    """Refuse speakers in another order than their utterances.

    Kaldi asks that utt2spk sorted by utterance is sorted by speaker too, so that spk2utt can be
    its inverse, each speaker one block. With ids `<speaker>-<rest>` this holds by construction
    unless one speaker id is another one followed by a character up to "-": of speakers "a" and
    "a-b", utterance "a-b-1" lies between "a-a" and "a-c".

    Args:
        before: (utterance, speaker) of the line before; ("", "") at the first.
        now: (utterance, speaker) of this line.
        where: the file or folder to name.

    Raises:
        UserError: naming both speakers.
    """
    if now[1] < before[1]:
        raise UserError(
            f"{where}: the ids of speakers {now[1]} and {before[1]} clash: utterance {before[0]} "
            f"of {before[1]} sorts before {now[0]} of {now[1]}; rename one speaker so that neither "
            "id begins with the other"
        )


def in_batches(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
