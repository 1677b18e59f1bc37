"""Transcripts as other programs write them: Kaldi text, NIST trn and stm, and maps of labels."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.normalize import collapse_blanks
from espnet_saliency.scoring.score_folder import first_few, read_table

FORMATS = ("text", "trn", "stm")

_TRN = re.compile(r"^(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*$")

_ALTERNATIVES = re.compile(r"\{[^{}]*/[^{}]*\}")

# Of stm: <o>, or labels with commas between them. Not <unk>, a word of some recognisers.
_STM_LABELS = re.compile(r"^<(?:[oO]|[^<>\s]*,[^<>\s]*)>(?:\s+|$)")
_IGNORED = "ignore_time_segment_in_scoring"


class Transcripts(NamedTuple):
    """Texts by utterance id."""

    texts: dict[str, str]
    speakers: dict[str, str]
    """Where the file names them (stm); {} otherwise."""
    ignored: frozenset[str] = frozenset()
    """Ids of segments that are not to be scored (stm)."""


def format_of(path: Path) -> str:
    """trn or stm by the file's ending; Kaldi text otherwise."""
    ending = path.suffix.lower().removeprefix(".")
    return ending if ending in FORMATS else "text"


def read_transcripts(path: Path) -> Transcripts:
    """Read references or hypotheses.

    - Kaldi text: `id words`, one line an utterance.
    - trn (sclite): `words (id)`; lines that begin with `;;` are comments.
    - stm (sclite): `file channel speaker begin end <labels> words`; the id is made of file,
      channel, speaker and begin (in 1/100 s), so two files agree on it where they agree on these.
      A text with IGNORE_TIME_SEGMENT_IN_SCORING in it leaves the segment out, as sclite does.

    sclite's alternatives, `{ this / that }`, are refused: they would be scored as words. What it
    takes for optional, a word in parentheses, is a word here.

    Raises:
        UserError: the file is missing, a line is not of its format or has alternatives, an id
            occurs twice.
    """
    if path.is_dir():
        raise UserError(f"{path}: a folder: name a transcript in it (Kaldi text, .trn or .stm)")
    if not path.is_file():
        raise UserError(f"{path}: no such file: name a transcript (Kaldi text, .trn or .stm)")
    form = format_of(path)
    if form == "text":
        texts = read_table(path)
        for utt_id, text in texts.items():
            _refuse_alternatives(text, f"{path}, {utt_id}")
        return Transcripts(texts, {})
    rows: list[tuple[str, str, str]] = []
    ignored = set()
    for number, line in enumerate(_text_of(path).splitlines(), start=1):
        if line.strip() and not line.startswith(";;"):
            where = f"{path}, line {number}"
            utt_id, text, speaker = (_trn if form == "trn" else _stm)(line, where)
            if form == "stm" and _IGNORED in text.lower():
                ignored.add(utt_id)
                continue
            _refuse_alternatives(text, where)
            rows.append((utt_id, text, speaker))
    texts = {utt_id: text for utt_id, text, _ in rows}
    if len(texts) < len(rows):
        seen: set[str] = set()
        doubled = [i for i, _, _ in rows if i in seen or seen.add(i)]
        raise UserError(
            f"{path}: {len(doubled)} ids occur more than once ({first_few(doubled)}): "
            "keep one line for each"
        )
    speakers = {utt_id: speaker for utt_id, _, speaker in rows if speaker}
    return Transcripts(texts, speakers, frozenset(ignored - texts.keys()))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}): convert it") from None


def _refuse_alternatives(text: str, where: str) -> None:
    if alternatives := _ALTERNATIVES.search(text):
        raise UserError(
            f"{where}: alternatives are not scored: put one of them in place of {alternatives[0]!r}"
        )


def _trn(line: str, where: str) -> tuple[str, str, str]:
    match = _TRN.match(line)
    if match is None:
        raise UserError(f"{where}: not a line of trn, `words (id)`: {line.strip()[:60]!r}")
    return match["id"], match["text"], ""


def _stm(line: str, where: str) -> tuple[str, str, str]:
    fields = line.split(maxsplit=5)
    try:
        file, channel, speaker, begin, end = fields[:5]
        if not (math.isfinite(float(begin)) and math.isfinite(float(end))):
            raise ValueError
    except ValueError:
        raise UserError(
            f"{where}: not a line of stm, `file channel speaker begin end <labels> words`: "
            f"{line.strip()[:60]!r}"
        ) from None
    text = _STM_LABELS.sub("", fields[5]) if len(fields) > 5 else ""
    return f"{speaker}-{file}-{channel}-{round(100 * float(begin)):07d}", text, speaker


def read_labels(path: Path, column: str) -> dict[str, str]:
    """A label for each id: a Kaldi table (`id label`), or a csv or tsv with a header.

    Labels are brought to one Unicode form (NFC), and their blanks collapsed: what looks the same is
    one label.

    Args:
        path: the file; .csv and .tsv have a header whose first column holds the ids.
        column: the column of a csv or tsv to read.

    Raises:
        UserError: the file or the column is missing, a row is broken, or an id has two labels.
    """
    if _delimiter(path) is None:
        return {key: _label(value) for key, value in read_table(path).items()}
    names, rows = _read_table_with_header(path)
    if column not in names:
        raise UserError(f"{path}: no column {column!r} in its header, which has {', '.join(names)}")
    return _labels_of(path, names, rows, column)


def read_columns_of(path: Path) -> dict[str, dict[str, str]]:
    """Column -> id -> label, of a csv or tsv whose first column holds the ids; that one is left out.

    Raises:
        UserError: no such file, no csv or tsv, a row that is broken, or an id with two labels.
    """
    if _delimiter(path) is None:
        raise UserError(f"{path}: neither .csv nor .tsv: columns need a table with a header")
    names, rows = _read_table_with_header(path)
    return {name: _labels_of(path, names, rows, name) for name in names[1:]}


def _read_table_with_header(path: Path) -> tuple[list[str], list[list[str]]]:
    """Names of the columns of a csv or tsv, and its rows, each with a cell for every column."""
    rows = _rows(path, _delimiter(path))
    if not rows:
        raise UserError(f"{path}: empty: its first row is to name the columns")
    (_, names), *rows = rows
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path}: its header, {', '.join(names)}, has a column twice or without a name")
    for number, cells in rows:
        if len(cells) != len(names):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells, where the header has {len(names)}: mend the row"
            )
    return names, [cells for _, cells in rows]


def _labels_of(path: Path, names: list[str], rows: list[list[str]], column: str) -> dict[str, str]:
    """Id -> label of one column; what the other columns say of an id has no say in it."""
    place = names.index(column)
    labels: dict[str, str] = {}
    for cells in rows:
        key, label = cells[0].strip(), _label(cells[place])
        if labels.setdefault(key, label) != label:
            raise UserError(f"{path}: {key} has two labels, {labels[key]!r} and {label!r}: keep one")
    return labels


def _delimiter(path: Path) -> str | None:
    """What parts the cells of a csv or tsv; None for a Kaldi table."""
    if path.is_dir():
        raise UserError(f"{path}: a folder: name a table in it (Kaldi table, .csv or .tsv)")
    if not path.is_file():
        raise UserError(f"{path}: no such file: name a table (Kaldi table, .csv or .tsv)")
    return {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())


def _rows(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of each row that is not empty; quotes that do not match are refused."""
    # As lines with their own ends: a line end inside quotes shows, whatever it is.
    reader = csv.reader(_text_of(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
    rows = []
    try:
        for cells in reader:
            if broken := next((cell for cell in cells if re.search(r"[\r\n\t\0]", cell)), None):
                raise UserError(
                    f"{path}, line {reader.line_num}: a cell goes over several lines, or has a tab or NUL in it: "
                    f"{broken[:40]!r}; mend its quotes"
                )
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}: mend its quotes") from None
    return rows


def _label(text: str) -> str:
    return unicodedata.normalize("NFC", collapse_blanks(text))
