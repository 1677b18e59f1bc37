"""Common Voice Persian: sentences read by volunteers, without accent labels.

Description
    The Persian (fa) part of Mozilla's crowd-sourced corpus, mp3 clips of a few seconds; in release
    17.0 its official splits have 28,893 / 10,559 / 10,559 clips. Releases 5 to 25 are read. Splits
    change between releases, so figures of two releases cannot be compared: the release is noted
    and written into utt2release. Accents are hardly ever filled in: the accent classifier comes
    from another corpus (PDID), or from a table of your own (`accent_labels`).
Citation
    Ardila et al. (2020): Common Voice: A Massively-Multilingual Speech Corpus. LREC.
Licence
    CC0
Source
    https://commonvoice.mozilla.org/datasets

Layout: <cv>/fa/{clips/*.mp3,train.tsv,dev.tsv,test.tsv}; <cv> is named cv-corpus-17.0-2024-03-15
or the like.

The tables are read directly: lhotse's preparer takes columns that releases before 17 do not all
have, and opens every clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Mapping

from espnet_saliency.corpora.commonvoice import Clip, language_folder, read_clips, release
from espnet_saliency.corpora.reading import header, label, read_table, rejection, utterance_id
from espnet_saliency.corpora.splits import hold_out_accents, with_unseen
from espnet_saliency.corpora.text import one_line, text_policy
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError


@dataclass(frozen=True)
class Options:
    """Options of Common Voice Persian."""

    release: str = ""
    """Release, e.g. 17.0, where no folder's name tells it."""
    accent_labels: Path | None = None
    """Your own accent labels: a table (.csv, .tsv) with columns accent and client_id or path."""
    unseen_accents: tuple[str, ...] = ()
    """Accents held out of training: tested in test_unseen."""
    text_policy: str = "persian"
    """Form of the training transcripts: none, persian."""


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The publisher's sets train, dev and test.

    The sets are generators, in the order of the publisher's tables: each can be passed through
    once, and `Corpus.rejected` is complete after that.

    Args:
        corpus_dir: the release (<cv>), its folder fa, or one level above or below these.
        options: release, accent labels and text.
        seed: not used; the publisher's splits are the sets.

    A clip that several tables list stays in the one of them that comes last in train, dev, test:
    nothing that is tested on is trained on.

    Raises:
        UserError: the folder, a table, a column or clips/ is missing.
    """
    folder = language_folder(corpus_dir, "fa")
    number = options.release or release(folder, corpus_dir)
    corpus = Corpus(sets={}, notes=[f"Common Voice fa, release {number or 'unknown'}, {folder}"])
    if not number:
        corpus.notes.append(
            "no folder's name tells the release (cv-corpus-17.0-...): say it by --release 17.0"
        )
    own = {} if options.accent_labels is None else _own_labels(options.accent_labels)
    policy = text_policy(options.text_policy)

    clips = {
        name: read_clips(folder / f"{name}.tsv", folder / "clips")
        for name in ("train", "dev", "test")
    }
    set_of = {
        clip.name: name
        for name in ("dev", "test")
        for clip in read_clips(folder / f"{name}.tsv", folder / "clips")
        if not clip.problem
    }
    for name in clips:
        form = one_line if name == "test" else policy
        once = _once(clips[name], name, set_of)
        corpus.sets[name] = _utterances(once, form, own, number or "unknown", corpus)
    return hold_out_accents(corpus, map(label, options.unseen_accents))


def tables(corpus_dir: Path, options: Options) -> list[Path]:
    """The files that say what the corpus is: when one changes, the corpus is another.

    Raises:
        UserError: the corpus is not there.
    """
    folder = language_folder(corpus_dir, "fa")
    files = [folder / f"{name}.tsv" for name in ("train", "dev", "test")]
    return files + ([options.accent_labels] if options.accent_labels else [])


def test_sets(corpus_dir: Path | None, options: Options) -> tuple[str, ...]:
    """Names of the test sets that `prepare` will make."""
    return with_unseen(["test"], options.unseen_accents)


def _once(clips: Iterator[Clip], name: str, set_of: Mapping[str, str]) -> Iterator[Clip]:
    """The clips of set `name`; one that is of another set by `set_of` is no longer usable."""
    for clip in clips:
        other = set_of.get(clip.name, name)
        if other != name and not clip.problem:
            clip = clip._replace(problem=f"duplicate id: in {name}.tsv and in {other}.tsv")
        yield clip


def _utterances(
    clips: Iterator[Clip],
    form: Callable[[str], str],
    own: Mapping[str, str],
    number: str,
    corpus: Corpus,
) -> Iterator[Utterance]:
    for clip in clips:
        text = form(clip.text)
        problem = clip.problem or ("" if text else "no text: no word in it")
        utt_id = utterance_id(clip.speaker, clip.name)
        if problem:
            corpus.rejected.append(rejection(utt_id, problem))
            continue
        accent = own.get(clip.client_id) or own.get(clip.path.name) or label(clip.accent)
        columns = {"release": number} | ({"gender": clip.gender} if clip.gender else {})
        yield Utterance(utt_id, clip.speaker, accent, text, clip.path, columns=columns)


def _own_labels(path: Path) -> dict[str, str]:
    """client_id or file name of a clip -> accent.

    Raises:
        UserError: the table cannot be read, a row is broken, or a speaker or clip has two accents.
    """
    key = next((c for c in ("client_id", "path") if c in header(path)), None)
    if key is None:
        raise UserError(f"{path}: needs a column client_id or path beside accent")
    labels: dict[str, str] = {}
    for row in read_table(path, required=("accent",)):
        name, accent = row.values.get(key, "").strip(), label(row.values.get("accent", ""))
        if row.problem or not name:
            raise UserError(f"{path} line {row.line}: {row.problem or f'no {key}'}")
        if labels.setdefault(name, accent) != accent:
            raise UserError(
                f"{path} line {row.line}: {name} has the accent {accent} here and "
                f"{labels[name]} above: keep one"
            )
    return labels
