"""CommonAccent: sixteen accents of English, selected from Common Voice.

Description
    A selection of English Common Voice clips with an accent label each, for accent classification:
    lists of about 45,600 training clips (50 h) and 1,086 clips each for dev and test. Two ways in:
    the published lists with the Common Voice release that they were made from, or a current release
    itself, where the sixteen accents are picked out and divided anew, with no speaker in two sets.
Citation
    Zuluaga-Gomez, Ahmed, Visockas and Subakan (2023): CommonAccent: Exploring Large Acoustic
    Pretrained Models for Accent Classification Based on Common Voice. Interspeech.
Licence
    lists MIT, audio CC0
Source
    https://github.com/JuanPZuluaga/accent-recog-slt2022, https://commonvoice.mozilla.org/datasets

Layout of the lists: {train,dev,test}.csv with the columns ID, utt_id, wav, wav_format, text,
duration, accent. `wav` is a path on its authors' machine that ends in
cv-valid-train/sample-NNNNNN.mp3, in places with one more folder (sample-00) between: the end of it
is looked for under the corpus folder. The lists name no speakers, so each clip is its own speaker
here, and whether a voice is in two sets cannot be known.

Layout of a release: <cv>/en/{clips/*.mp3,validated.tsv,train.tsv,dev.tsv,test.tsv}.

Both are read directly: lhotse has no preparer for the lists, and its preparer of Common Voice
opens all 1.8 million clips of a release, of which 32,000 are wanted.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Callable, Iterable, Iterator, Mapping

from espnet_saliency.corpora.commonvoice import Clip, language_folder, read_clips, release
from espnet_saliency.corpora.reading import (
    check_shares,
    header,
    identifier,
    label,
    read_table,
    rejection,
    utterance_id,
)
from espnet_saliency.corpora.splits import hold_out_accents, split_speakers, with_unseen
from espnet_saliency.corpora.text import one_line, text_policy
from espnet_saliency.corpora.utterance import Corpus, Rejection, Utterance
from espnet_saliency.errors import UserError

RELEASE_LABELS = {
    "Southern African (South Africa, Zimbabwe, Namibia)": "african",
    "Australian English": "australia",
    "West Indies and Bermuda (Bahamas, Bermuda, Jamaica, Trinidad)": "bermuda",
    "Canadian English": "canada",
    "England English": "england",
    "Hong Kong English": "hongkong",
    "India and South Asia (India, Pakistan, Sri Lanka)": "indian",
    "Irish English": "ireland",
    "Malaysian English": "malaysia",
    "New Zealand English": "newzealand",
    "Filipino": "philippines",
    "Scottish English": "scotland",
    "Singaporean English": "singapore",
    "South Atlantic (Falkland Islands, Saint Helena)": "southatlandtic",
    "United States English": "us",
    "Welsh English": "wales",
}
"""The accents that Common Voice offered its speakers -> the label, in the corpus's own spelling."""

LIST_COLUMNS = ("utt_id", "wav", "text", "accent")
_BY_NAME = {label(name): code for name, code in RELEASE_LABELS.items()} | {
    code: code
    for code in RELEASE_LABELS.values()  # releases up to 6 have the labels themselves
}


@dataclass(frozen=True)
class Options:
    """Options of CommonAccent."""

    source: str = "auto"
    """lists (the published train, dev and test.csv) or release (Common Voice en); auto: lists where
    there are any."""
    lists_dir: Path | None = None
    """Folder of train.csv, dev.csv and test.csv; else looked for under the corpus folder."""
    max_clips: int = 2000
    """From a release: at most so many clips an accent."""
    split_shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    """From a release: shares of train, dev and test, of the speakers of each accent."""
    unseen_accents: tuple[str, ...] = ()
    """Accents held out of training: tested in test_unseen."""
    text_policy: str = "english_upper"
    """Form of the training transcripts: none, english_upper, english_lower."""


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The sets train, dev and test, from the published lists or from a release.

    From lists, the sets are generators in the order of the lists, and `Corpus.rejected` is complete
    when they have been passed through. A clip, by id or by file, that several lists have stays in
    the one of them that comes last in train, dev, test: nothing that is tested on is trained on.

    Args:
        corpus_dir: the folder with the lists and the audio, or a Common Voice release.
        options: which of the two, and how a release is divided.
        seed: of the selection and division of a release.

    Raises:
        UserError: there are neither lists nor a release; a table, a column or the audio is missing.
    """
    if options.source not in ("auto", "lists", "release"):
        raise UserError(f"--source {options.source}: one of auto, lists, release")
    if not corpus_dir.is_dir():
        raise UserError(f"--corpus_dir {corpus_dir}: no such folder")
    check_shares(options.split_shares)
    if options.max_clips < 1:
        raise UserError(f"--max_clips {options.max_clips}: must be 1 or more")
    form = text_policy(options.text_policy)
    lists = _lists(corpus_dir, options)
    if lists is not None:
        corpus = _from_lists(lists, corpus_dir.absolute(), form)
    elif options.source == "lists" or options.lists_dir is not None:
        raise UserError(
            f"{options.lists_dir or corpus_dir}: no folder with train.csv, dev.csv and test.csv "
            f"(columns {', '.join(LIST_COLUMNS)}) in it; name theirs: --lists_dir DIR"
        )
    else:
        folder = _release_folder(corpus_dir, options)
        corpus = _from_release(folder, corpus_dir, options, form, seed)
    return hold_out_accents(corpus, map(label, options.unseen_accents))


def tables(corpus_dir: Path, options: Options) -> list[Path]:
    """The files that say what the corpus is: when one changes, the corpus is another.

    Raises:
        UserError: there are neither lists nor a release.
    """
    lists = _lists(corpus_dir, options)
    if lists is not None:
        return [lists / f"{name}.csv" for name in ("train", "dev", "test")]
    return _release_tables(_release_folder(corpus_dir, options))


def test_sets(corpus_dir: Path | None, options: Options) -> tuple[str, ...]:
    """Names of the test sets that `prepare` will make."""
    return with_unseen(["test"], options.unseen_accents)


def _lists(corpus_dir: Path, options: Options) -> Path | None:
    return None if options.source == "release" else find_lists(options.lists_dir or corpus_dir)


# The published lists ------------------------------------------------------------------------------


def find_lists(folder: Path, depth: int = 3) -> Path | None:
    """The one folder with train.csv, dev.csv and test.csv, at most `depth` levels below `folder`.

    Raises:
        UserError: several folders hold them.
    """
    found = [place for place in _with_train(folder, depth) if not _lacking(place)]
    if len(found) > 1:
        names = ", ".join(str(place) for place in found)
        raise UserError(f"{folder}: several folders with lists, name one by --lists_dir: {names}")
    return found[0] if found else None


def _release_folder(corpus_dir: Path, options: Options) -> Path:
    """The folder en of a release; where there is none, what lists would lack is said too."""
    try:
        return language_folder(corpus_dir, "en")
    except UserError as error:
        places = [] if options.source == "release" else _with_train(corpus_dir)
        if not places:
            raise
        raise UserError(f"{_lacking(places[0])}; and {error}") from None


def _with_train(folder: Path, depth: int = 3) -> list[Path]:
    """The folders with a train.csv, at most `depth` levels below `folder`."""
    found, level = [], [folder]
    for _ in range(depth + 1):
        found += [place for place in level if (place / "train.csv").is_file()]
        level = [below for place in level for below in _folders(place)]
    return found


def _lacking(place: Path) -> str:
    """What a folder with a train.csv lacks of a folder of lists; "" where it is one."""
    for table in (place / f"{name}.csv" for name in ("train", "dev", "test")):
        if not table.is_file():
            return f"{place} has train.csv, but no {table.name}"
        for column in LIST_COLUMNS:
            if column not in header(table):
                return f"{table}: no column {column!r}; it has: {', '.join(header(table))}"
    return ""


def _folders(place: Path) -> list[Path]:
    # Folders of clips have hundreds of thousands of entries and no lists.
    if place.name == "clips" or place.name.startswith("cv-valid-"):
        return []
    with os.scandir(place) as entries:
        return sorted(place / entry.name for entry in entries if entry.is_dir())


def _from_lists(lists: Path, root: Path, form: Callable[[str], str]) -> Corpus:
    corpus = Corpus(sets={})
    corpus.notes.append(
        "the published lists name no speakers: whether a voice is in two sets cannot be checked"
    )
    find = AudioByTail(root)
    for name in ("train", "dev", "test"):
        table = lists / f"{name}.csv"
        if not any(find(row.values.get("wav", "")) for row in read_table(table, LIST_COLUMNS)):
            raise UserError(
                f"{table}: none of its clips is under {root}; looked for names like "
                f"cv-valid-train/sample-000001.mp3 there and one or two levels below"
            )
    set_of = _tested(lists, find)
    for name in ("train", "dev", "test"):
        corpus.sets[name] = _listed(
            lists / f"{name}.csv", find, one_line if name == "test" else form, set_of, corpus
        )
    return corpus


def _tested(lists: Path, find: AudioByTail) -> dict[str | Path, str]:
    """Id and audio file of each clip of dev and test -> that set."""
    set_of: dict[str | Path, str] = {}
    for name in ("dev", "test"):
        for row in read_table(lists / f"{name}.csv", LIST_COLUMNS):
            path = None if row.problem else find(row.values["wav"])
            if path:
                set_of |= {identifier(row.values["utt_id"]): name, path: name}
    return set_of


def _listed(
    table: Path,
    find: AudioByTail,
    form: Callable[[str], str],
    set_of: Mapping[str | Path, str],
    corpus: Corpus,
) -> Iterator[Utterance]:
    for row in read_table(table, LIST_COLUMNS):
        values = {column: value.strip() for column, value in row.values.items()}
        utt_id = identifier(values.get("utt_id", ""))
        wav, text = values.get("wav", ""), form(values.get("text", ""))
        path = find(wav)
        others = {set_of.get(key, table.stem) for key in (utt_id, path)} - {table.stem}
        problem = (
            row.problem
            or ("" if utt_id else "no utt_id")
            or ("" if text else "no text")
            or ("" if values.get("accent") else "no accent")
            or ("" if path else f"no audio {PurePosixPath(wav).name} under the corpus folder")
            or (f"duplicate id: the clip is in {' and '.join(sorted(others))} too" if others else "")
        )
        if problem:
            name = utt_id or f"{table.name}:{row.line}"
            corpus.rejected.append(rejection(name, f"{problem}: {table.name} line {row.line}"))
        else:
            # Without speaker ids each clip stands for itself.
            yield Utterance(utt_id, utt_id, label(values["accent"]), text, path)


class AudioByTail:
    """Where an audio file of somebody else's machine lies under `root`, by the end of its path.

    The end counts from the last folder named cv-... (other folders hold other clips of the same
    names), with or without what follows that: the lists have sample-00/ in places, the archive has
    not. It is looked for in `root`, one or two levels below and one above. What was found for one
    folder serves its other files.
    """

    def __init__(self, root: Path):
        below = _folders(root)
        self._roots = [
            root,
            *below,
            *(deeper for folder in below for deeper in _folders(folder)),
            root.parent,
        ]
        self._known: dict[PurePosixPath, Path] = {}

    def __call__(self, wav: str) -> Path | None:
        """The file, or None where there is none.

        Raises:
            UserError: two files fit equally well.
        """
        there = PurePosixPath(wav.strip().replace("\\", "/"))
        known = self._known.get(there.parent)
        if known is not None:
            return known / there.name if (known / there.name).is_file() else None
        for tail in self._tails(there.parent.parts):
            found = [root.joinpath(*tail) for root in self._roots]
            found = sorted({folder for folder in found if (folder / there.name).is_file()})
            if len(found) > 1:
                raise UserError(
                    f"{there.name} is in {found[0]} and in {found[1]}: name the folder "
                    "above one of them as --corpus_dir"
                )
            if found:
                self._known[there.parent] = found[0]
                return found[0] / there.name
        return None

    @staticmethod
    def _tails(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        marks = [i for i, part in enumerate(parts) if part.startswith("cv-")]
        if not marks:
            return [parts[-1:]]
        return [parts[marks[-1] :], parts[marks[-1] : marks[-1] + 1]]


# A Common Voice release ---------------------------------------------------------------------------


@lru_cache(maxsize=100_000)
def parse_accents(stated: str) -> frozenset[str]:
    """The labels among what a speaker chose or wrote: "United States English,Midwestern" -> {"us"}.

    Parts are separated by "|" or a comma, but not by a comma in brackets.
    """
    parts = map(label, re.split(r"[|,](?![^()]*\))", stated))
    return frozenset(_BY_NAME[part] for part in parts if part in _BY_NAME)


def _from_release(
    folder: Path, corpus_dir: Path, options: Options, form: Callable[[str], str], seed: int
) -> Corpus:
    number = release(folder, corpus_dir)
    corpus = Corpus(sets={}, notes=[f"Common Voice en, release {number or 'unknown'}, {folder}"])

    # For each label the clips with the smallest hashes: whatever the order of the rows, the same
    # clips, and no more than max_clips a label in memory.
    chosen: dict[str, list[tuple[int, Clip]]] = defaultdict(list)
    names: set[str] = set()
    good = 0
    for clip in _clips(folder):
        if clip.problem:
            corpus.rejected.append(rejection(clip.name, clip.problem))
            continue
        good += 1
        accents = parse_accents(clip.accent)
        if len(accents) != 1 or clip.name in names:
            continue
        heap = chosen[next(iter(accents))]
        names.add(clip.name)
        heapq.heappush(heap, (-_rank(seed, clip.name), clip))
        if len(heap) > options.max_clips:
            names.remove(heapq.heappop(heap)[1].name)
    if not names:
        raise UserError(f"{folder}: no clip has one of the accents {', '.join(_BY_NAME.values())}")
    corpus.excluded = _LeftOut(folder, frozenset(names), options.max_clips, good - len(names))

    utterances = [
        Utterance(
            utterance_id(clip.speaker, clip.name),
            clip.speaker,
            accent,
            clip.text,
            clip.path,
            columns={"gender": clip.gender} if clip.gender else {},
        )
        for accent, heap in chosen.items()
        for _, clip in heap
    ]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in utterances:
        counts[utterance.speaker][utterance.accent] += 1
    # Some people changed what they say of their accent: they are divided by their commonest one.
    accents = {s: min(c, key=lambda a: (-c[a], a)) for s, c in counts.items()}
    shares = dict(zip(("train", "dev", "test"), options.split_shares))
    set_of, notes = split_speakers(accents, shares, seed)
    corpus.notes += notes
    for name in shares:
        listed = sorted(
            (u for u in utterances if set_of[u.speaker] == name), key=lambda u: u.utt_id
        )
        if name != "test":
            listed = [replace(u, text=form(u.text)) for u in listed]
        corpus.sets[name] = list(_with_text(listed, corpus.rejected))
    return corpus


def _clips(folder: Path) -> Iterator[Clip]:
    return chain.from_iterable(
        read_clips(table, folder / "clips") for table in _release_tables(folder)
    )


def _release_tables(folder: Path) -> list[Path]:
    """validated.tsv, which holds the clips of the others; without it, the others."""
    names = ["validated"] if (folder / "validated.tsv").is_file() else ["train", "dev", "test"]
    return [folder / f"{name}.tsv" for name in names]


def _rank(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big")


def _with_text(utterances: Iterable[Utterance], rejected: list[Rejection]) -> Iterator[Utterance]:
    for utterance in utterances:
        if utterance.text:
            yield utterance
        else:
            rejected.append(rejection(utterance.utt_id, "no text: no word in it"))


@dataclass(frozen=True)
class _LeftOut:
    """The clips of a release that were not selected, read anew each time: there may be millions."""

    folder: Path
    kept: frozenset[str]
    max_clips: int
    count: int

    def __iter__(self) -> Iterator[Rejection]:
        met: set[str] = set()
        for clip in _clips(self.folder):
            if clip.problem:
                continue
            accents = parse_accents(clip.accent)
            if not accents:
                yield rejection(clip.name, "no accent, or none of the sixteen")
            elif len(accents) > 1:
                yield rejection(clip.name, f"several accents: {', '.join(sorted(accents))}")
            elif clip.name not in self.kept:
                yield rejection(clip.name, f"beyond {self.max_clips} clips of an accent")
            elif clip.name in met:
                yield rejection(clip.name, "duplicate id: the first row is kept")
            else:
                met.add(clip.name)

    def __len__(self) -> int:
        return self.count
