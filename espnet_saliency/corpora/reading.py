"""What the readers of published corpora share: where the folder is, tables, ids and labels.

Tables are read line by line, a line a row, so that one row with an unbalanced quote or a stray tab
is one rejected row. No line is skipped without a word: a row that does not fit its header comes
with `problem` set.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple, Sequence

from espnet_saliency.corpora.utterance import Rejection, Utterance
from espnet_saliency.errors import UserError

STAGE = "corpus"
"""`Rejection.stage` of what a reader of a corpus refuses or leaves out."""


def rejection(utt_id: str, reason: str) -> Rejection:
    """A row or an utterance that the reader of a corpus does not pass on."""
    return Rejection(utt_id, STAGE, reason)


def locate(
    given: Path, fits: Callable[[Path], bool], looked_for: str, places: Sequence[str] = ("*", "..")
) -> Path:
    """The corpus folder: `given`, or where it is by mistake a level higher or lower than that.

    Args:
        given: the folder that the user named.
        fits: whether a folder is the one that the publisher's files lie in.
        looked_for: what `fits` looks for, for the message.
        places: patterns from `given`, tried in this order after `given` itself.

    Returns:
        An absolute path.

    Raises:
        UserError: `given` is no folder; nothing fits; several folders fit.
    """
    if not given.is_dir():
        raise UserError(f"--corpus_dir {given}: no such folder")
    given = given.absolute()
    if fits(given):
        return given
    for place in places:
        found = (
            [given.parent] if place == ".." else sorted(p for p in given.glob(place) if p.is_dir())
        )
        found = [folder for folder in found if fits(folder)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(str(folder) for folder in found)
            raise UserError(f"--corpus_dir {given}: several folders fit, name one of them: {names}")
    raise UserError(f"--corpus_dir {given}: no {looked_for} there, nor one level above or below it")


class Row(NamedTuple):
    """One line of a table."""

    line: int
    """Line number in the file, from 1."""
    values: dict[str, str]
    """Column -> value, as written."""
    problem: str
    """Why the row cannot be used; "" where it can."""


def header(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        UserError: the file is missing or empty, or names a column twice.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    for _, line in lines(path):
        columns = [column.strip() for column in _fields(line, path)]
        twice = sorted({c for c in columns if c and columns.count(c) > 1})
        if twice:
            raise UserError(f"{path}: column {twice[0]!r} is there twice: rename one")
        return columns
    raise UserError(f"{path}: the table is empty")


def read_table(path: Path, required: Iterable[str] = ()) -> Iterator[Row]:
    """The rows of a table with a header: .csv has commas and quotes, else tabs and no quotes.

    Raises:
        UserError: the file is missing or empty, or lacks a column of `required`; at once, before
            the first row is asked for.
    """
    columns = header(path)
    for name in required:
        if name not in columns:
            raise UserError(f"{path}: no column {name!r}; it has: {', '.join(columns)}")
    return _rows(path, columns)


def _rows(path: Path, columns: list[str]) -> Iterator[Row]:
    numbered = lines(path)
    next(numbered)
    for number, line in numbered:
        fields = _fields(line, path)
        problem = ""
        if "\ufffd" in line or "\0" in line:
            problem = "a character that is not UTF-8"
        elif len(fields) != len(columns):
            problem = (
                f"{len(fields)} fields where the header has {len(columns)} "
                "(a stray separator or quote)"
            )
        yield Row(number, dict(zip(columns, fields)), problem)


def _fields(line: str, path: Path) -> list[str]:
    # A tab-separated table is split as csv.QUOTE_NONE would: its quotes are text, often unbalanced.
    # The csv module itself stops the whole file at a lone carriage return.
    if path.suffix.lower() != ".csv":
        return line.split("\t")
    try:
        return next(csv.reader([line.replace("\r", " ")]), [])
    except csv.Error:  # a field of more than 128 kB
        return []


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number, from 1, and line of a text file, without line end or byte order mark.

    Blank lines are passed over. Only line feeds end a line; bytes that are not UTF-8 become U+FFFD.
    """
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as handle:
        for number, line in enumerate(handle, 1):
            line = line.rstrip("\r\n")
            if line.strip():
                yield number, line


def read_pairs(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, first word and the rest of each line of a Kaldi file.

    Raises:
        UserError: the file is missing.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return ((n, *(line.split(maxsplit=1) + [""])[:2]) for n, line in lines(path))


def check_shares(shares: Sequence[float]) -> None:
    """Refuse split shares that are not three: train, dev, test.

    Raises:
        UserError: there are more or fewer (that they sum to 1 is seen where they are used).
    """
    if len(shares) != 3:
        raise UserError(
            f"--split_shares {' '.join(map(str, shares))}: three shares, of train, dev and test, "
            "e.g. '0.8 0.1 0.1'"
        )


# Control characters, zero-width space, direction marks and byte order marks: not the zero-width
# joiner and non-joiner, which are letters of Persian spelling.
_INVISIBLE = re.compile(
    r"[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def identifier(name: str) -> str:
    """`name` as a word that can be an id: blanks and slashes become "_", invisible characters go."""
    return re.sub(r"[\s/\\]+", "_", _INVISIBLE.sub("", name).strip())


def utterance_id(speaker: str, name: str) -> str:
    """`name` with the speaker's id before it, unless it begins so already."""
    return name if name.startswith(f"{speaker}-") else f"{speaker}-{name}"


def label(accent: str) -> str:
    """An accent as one word in lower case: " South  African" -> "south_african"."""
    return identifier(accent.casefold()).lstrip(".")


def unique(utterances: Iterable[Utterance], rejected: list[Rejection]) -> Iterator[Utterance]:
    """The utterances, sorted by id, without those whose id came just before."""
    previous = None
    for utterance in utterances:
        if utterance.utt_id == previous:
            rejected.append(rejection(utterance.utt_id, "duplicate id: the first one is kept"))
        else:
            previous = utterance.utt_id
            yield utterance
