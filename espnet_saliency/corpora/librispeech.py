"""LibriSpeech: read English from audiobooks, 960 hours for training.

Description
    About 1,000 hours of 16 kHz read English from the LibriVox project, in parts: train-clean-100,
    train-clean-360, train-other-500, dev-clean, dev-other, test-clean, test-other. "clean" and
    "other" tell how hard a speaker was for an older recogniser. It has no accent labels: here it
    is the native reference, and its accent classifier comes from another corpus.
Citation
    Panayotov, Chen, Povey and Khudanpur (2015): Librispeech: an ASR corpus based on public domain
    audio books. ICASSP.
Licence
    CC BY 4.0
Source
    https://www.openslr.org/12 (mini-librispeech, in the same layout: https://www.openslr.org/31)

Layout: LibriSpeech/<part>/<speaker>/<chapter>/<speaker>-<chapter>-NNNN.flac, beside them
<speaker>-<chapter>.trans.txt with a line "ID TEXT" for each.

The files are read directly. lhotse's preparer opens all 281,241 headers and keeps all manifests in
memory; here the utterances of all parts pass one by one, sorted by id, and the headers are opened
once, where the data directory is written.
"""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from espnet_saliency.corpora.reading import lines, locate, rejection, unique
from espnet_saliency.corpora.text import one_line, text_policy
from espnet_saliency.corpora.utterance import Corpus, Rejection, Utterance
from espnet_saliency.errors import UserError

PRESETS = {
    "100h": ("train-clean-100",),
    "960h": ("train-clean-100", "train-clean-360", "train-other-500"),
}
"""Names for what is mostly trained on."""


@dataclass(frozen=True)
class Options:
    """Options of LibriSpeech."""

    train_parts: tuple[str, ...] = ("100h",)
    """Parts to train on, or 100h (train-clean-100) or 960h (all three)."""
    valid_parts: tuple[str, ...] = ("dev-clean", "dev-other")
    """Parts that together make the set dev."""
    test_parts: tuple[str, ...] = ("test-clean", "test-other")
    """Parts to test on, a set each: test-clean becomes test_clean."""
    text_policy: str = "english_upper"
    """Form of the training transcripts: none, english_upper, english_lower."""


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The sets train, dev and one for each test part, sorted by utterance id.

    The sets are generators: each can be passed through once, and `Corpus.rejected` is complete
    after that. An utterance that lies in several parts stays in the test part, or else in dev.

    Args:
        corpus_dir: LibriSpeech, or the folder above or below it.
        options: which parts.
        seed: not used; the publisher's parts are the sets.

    Raises:
        UserError: a part is not there, or has no speakers; a part is named in two sets.
    """
    sets = {"train": _parts(options.train_parts), "dev": _parts(options.valid_parts)}
    sets |= {part.replace("-", "_"): (part,) for part in _parts(options.test_parts)}
    sets = {name: parts for name, parts in sets.items() if parts}
    named = [part for parts in sets.values() for part in parts]
    for part in named:
        if named.count(part) > 1:
            raise UserError(
                f"LibriSpeech part {part} is named twice in train_parts, valid_parts, test_parts"
            )

    root = locate(
        corpus_dir,
        lambda folder: any((folder / part).is_dir() for part in named),
        f"folder of a LibriSpeech part ({', '.join(named)})",
    )
    for part in named:
        if not (root / part).is_dir():
            raise UserError(
                f"{root}: no folder {part}; download it, or leave it out of train_parts, "
                "valid_parts and test_parts"
            )
        if not _folders(root / part):
            raise UserError(f"{root / part}: no folders of speakers in it")

    policy = text_policy(options.text_policy)
    corpus = Corpus(sets={})
    tested = [part for name in sets if name not in ("train", "dev") for part in sets[name]]
    for name, parts in sets.items():
        form = policy if name in ("train", "dev") else one_line
        held = {"train": [*sets.get("dev", ()), *tested], "dev": tested}.get(name, [])
        others = [root / part for part in held]
        streams = [_utterances(root / part, form, others, corpus.rejected) for part in parts]
        merged = heapq.merge(*streams, key=lambda utterance: utterance.utt_id)
        corpus.sets[name] = unique(merged, corpus.rejected)
    return corpus


def _parts(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for name in names for part in PRESETS.get(name, (name,)))


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir())


def _utterances(
    part: Path, form: Callable[[str], str], others: list[Path], rejected: list[Rejection]
) -> Iterator[Utterance]:
    """The utterances of a part, sorted by id: speaker, chapter and number are sorted as text.

    Those that also lie in one of the parts `others` are rejected.
    """
    for speaker in _folders(part):
        for chapter in _folders(part / speaker):
            place = part / speaker / chapter
            elsewhere = {
                name: other.name
                for other in others
                if (other / speaker / chapter).is_dir()
                for name in _recordings(other / speaker / chapter)
            }
            for utterance in _chapter(place, speaker, form, rejected):
                other = elsewhere.get(utterance.utt_id)
                if other:
                    reason = f"duplicate id: in {part.name} and in {other}"
                    rejected.append(rejection(utterance.utt_id, reason))
                else:
                    yield utterance


def _recordings(chapter: Path) -> set[str]:
    return {name[: -len(".flac")] for name in os.listdir(chapter) if name.endswith(".flac")}


def _chapter(
    folder: Path, speaker: str, form: Callable[[str], str], rejected: list[Rejection]
) -> Iterator[Utterance]:
    audio = _recordings(folder)
    table = folder / f"{speaker}-{folder.name}.trans.txt"
    texts = []
    for _, line in lines(table) if table.is_file() else ():
        utt_id, text = (line.split(maxsplit=1) + [""])[:2]
        texts.append((utt_id, text))
    missing = audio - {utt_id for utt_id, _ in texts}
    rejected += [
        rejection(utt_id, f"no transcript: not in {table.name}") for utt_id in sorted(missing)
    ]

    for utt_id, text in sorted(texts):
        broken, text = "\ufffd" in text, form(text)
        if utt_id not in audio:
            rejected.append(rejection(utt_id, f"no audio: listed in {table.name}"))
        elif broken:
            reason = f"a character that is not UTF-8 in the text: {table.name}"
            rejected.append(rejection(utt_id, reason))
        elif not text:
            rejected.append(rejection(utt_id, f"no text: {table.name}"))
        else:
            yield Utterance(utt_id, speaker, "", text, folder / f"{utt_id}.flac")
