"""PDID, the Persian Dialect Identification Dataset: Persian in ten regional accents.

Description
    Introduced with the method of masking by accent saliency. Its layout, size, label names, splits
    and licence were not known when this was written, and no copy was at hand. So it is read as what
    it must at least be: a folder with audio and one table (.csv or .tsv), a row an utterance.
Citation
    none known
Licence
    not known; ask its authors
Source
    its authors

The columns of the table are named in recipe.yaml, or found by their usual names (`COLUMNS`). Audio
is looked for from the table's folder, from the corpus folder, and in the folders of each. Without
a column for the split, sets that share no speaker are made, each accent divided alike. Everything
else is as in the corpus `manifest`, which reads the table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from espnet_saliency.corpora import manifest
from espnet_saliency.corpora.reading import header, locate, read_table, rejection
from espnet_saliency.corpora.splits import is_test, with_unseen
from espnet_saliency.corpora.text import text_policy
from espnet_saliency.corpora.utterance import Corpus
from espnet_saliency.errors import UserError

COLUMNS = {
    "path": ("path", "audio", "file_name", "filename", "audio_path", "file", "wav"),
    "text": ("text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id"),
    "accent": ("accent", "dialect", "accents"),
    "split": ("split", "set", "subset"),
    "utt_id": ("utt_id", "utterance_id", "id"),
}
"""What is needed of a row -> names that its column usually has, the first that is there counts."""

_OPTIONAL = ("split", "utt_id")


@dataclass(frozen=True)
class Options:
    """Options of PDID."""

    table: Path | None = None
    """The table, seen from here or from the corpus folder; else the one that has such columns."""
    audio_dir: Path | None = None
    """Folder from which the table names the audio files, where it is not found."""
    path_column: str = ""
    """Column of the audio files; empty, here and below: found by its name."""
    text_column: str = ""
    """Column of the transcripts."""
    speaker_column: str = ""
    """Column of the speaker ids."""
    accent_column: str = ""
    """Column of the accents (dialects)."""
    split_column: str = ""
    """Column of the sets, where the table has one."""
    utt_id_column: str = ""
    """Column of the utterance ids; where the table has none, the file names are the ids."""
    split_shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    """Shares of train, dev and test in the sets that are made: of the speakers of each accent."""
    unseen_accents: tuple[str, ...] = ()
    """Accents held out of training: tested in test_unseen."""
    text_policy: str = "persian"
    """Form of the training transcripts: none, persian."""


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The sets train, dev and test (and test_unseen), sorted by id.

    Args:
        corpus_dir: the folder of the table, or the one above or below. Nothing is written there.
        options: the table, its columns, and how to divide it.
        seed: of the sets that are made.

    Raises:
        UserError: no table or several; a column that is not there; no audio where it was looked
            for; and what `manifest.prepare` says of the table.
    """
    policy = text_policy(options.text_policy)
    table, root = _find_table(corpus_dir, options)
    columns = _named(header(table), options)
    missing = [kind for kind in COLUMNS if kind not in columns and kind not in _OPTIONAL]
    if missing:
        raise UserError(
            f"{table}: no column for the {missing[0]} ({', '.join(COLUMNS[missing[0]])}); it has "
            f"{', '.join(header(table))}: name it with --{missing[0]}_column NAME"
        )
    audio_dir = options.audio_dir or _find_audio(table, root, columns["path"])
    corpus = manifest.prepare(
        audio_dir,
        manifest.Options(
            manifest=table,
            utt_id_column=columns.get("utt_id", columns["path"]),
            path_column=columns["path"],
            text_column=columns["text"],
            speaker_column=columns["speaker"],
            accent_column=columns["accent"],
            split_column=columns.get("split", manifest.Options.split_column),
            split_shares=options.split_shares,
            unseen_accents=options.unseen_accents,
        ),
        seed,
    )
    said = ", ".join(f"{kind} = {column}" for kind, column in columns.items())
    corpus.notes.insert(0, f"{table.name}: {said}; audio in {audio_dir}")
    for name in [name for name in corpus.sets if not is_test(name)]:
        formed = [replace(u, text=policy(u.text)) for u in corpus.sets[name]]
        corpus.rejected += [
            rejection(u.utt_id, "no text: no word in it") for u in formed if not u.text
        ]
        corpus.sets[name] = [u for u in formed if u.text]
    return corpus


def tables(corpus_dir: Path, options: Options) -> list[Path]:
    """The files that say what the corpus is: when one changes, the corpus is another.

    Raises:
        UserError: no table, or several.
    """
    return [_find_table(corpus_dir, options)[0]]


def test_sets(corpus_dir: Path | None, options: Options) -> tuple[str, ...]:
    """Names of the test sets that `prepare` will make; without the corpus, of those made from no split.

    Raises:
        UserError: no table, or several.
    """
    if corpus_dir is None:
        return with_unseen(["test"], options.unseen_accents)
    table, _ = _find_table(corpus_dir, options)
    columns = _named(header(table), options)
    names = {
        row.values.get(columns.get("split", ""), "").strip().casefold() for row in read_table(table)
    }
    return with_unseen(sorted(filter(is_test, names)) or ["test"], options.unseen_accents)


def _find_table(corpus_dir: Path, options: Options) -> tuple[Path, Path]:
    """The table and the corpus folder."""
    if options.table is not None:
        if not corpus_dir.is_dir():
            raise UserError(f"--corpus_dir {corpus_dir}: no such folder")
        for place in (options.table.expanduser(), corpus_dir / options.table):
            if place.is_file():
                return place.absolute(), corpus_dir.absolute()
        raise UserError(f"--table {options.table}: no such file, here or in {corpus_dir}")
    folder = locate(
        corpus_dir,
        lambda f: bool(_tables(f, options)),
        "table (.csv or .tsv) with columns for path, text, speaker and accent",
    )
    tables = _tables(folder, options)
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise UserError(f"{folder} has several tables ({names}): name one with --table")
    return tables[0], folder


def _tables(folder: Path, options: Options) -> list[Path]:
    """The tables of a folder that have at least audio and accents."""
    files = sorted(
        p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".tsv") and p.is_file()
    )
    return [
        path
        for path in files
        if path.stat().st_size and {"path", "accent"} <= _named(header(path), options).keys()
    ]


def _named(header: list[str], options: Options) -> dict[str, str]:
    """What is needed of a row -> the column that has it, as far as there is one."""
    folded = {column.casefold(): column for column in reversed(header)}
    columns: dict[str, str] = {}
    for kind, usual in COLUMNS.items():
        own = getattr(options, f"{kind}_column")
        found = next((folded[name] for name in usual if name in folded), None)
        if own or found:
            columns[kind] = own or found
    return columns


def _find_audio(table: Path, root: Path, column: str) -> Path:
    """The folder from which the table names its files: where most of 100 rows are found."""
    starts = list(dict.fromkeys([table.parent, root]))
    places = starts + [
        below for start in starts for below in sorted(start.iterdir()) if below.is_dir()
    ]
    names = [row.values.get(column, "").strip() for row, _ in zip(read_table(table), range(100))]
    found = {
        place: sum((place / n).is_file() for n in names if n) for place in dict.fromkeys(places)
    }
    best = max(found, key=lambda place: found[place])
    if not found[best]:
        first = next(filter(None, names), "")
        raise UserError(
            f"{table}: none of the files that its column {column} names (first: {first!r}) is in "
            f"{', '.join(map(str, starts))} or a folder there; say where: --audio_dir DIR"
        )
    return best
