"""EdAcc: conversations between friends in many first- and second-language varieties of English.

Description
    Nearly 40 hours of video calls in pairs, with what each speaker wrote about their accent and
    languages. Published as dev (9,848 utterances) and test (9,289), cut out of whole conversations
    (32 kHz, mono); there is no training set.
Citation
    Sanabria, Bogoychev, Markl, Carmantini, Klejch and Bell (2023): The Edinburgh International
    Accents of English Corpus: Towards the Democratization of English ASR. ICASSP.
Licence
    CC BY-SA
Source
    https://groups.inf.ed.ac.uk/edacc/, https://doi.org/10.7488/ds/3832

Layout: edacc_v1.0/linguistic_background.csv, edacc_v1.0/data/EDACC-Cnn.wav, and
edacc_v1.0/{dev,test}/{segments,text,utt2spk}.

Policy
    Sets. train and dev come from the publisher's dev, whole conversations in one or the other, so
    that they share neither speakers nor calls; each variety is divided as evenly as whole
    conversations allow. test is the publisher's, unfiltered, its text as published.
    Tags. <laugh>, <breath>, <click>, <cough>, <dtmf>, <lipsmack> and <ring> are taken out of the
    training text. An utterance with <overlap>, <foreign> or <no-speech>, or with no word left, is
    left out of train and dev and listed in `Corpus.excluded`.
    Accents. A YAML file sends what speakers wrote to varieties; what it does not list is unknown,
    and named in `Corpus.notes`.

The files are read directly: lhotse's preparer writes a wav.scp into the corpus folder, which fails
where that is read-only, needs pandas, and makes no training set.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Mapping


from espnet_saliency.corpora.reading import (
    identifier,
    label,
    locate,
    read_pairs,
    rejection,
    utterance_id,
)
from espnet_saliency.corpora.splits import hold_out_accents, with_unseen
from espnet_saliency.corpora.text import one_line, tags, text_policy, without_tags
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError
from espnet_saliency.yaml_file import read_yaml

ACCENT_QUESTION = "How would you describe your accent"
"""Beginning of the header of the accent's column in linguistic_background.csv."""

TABLES = ("segments", "text", "utt2spk")
"""What is read of the publisher's dev and test."""


@dataclass(frozen=True)
class Options:
    """Options of EdAcc."""

    accent_map: Path | None = None
    """YAML file with "variety: [what speakers wrote, ...]"; without it each wording is one."""
    dev_share: float = 0.15
    """Share of the publisher's dev set that becomes dev here; the rest is train."""
    excluded_tags: tuple[str, ...] = ("overlap", "foreign", "no-speech")
    """Tags that keep an utterance out of train and dev."""
    unseen_accents: tuple[str, ...] = ()
    """Varieties held out of training: tested in test_unseen."""
    text_policy: str = "english_upper"
    """Form of the training transcripts: none, english_upper, english_lower."""


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The sets train, dev and test.

    Args:
        corpus_dir: edacc_v1.0, or the folder above or below it. Nothing is written there.
        options: how accents, tags and the split are treated.
        seed: of the division into train and dev.

    Raises:
        UserError: a file of the corpus is missing; the accent map cannot be read, or sends one
            wording to two varieties; dev_share is no share.
    """
    if not 0 < options.dev_share < 1:
        raise UserError(f"--dev_share {options.dev_share}: a share between 0 and 1")
    root = _root(corpus_dir)
    if not (root / "data").is_dir():
        raise UserError(f"{root}: no folder data with the recordings (EDACC-Cnn.wav)")
    policy = text_policy(options.text_policy)
    corpus = Corpus(sets={})

    wording = read_background(root / "linguistic_background.csv")
    test = list(_utterances(root, "test", wording, corpus, frozenset()))
    tested = frozenset(u.utt_id for u in test)
    published = {"dev": list(_utterances(root, "dev", wording, corpus, tested)), "test": test}
    speakers = {u.speaker for utterances in published.values() for u in utterances}
    accents = _accents(options.accent_map, {s: wording.get(s, "") for s in speakers}, corpus)
    for name, utterances in published.items():
        published[name] = [replace(u, accent=accents[u.speaker]) for u in utterances]

    learned = []
    for utterance in published["dev"]:
        kept_out = sorted(set(tags(utterance.text)) & set(options.excluded_tags))
        text = policy(without_tags(utterance.text))
        if kept_out or not text:
            reason = (
                f"not for training: tag <{kept_out[0]}>"
                if kept_out
                else "not for training: no words"
            )
            corpus.excluded.append(rejection(utterance.utt_id, reason))
        else:
            learned.append(replace(utterance, text=text))

    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance in learned:
        sizes[conversation(utterance)][utterance.accent] += 1
    held = held_conversations(sizes, options.dev_share, seed)
    corpus.sets = {
        "train": [u for u in learned if conversation(u) not in held],
        "dev": [u for u in learned if conversation(u) in held],
        "test": published["test"],
    }
    here = {name: {u.accent for u in corpus.sets[name]} - {""} for name in ("train", "dev")}
    if here["train"] - here["dev"]:
        corpus.notes.append(
            f"in train, not in dev: {', '.join(sorted(here['train'] - here['dev']))}"
        )
    return hold_out_accents(corpus, map(label, options.unseen_accents))


def tables(corpus_dir: Path, options: Options) -> list[Path]:
    """The files that say what the corpus is: when one changes, the corpus is another.

    Raises:
        UserError: the corpus is not there.
    """
    root = _root(corpus_dir)
    files = [root / "linguistic_background.csv"]
    files += [root / name / table for name in ("dev", "test") for table in TABLES]
    return files + ([options.accent_map] if options.accent_map else [])


def test_sets(corpus_dir: Path | None, options: Options) -> tuple[str, ...]:
    """Names of the test sets that `prepare` will make."""
    return with_unseen(["test"], options.unseen_accents)


def _root(corpus_dir: Path) -> Path:
    return locate(
        corpus_dir,
        lambda f: (
            (f / "linguistic_background.csv").is_file() or (f / "test" / "segments").is_file()
        ),
        "linguistic_background.csv and test/segments of EdAcc",
    )


def conversation(utterance: Utterance) -> str:
    """The call that an utterance is from; the parts of one (EDACC-C30_P1, _P2) are one call."""
    return re.sub(r"_P\d+$", "", utterance.path.stem)


def held_conversations(
    sizes: Mapping[str, Mapping[str, int]], share: float, seed: int
) -> frozenset[str]:
    """Which conversations to hold back, so that about `share` of every accent is held back.

    A conversation has two speakers, often of two accents, and goes to one side as a whole. A local
    search: conversations change sides, in an order that the seed decides, as long as this brings
    the accents nearer to `share`. No accent is held back whole.

    Args:
        sizes: conversation -> accent -> utterances.
        share: of each accent, and of the whole, to hold back.
        seed: another one, another division.
    """
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    total: Counter[str] = Counter()
    for counts in sizes.values():
        total.update(counts)

    def cost(held: set[str]) -> float:
        have = Counter({accent: 0 for accent in total})
        for name in held:
            have.update(sizes[name])
        if any(have[accent] == total[accent] for accent in total):
            return math.inf
        # Sorted: a sum in another order differs in its last bit.
        parts = [(have[a] - share * total[a]) ** 2 / total[a] for a in sorted(total)]
        whole = total.total()
        return sum(parts) + len(parts) * (have.total() - share * whole) ** 2 / whole

    held: set[str] = set()
    best, improved = cost(held) if total else 0.0, True
    while improved:
        improved = False
        for name in order:
            trial = held ^ {name}
            if cost(trial) < best - 1e-9:
                held, best, improved = trial, cost(trial), True
    return frozenset(held)


def read_background(path: Path) -> dict[str, str]:
    """Participant -> what they wrote about their accent.

    Raises:
        UserError: the file or one of the two columns is missing; it is no CSV.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    # Answers may span lines, so the csv module reads the file whole.
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as handle:
        rows = csv.DictReader(handle)
        columns = {(column or "").strip(): column for column in rows.fieldnames or ()}
        question = next((c for c in columns if c.startswith(ACCENT_QUESTION)), None)
        if "PARTICIPANT_ID" not in columns or question is None:
            raise UserError(
                f"{path}: needs the columns PARTICIPANT_ID and '{ACCENT_QUESTION} ...'; "
                f"it has: {', '.join(columns)}"
            )
        try:
            return {
                (row[columns["PARTICIPANT_ID"]] or "").strip(): one_line(row[columns[question]] or "")
                for row in rows
            }
        except csv.Error as error:
            raise UserError(
                f"{path} line {rows.line_num}: {error}; look there for an unbalanced quote"
            ) from error


def read_accent_map(path: Path) -> dict[str, str]:
    """What speakers wrote, in `_key` form -> variety.

    Raises:
        UserError: no such file, no YAML of that form, or one wording under two varieties.
    """
    if not path.is_file():
        raise UserError(f"--accent_map {path}: no such file")
    varieties: dict[str, str] = {}
    for variety, wordings in read_yaml(path).items():
        if not isinstance(wordings, list):
            raise UserError(
                f"{path}: must hold 'variety: [what speakers wrote, ...]', not "
                f"{variety!r}: {wordings!r}"
            )
        for wording in wordings:
            key = _key(str(wording))
            if varieties.setdefault(key, label(variety)) != label(variety):
                raise UserError(
                    f"{path}: {wording!r} is listed under {varieties[key]} and under "
                    f"{label(variety)}: remove one"
                )
    return varieties


def _key(wording: str) -> str:
    return re.sub(r"\s*([/,()])\s*", r"\1", one_line(wording).casefold().rstrip(". "))


def _accents(path: Path | None, wording: Mapping[str, str], corpus: Corpus) -> dict[str, str]:
    """Speaker -> accent, with a note for what has none."""
    if path is None:
        return {speaker: label(words) for speaker, words in wording.items()}
    varieties = read_accent_map(path)
    accents = {speaker: varieties.get(_key(words), "") for speaker, words in wording.items()}
    unmapped: dict[str, list[str]] = defaultdict(list)
    for speaker in sorted(accents):
        if not accents[speaker]:
            unmapped[wording[speaker]].append(speaker)
    for words, speakers in sorted(unmapped.items()):
        said = f"accent {words!r} is not in {path.name}" if words else "no accent stated"
        corpus.notes.append(f"{said}, so unknown: {', '.join(speakers)}")
    return accents


def _utterances(
    root: Path, name: str, wording: Mapping[str, str], corpus: Corpus, elsewhere: frozenset[str]
) -> Iterator[Utterance]:
    """The utterances of dev or test in the order of its segments, text as published, no accent.

    Those of `elsewhere`, which another set has, are rejected.
    """
    folder = root / name
    speakers = _first(folder / "utt2spk", corpus.notes)
    texts = _first(folder / "text", corpus.notes)
    seen: dict[str, int] = {}
    for line, utt_id, rest in read_pairs(folder / "segments"):
        where = f"{name}/segments line {line}"
        # A speaker is one word; what follows it in a broken line is not looked at.
        speaker = identifier((speakers.get(utt_id, "").split() or [""])[0])
        text = one_line(texts.get(utt_id, ""))
        problem, recording, start, end = _segment(rest)
        if utt_id in seen:
            problem = "duplicate id"
        elif not speaker:
            problem = problem or "no line in utt2spk"
        elif not text:
            problem = problem or "no text"
        elif "\ufffd" in text:
            problem = problem or "a character that is not UTF-8 in the text"
        seen.setdefault(utt_id, line)
        whole_id = utterance_id(speaker, identifier(utt_id)) if speaker else utt_id
        if not problem and whole_id in elsewhere:
            problem = "duplicate id: test has it too"
        if problem:
            corpus.rejected.append(rejection(whole_id, f"{problem}: {where}"))
            continue
        path = root / "data" / f"{identifier(recording)}.wav"
        stated = identifier(wording.get(speaker, ""))
        columns = {"stated_accent": stated} if stated else {}
        yield Utterance(whole_id, speaker, "", text, path, start, end, columns=columns)
    for utt_id in sorted(texts.keys() - seen.keys()):
        corpus.rejected.append(
            rejection(utt_id, f"no segment: in {name}/text, not in {name}/segments")
        )


def _first(path: Path, notes: list[str]) -> dict[str, str]:
    """Utterance -> the rest of its line; the first line counts, another that differs is noted."""
    values: dict[str, str] = {}
    for line, utt_id, rest in read_pairs(path):
        if values.setdefault(utt_id, rest) != rest:
            notes.append(
                f"{path.parent.name}/{path.name} line {line}: a second line for {utt_id}, not used"
            )
    return values


def _segment(rest: str) -> tuple[str, str, float, float]:
    """Problem, recording, start and end (s) of the part of a segments line after its id."""
    fields = rest.split()
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        return f"not 'recording start end': {rest!r}", "", 0.0, 0.0
    if len(fields) != 3 or not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        return f"not 'recording start end': {rest!r}", recording, start, end
    if end <= start:
        return f"ends before it starts: {start:g} to {end:g} s", recording, start, end
    return "", recording, start, end
