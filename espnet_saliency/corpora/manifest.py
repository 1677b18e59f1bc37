"""Any corpus that its owner describes in one table: a row an utterance.

The table is `manifest.tsv` (tabs, quotes are plain characters) or `manifest.csv` (commas, quotes
as spreadsheets write them) in the corpus folder, or any file named by --manifest. It is UTF-8, with
or without byte order mark, with any line ends, and begins with a header. Columns are found by name:

utt_id, path, text, speaker, accent   needed; accent may be empty: not known
split                                 train, dev or a name that begins with test; empty in some
                                      rows: these are left out
start, end                            s, for an utterance that is a part of its recording

Without split, sets that share no speaker are made, each accent divided by the same shares
(`splits.split_speakers`); sets that a table with splits lacks are made out of its train.

What is wrong with one row rejects that row: a missing file, an empty text or speaker, a segment
that ends before it starts, a wrong number of fields, an id that another row has. Of rows with one
id the first is kept, one of a test set before one of dev, and that before one of train: nothing
that is tested on is trained on. What makes the whole table doubtful stops: a column that is
missing, two speakers who would get the same id, a speaker with two accents, an unknown split.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

from espnet_saliency.corpora.reading import (
    Row, header, identifier, label, read_table, rejection, utterance_id,
)
from espnet_saliency.corpora.splits import hold_out_accents, is_test, split_speakers, with_unseen
from espnet_saliency.corpora.text import one_line
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError

TABLES = ("manifest.tsv", "manifest.csv")
_DEV_NAMES = ("dev", "valid", "validation", "val", "development")
# Names that a data directory already has a file utt2<name> for.
_TAKEN = ("spk", "accent", "dur", "channel", "speed", "num_samples")


@dataclass(frozen=True)
class Options:
    """Options of a corpus that is described in a table."""

    manifest: Path | None = None
    """The table, seen from here or the corpus folder; by default manifest.tsv or .csv there."""
    utt_id_column: str = "utt_id"
    """Column of the utterance ids."""
    path_column: str = "path"
    """Column of the audio files: whole paths, or seen from the corpus folder or from the table."""
    text_column: str = "text"
    """Column of the transcripts."""
    speaker_column: str = "speaker"
    """Column of the speaker ids."""
    accent_column: str = "accent"
    """Column of the accents."""
    split_column: str = "split"
    """Column of the sets; where the table has none, sets are made."""
    start_column: str = "start"
    """Column of the start of an utterance in its recording, in s."""
    end_column: str = "end"
    """Column of its end, in s."""
    group_columns: tuple[str, ...] = ("gender",)
    """Further columns to keep for scores by group; gender only where the table has it."""
    channel: int = 0
    """Channel to read, counted from 0."""
    split_shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    """Shares of train, dev and test in the sets that are made: of the speakers of each accent."""
    unseen_accents: tuple[str, ...] = ()
    """Accents held out of training: tested in test_unseen."""


class _Named(NamedTuple):
    """An id or a label as the table writes it, and where it was first met."""

    raw: str
    line: int


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The utterances of a table, in sets.

    Args:
        corpus_dir: folder of the table and the audio. Nothing is written there.
        options: the table, its columns, and how to divide it.
        seed: of the sets that are made here.

    Returns:
        The sets train, dev, test, then further test sets of the table, each sorted by id. Audio
        files are known to exist; they are opened where the data directory is written.

    Raises:
        UserError: no table; a column that is missing; speakers whose ids clash; a speaker with two
            accents; an unknown split; nothing left to train on.
    """
    _check(options)
    table = _find_table(corpus_dir, options)
    columns = _columns(table, options)
    reader = _Reader(table, corpus_dir.absolute(), options, columns)
    for row in read_table(table):
        reader.add(row)
    return reader.corpus(seed)


def tables(corpus_dir: Path, options: Options) -> list[Path]:
    """The files that say what the corpus is: when one changes, the corpus is another.

    Raises:
        UserError: no table, or two.
    """
    return [_find_table(corpus_dir, options)]


def test_sets(corpus_dir: Path | None, options: Options) -> tuple[str, ...]:
    """Names of the test sets that `prepare` will make, from the table's splits alone.

    Raises:
        UserError: no folder is given; no table, or two; a column that is missing.
    """
    if corpus_dir is None:
        raise UserError("--corpus_dir DIR is needed: where is the table?")
    table = _find_table(corpus_dir, options)
    _columns(table, options)
    splits = {row.values.get(options.split_column, "").strip().casefold() for row in read_table(table)}
    return with_unseen(sorted(filter(is_test, splits)) or ["test"], options.unseen_accents)


def _check(options: Options) -> None:
    if options.channel < 0:
        raise UserError(f"--channel {options.channel}: channels are counted from 0")
    if len(options.split_shares) != 3:
        raise UserError(
            f"--split_shares {' '.join(map(str, options.split_shares))}: three shares, of train, "
            f"dev and test, e.g. '0.8 0.1 0.1'"
        )
    for name in options.group_columns:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in _TAKEN:
            raise UserError(
                f"--group_columns {name}: becomes the file utt2{name}, so rename the column: one "
                f"word of letters, digits and _, and none of {', '.join(_TAKEN)}"
            )


def _find_table(corpus_dir: Path, options: Options) -> Path:
    if not corpus_dir.is_dir():
        raise UserError(f"--corpus_dir {corpus_dir}: no such folder")
    if options.manifest is not None:
        places = [options.manifest.expanduser(), corpus_dir / options.manifest]
        for place in places:
            if place.is_file():
                return place.absolute()
        raise UserError(f"--manifest {options.manifest}: no such file, here or in {corpus_dir}")
    found = [corpus_dir / name for name in TABLES if (corpus_dir / name).is_file()]
    if len(found) == 1:
        return found[0].absolute()
    if found:
        raise UserError(f"{corpus_dir} has {' and '.join(TABLES)}: name one with --manifest")
    raise UserError(
        f"{corpus_dir} has no {' or '.join(TABLES)}: name the table with --manifest FILE"
    )


def _columns(table: Path, options: Options) -> list[str]:
    """The header of the table, found to have the columns that are needed."""
    columns = header(table)
    if any(bad in column for column in columns for bad in "\ufffd\0"):
        raise UserError(f"{table}: is not UTF-8; save it as UTF-8 text")
    separator = next((s for s in "\t,;" if len(columns) == 1 and s in columns[0]), None)
    if separator:
        mend = {"\t": "name it .tsv", ",": "name it .csv", ";": "save it with commas or tabs"}
        raise UserError(f"{table}: its header is one column, {columns[0]!r}: {mend[separator]}")
    for field in fields(Options):
        name = getattr(options, field.name)
        # Optional columns must be there only where the user named them.
        optional = field.name in ("split_column", "start_column", "end_column")
        if not field.name.endswith("_column") or (optional and name == field.default):
            continue
        if name not in columns:
            raise UserError(
                f"{table}: no column {name!r}; it has {', '.join(columns)}: "
                f"say which with --{field.name} NAME"
            )
    if options.group_columns != Options.group_columns:
        for name in options.group_columns:
            if name not in columns:
                raise UserError(
                    f"--group_columns {name}: {table} has no such column, but {', '.join(columns)}"
                )
    return columns


class _Reader:
    """Rows of one table, checked one by one and against each other."""

    def __init__(self, table: Path, corpus_dir: Path, options: Options, columns: list[str]):
        self.table, self.options = table, options
        self.folders = list(dict.fromkeys([corpus_dir, table.parent]))
        self.groups = [name for name in options.group_columns if name in columns]
        self.rejected, self.excluded, self.notes = [], [], []
        self.utterances: list[Utterance] = []
        self.splits: list[str] = []
        self._ids: list[_Named] = []
        self._speakers: dict[str, _Named] = {}
        self._accent_of: dict[str, _Named] = {}
        self._spellings: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, row: Row) -> None:
        """Take one row: an utterance, a rejection, or an error of the table."""
        values = {name: self._clean(value) for name, value in row.values.items()}

        def get(field: str) -> str:
            value = values.get(getattr(self.options, f"{field}_column"), "")
            # One name may be written in two ways. A file is found by the bytes that it is named by.
            return value if field == "path" else unicodedata.normalize("NFC", value)

        raw, speaker = get("utt_id"), identifier(get("speaker"))
        problem = row.problem or ("" if raw else "no id") or ("" if speaker else "no speaker")
        if problem:
            self._reject(identifier(raw) or f"line-{row.line}", row.line, problem)
            return

        name = identifier(raw)
        name = name if name.startswith(speaker) else utterance_id(speaker, name)
        self._speaker(speaker, get("speaker"), row.line)
        accent = self._accent(speaker, get("accent"), row.line)
        split = self._split(get("split"), name, row.line)
        path = self._audio(get("path"))
        start, end, bad_time = _times(get("start"), get("end"))
        text = one_line(get("text"))
        if not get("path"):
            problem = "no path"
        elif not text:
            problem = "empty text"
        elif path is None:
            problem = f"no file: {get('path')} in {' or '.join(map(str, self.folders))}"
        problem = problem or bad_time
        if problem:
            self._reject(name, row.line, problem)
        else:
            groups = {g: identifier(values[g]) for g in self.groups if values[g]}
            self.utterances.append(
                Utterance(
                    name, speaker, accent, text, path, start, end, self.options.channel, groups
                )
            )
            self.splits.append(split)
            self._ids.append(_Named(raw, row.line))

    def corpus(self, seed: int) -> Corpus:
        """The utterances in sets; the sets that the table does not make are made here."""
        spelling = self._accent_spelling()
        kept = self._without_doubles()
        utterances = [replace(u, accent=spelling[u.accent]) for u, _ in kept]
        splits = [split for _, split in kept]
        if any(splits):
            for utterance, split in zip(utterances, splits):
                if not split:
                    left_out = rejection(utterance.utt_id, f"{self.table.name}: no split")
                    self.excluded.append(left_out)
        else:
            splits = ["train"] * len(utterances)
        if "train" not in splits:
            reason = "no row says train" if splits else "no good row"
            first = f"; the first bad one: {self.rejected[0].reason}" if self.rejected else ""
            raise UserError(f"{self.table}: nothing to train on, {reason}{first}")

        splits = self._with_made_sets(utterances, splits, seed)
        self._say_shared(utterances, splits)
        tests = sorted({split for split in splits if is_test(split)})
        sets: dict[str, list[Utterance]] = {name: [] for name in ("train", "dev", *tests)}
        for utterance, split in sorted(zip(utterances, splits), key=lambda pair: pair[0].utt_id):
            if split:
                sets[split].append(utterance)
        corpus = Corpus(sets, self.rejected, self.excluded, self.notes)
        held = [spelling.get(label(accent), accent) for accent in self.options.unseen_accents]
        return hold_out_accents(corpus, held)

    def _with_made_sets(
        self, utterances: list[Utterance], splits: list[str], seed: int
    ) -> list[str]:
        """`splits`, with dev and test taken out of train where the table has none."""
        present = {"test" if is_test(split) else split for split in splits}
        shares = dict(zip(("train", "dev", "test"), self.options.split_shares))
        made = {name: shares[name] for name in ("dev", "test") if name not in present}
        if not made:
            return splits
        accents = {u.speaker: u.accent for u, split in zip(utterances, splits) if split == "train"}
        shares = {"train": sum(shares.values()) - sum(made.values()), **made}
        chosen, notes = split_speakers(accents, shares, seed)
        missing = [name for name in made if name not in chosen.values()]
        if missing:
            raise UserError(
                f"{self.table}: too few speakers to make {' and '.join(missing)} of "
                f"({len(accents)}, {len(made) + 1} of one accent are needed): add speakers, or a "
                f"column {self.options.split_column}"
            )
        self.notes += notes
        if present != {"train"}:
            self.notes.append(f"no row says {' or '.join(made)}: made out of train, by speaker")
        return [chosen[u.speaker] if s == "train" else s for u, s in zip(utterances, splits)]

    def _say_shared(self, utterances: list[Utterance], splits: list[str]) -> None:
        """A speaker both trained on and tested makes every score too good: worth a line."""
        sets_of: dict[str, set[str]] = defaultdict(set)
        for utterance, split in zip(utterances, splits):
            sets_of[utterance.speaker].update([split] if split else [])
        shared = [s for s in sorted(sets_of) if "train" in sets_of[s] and len(sets_of[s]) > 1]
        if shared:
            others = ", ".join(sorted(sets_of[shared[0]] - {"train"}))
            self.notes.append(
                f"{len(shared)} speaker{'s are' if len(shared) > 1 else ' is'} in train and in "
                f"another set (first: {shared[0]}, also in {others}): scores there are not of "
                f"unheard speakers"
            )

    def _clean(self, value: str) -> str:
        """A field without the blanks around it, nor the quotes that some writers put there."""
        value = value.strip()
        if self.table.suffix.lower() != ".csv" and re.fullmatch(r'"([^"]|"")*"', value):
            value = value[1:-1].replace('""', '"').strip()
        return value

    def _reject(self, name: str, line: int, problem: str) -> None:
        self.rejected.append(rejection(name, f"{problem}: {self.table.name} line {line}"))

    def _without_doubles(self) -> list[tuple[Utterance, str]]:
        """Utterances and their splits in the order of the table; one of each id, the others rejected."""
        # Where one speaker's id begins another's, "s1_7" lies among those of s10: "s1-s1_7" does not.
        speakers = sorted({u.speaker for u in self.utterances})
        begins = {one for one, after in zip(speakers, speakers[1:]) if after.startswith(one)}
        rows = []
        for utterance, split, named in zip(self.utterances, self.splits, self._ids):
            if utterance.speaker in begins:
                whole = utterance_id(utterance.speaker, utterance.utt_id)
                utterance = replace(utterance, utt_id=whole)
            rows.append((utterance, split, named))

        written: dict[str, _Named] = {}
        made: dict[str, _Named] = {}
        kept = {}
        rank = {"": 3, "train": 2, "dev": 1}
        for utterance, split, named in sorted(rows, key=lambda row: rank.get(row[1], 0)):
            # Ids that differ may become one with their blanks and slashes replaced.
            other = written.get(named.raw) or made.get(utterance.utt_id)
            if other:
                reason = f"duplicate id: {named.raw!r}, line {other.line} ({other.raw!r}) is kept"
                self._reject(utterance.utt_id, named.line, reason)
            else:
                written[named.raw] = made[utterance.utt_id] = named
                kept[named.line] = (utterance, split)
        return [kept[line] for line in sorted(kept)]

    def _speaker(self, speaker: str, raw: str, line: int) -> None:
        other = self._speakers.setdefault(speaker, _Named(raw, line))
        if other.raw != raw:
            raise UserError(
                f"{self.table}: speakers {other.raw!r} (line {other.line}) and {raw!r} (line "
                f"{line}) both become {speaker!r}: rename one"
            )

    def _accent(self, speaker: str, raw: str, line: int) -> str:
        """The accent in lower case, as spellings are compared; its own spelling is counted."""
        accent = label(raw)
        if accent:
            self._spellings[accent][identifier(raw)] += 1
        other = self._accent_of.setdefault(speaker, _Named(raw, line))
        if label(other.raw) != accent:
            raise UserError(
                f"{self.table}: speaker {speaker!r} has accent {other.raw!r} in line {other.line} "
                f"and {raw!r} in line {line}: give each person an own id, and one accent"
            )
        return accent

    def _accent_spelling(self) -> dict[str, str]:
        """Accent in lower case -> its most frequent spelling in the table."""
        spelling = {"": ""}
        for accent, counts in sorted(self._spellings.items()):
            spelling[accent] = min(counts, key=lambda name: (-counts[name], name))
            if len(counts) > 1:
                names = " and ".join(sorted(counts))
                self.notes.append(f"accent {spelling[accent]} is spelt {names}: taken as one")
        return spelling

    def _split(self, raw: str, name: str, line: int) -> str:
        split = raw.casefold()
        if split in _DEV_NAMES:
            return "dev"
        if split in ("", "train") or re.fullmatch(r"test[a-z0-9_.-]*", split):
            return split
        raise UserError(
            f"{self.table} line {line}: {name} has {self.options.split_column} {raw!r}; known are "
            f"train, {', '.join(_DEV_NAMES)}, and names that begin with test"
        )

    def _audio(self, raw: str) -> Path | None:
        """The file of a row, as a whole path; None where there is none."""
        for folder in self.folders:
            path = folder / raw
            if path.is_file():
                return path
        return None


def _times(start: str, end: str) -> tuple[float | None, float | None, str]:
    """Start and end in s, None where a row has neither, and what is wrong with them."""
    if not start and not end:
        return None, None, ""
    if not end:
        return None, None, f"a start ({start}) without an end"
    try:
        begin, stop = float(start or 0), float(end)
    except ValueError:
        return None, None, f"start {start!r} and end {end!r} must be numbers of seconds"
    if not (math.isfinite(begin) and math.isfinite(stop) and begin >= 0):
        return None, None, f"start {start!r} and end {end!r} must be seconds from the beginning"
    if stop <= begin:
        return None, None, f"the segment ends ({end} s) before it starts ({start or 0} s)"
    return begin, stop, ""
