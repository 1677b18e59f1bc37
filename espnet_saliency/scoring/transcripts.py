"""Transcripts as other programs write them: Kaldi text, NIST trn and stm, and maps of labels."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import NamedTuple

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.score_folder import first_few, read_table

FORMATS = ("text", "trn", "stm")

_TRN = re.compile(r"^(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*$")

_ALTERNATIVES = re.compile(r"(?<!\S)\{\s[^}]*\s/\s[^}]*\}(?!\S)")


class Transcripts(NamedTuple):
    """Texts by utterance id."""

    texts: dict[str, str]
    speakers: dict[str, str]
    """Where the file names them (stm); {} otherwise."""


def format_of(path: Path) -> str:
    """trn or stm by the file's ending; Kaldi text otherwise."""
    ending = path.suffix.lower().removeprefix(".")
    return ending if ending in FORMATS else "text"


def read_transcripts(path: Path) -> Transcripts:
    """Read references or hypotheses.

    - Kaldi text: `id words`, one line an utterance.
    - trn (sclite): `words (id)`; lines that begin with `;;` are comments. sclite's alternatives,
      `{ this / that }`, are refused: they would be scored as words.
    - stm (sclite): `file channel speaker begin end <labels> words`; the id is made of file,
      channel, speaker and begin (in 1/100 s), so two files agree on it where they agree on these.
      `IGNORE_TIME_SEGMENT_IN_SCORING` leaves a segment out, as sclite does.

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
        return Transcripts(read_table(path), {})
    rows: list[tuple[str, str, str]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}): convert it") from None
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith(";;"):
            row = (_trn if form == "trn" else _stm)(line, f"{path}, line {number}")
            if alternatives := _ALTERNATIVES.search(row[1]):
                raise UserError(
                    f"{path}, line {number}: alternatives are not scored: put one of them in place "
                    f"of {alternatives[0]!r}"
                )
            if row[1] != "IGNORE_TIME_SEGMENT_IN_SCORING":
                rows.append(row)
    texts = {utt_id: text for utt_id, text, _ in rows}
    if len(texts) < len(rows):
        seen: set[str] = set()
        doubled = [i for i, _, _ in rows if i in seen or seen.add(i)]
        raise UserError(
            f"{path}: {len(doubled)} ids occur more than once ({first_few(doubled)}): "
            "keep one line for each"
        )
    return Transcripts(texts, {utt_id: speaker for utt_id, _, speaker in rows if speaker})


def _trn(line: str, where: str) -> tuple[str, str, str]:
    match = _TRN.match(line)
    if match is None:
        raise UserError(f"{where}: not a line of trn, `words (id)`: {line.strip()[:60]!r}")
    return match["id"], match["text"], ""


def _stm(line: str, where: str) -> tuple[str, str, str]:
    fields = line.split(maxsplit=5)
    try:
        file, channel, speaker, begin, end = fields[:5]
        hundredths = round(100 * float(begin))
        float(end)
    except ValueError:
        raise UserError(
            f"{where}: not a line of stm, `file channel speaker begin end <labels> words`: "
            f"{line.strip()[:60]!r}"
        ) from None
    text = fields[5] if len(fields) > 5 else ""
    text = re.sub(r"^<[^>]*>\s*", "", text)
    return f"{speaker}-{file}-{channel}-{hundredths:07d}", text, speaker


def read_labels(path: Path, column: str) -> dict[str, str]:
    """A label for each id: a Kaldi table (`id label`), or a csv or tsv with a header.

    Args:
        path: the file; .csv and .tsv have a header whose first column holds the ids.
        column: the column of a csv or tsv to read.

    Raises:
        UserError: the file or the column is missing, or an id has two labels.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix not in (".csv", ".tsv"):
        return read_table(path)
    with open(path, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t" if path.suffix == ".tsv" else ","))
    if not rows or column not in rows[0]:
        found = ", ".join(rows[0]) if rows else "nothing"
        raise UserError(f"{path}: no column {column!r} in its header, which has {found}")
    key = next(iter(rows[0]))
    labels: dict[str, str] = {}
    for row in rows:
        value = (row[column] or "").strip()
        if labels.setdefault(row[key], value) != value:
            raise UserError(
                f"{path}: {row[key]} has two labels, {labels[row[key]]!r} and {value!r}: keep one"
            )
    return labels
