"""The tables of a Mozilla Common Voice release: what commonaccent and commonvoice_fa share.

A release is <cv>/<language>/{clips/*.mp3,train.tsv,dev.tsv,test.tsv,validated.tsv,...}. Columns
differ by release (accent or accents, with or without sentence_id), so they are found by header
name; quotes are unbalanced in places, so a quote is a character like any other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterator, NamedTuple

from espnet_saliency.corpora.reading import header, identifier, locate, read_table
from espnet_saliency.errors import UserError

TABLES = ("train", "dev", "test", "validated")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)*")
_RELEASE = re.compile(r"cv-corpus-(\d+(?:\.\d+)*)")


class Clip(NamedTuple):
    """One row of a table of clips."""

    name: str
    """File name without extension; the line of the table where it has none."""
    path: Path
    speaker: str
    """client_id, in short; the clip itself where it is empty."""
    client_id: str
    """client_id as published."""
    text: str
    """sentence, as published."""
    accent: str
    """accents (or accent), as published."""
    gender: str
    problem: str
    """Why the row cannot be used; "" where it can."""


def language_folder(corpus_dir: Path, language: str) -> Path:
    """<cv>/<language>, from <cv>, from it, or from one level above or below that.

    Raises:
        UserError: it is not there, or several releases are; it has no clips/.
    """

    def fits(folder: Path) -> bool:
        # A folder of another language has the same tables.
        other = _LANGUAGE.fullmatch(folder.name) and folder.name != language
        return not other and any((folder / f"{name}.tsv").is_file() for name in TABLES)

    folder = locate(
        corpus_dir,
        fits,
        f"folder {language} with {', '.join(f'{name}.tsv' for name in TABLES)} of Common Voice",
        places=(language, f"*/{language}", ".."),
    )
    if not (folder / "clips").is_dir():
        raise UserError(f"{folder}: no folder clips beside the tables; unpack the release whole")
    return folder


def release(folder: Path, corpus_dir: Path) -> str:
    """The number of a release, e.g. "17.0", from the folders' names; "" where they do not say."""
    for name in (*reversed(folder.parts), corpus_dir.name):
        found = _RELEASE.search(name)
        if found:
            return found.group(1)
    return ""


def read_clips(table: Path, clips: Path) -> Iterator[Clip]:
    """The rows of one table, in its order.

    Raises:
        UserError: the table or a needed column is missing; at once.
    """
    accent_column = next((c for c in ("accents", "accent") if c in header(table)), "")
    rows = read_table(table, required=("client_id", "path", "sentence"))
    return (_clip(row, table, clips, accent_column) for row in rows)


def _clip(row, table: Path, clips: Path, accent_column: str) -> Clip:
    values = {column: value.strip() for column, value in row.values.items()}
    file = values.get("path", "")
    problem = (
        row.problem or ("" if file else "no path") or ("" if values.get("sentence") else "no text")
    )
    # Up to release 3 the path has no extension; never does it leave the folder of the clips.
    file = Path(file).name
    name = identifier(Path(file).stem) or f"{table.name}:{row.line}"
    client_id = values.get("client_id", "")
    return Clip(
        name=name,
        path=clips / (file if Path(file).suffix else f"{file}.mp3"),
        speaker=_speaker(client_id) or name,
        client_id=client_id,
        text=values.get("sentence", ""),
        accent=values.get(accent_column, ""),
        gender=values.get("gender", ""),
        problem=f"{problem}: {table.name} line {row.line}" if problem else "",
    )


def _speaker(client_id: str) -> str:
    # 128 hexadecimal digits in every file name would be a burden: 32 of them are as unique.
    return client_id[:32] if re.fullmatch(r"[0-9a-f]{64,}", client_id) else identifier(client_id)
