"""A miniature corpus that is generated: short sentences in twelve accents of English.

Description
    Sentences of three to seven words out of 51, or as many connected digits, spoken by espeak-ng:
    five of its English voices, and seven languages that read English words in their own spelling
    (`respelling`); four more languages lie ready (`FRESH`). About an hour and a half in under a
    minute, the same bytes every time.
    A speaker is a variant of the voice (vocal tract), a rate, a pitch and its range. Every accent
    has the same speakers, so that a voice says nothing about the accent: a classifier that learns
    voices is at chance. The test speakers are not those of train and dev, and read the same
    sentences in every accent, so that accents differ in nothing but the accent. A little white
    noise stands for the room: a synthesiser's silence is digital.
Licence
    The synthesiser is GPL-3.0-or-later, an optional package (espeakng-loader) that runs as a
    process of its own (`espeak`); what it speaks is not covered by that licence.
Source
    https://github.com/espeak-ng/espeak-ng

Sets: train, dev and test of the seen accents, test_unseen of the unseen ones. The folder that is
made has audio/, manifest.tsv, which the corpus `manifest` reads as well, and mini_accent.json.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Callable, Iterable, NamedTuple

from espnet_saliency.corpora.respelling import respell
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir
from espnet_saliency.progress import Progress

# Accent -> voice of espeak-ng. Other English voices (en-gb-x-rp, en-gb-x-gbclan, en-us-nyc) lie
# nearer to one of these than two speakers of an accent do to each other.
ENGLISH = {
    "american": "en-us",
    "british": "en",
    "scottish": "en-gb-scotland",
    "caribbean": "en-029",
    "midlands": "en-gb-x-gbcwmd",
}
FOREIGN = {
    "indian": "hi",
    "russian": "ru",
    "spanish": "es",
    "korean": "ko",
    "italian": "it",
    "german": "de",
    "turkish": "tr",
    "polish": "pl",
    "brazilian": "pt-br",
    "dutch": "nl",
    "japanese": "ja",
}
ACCENTS = ENGLISH | FOREIGN
FRESH = ("polish", "brazilian", "dutch", "japanese")
"""Accents that no run has unless it names them: to confirm what was chosen on the others."""

# Variants that speak the same bytes in each fresh process, sound like people, and leave the
# accent's own melody alone. Not f2 f3 f5 whisper Alicia sandro victor: they differ every time.
VARIANTS = {
    "m1": "male", "f1": "female", "m2": "male", "f4": "female", "m3": "male", "steph": "female",
    "m4": "male", "aunty": "female", "m5": "male", "linda": "female", "m6": "male",
    "grandma": "female", "m7": "male", "max": "male",
}  # fmt: skip

_WORDS = {
    "name": "anna laura martha peter robert victor",
    "verb": "bought brought carried found painted sold wanted",
    "number": "two three four five seven ten thirty",
    "adjective": "cold dark green heavy old red small yellow",
    "noun": "apples boats books bottles cards chairs horses letters shirts",
    "near": "behind near under",
    "the": "the",
    "place": "bridge garden harbour market river school",
    "time": "monday thursday today tonight",
}
GRAMMAR = {slot: tuple(words.split()) for slot, words in _WORDS.items()}
"""Slot of a sentence -> its words."""
PATTERNS = tuple(
    pattern.split()
    for pattern in (
        "name verb noun",
        "name verb number noun",
        "name verb adjective noun",
        "name verb noun time",
        "name verb number adjective noun",
        "name verb adjective noun time",
        "time name verb number noun",
        "name verb noun near the place",
        "name verb number adjective noun time",
        "time name verb number adjective noun",
        "name verb adjective noun near the place",
        "name verb number noun near the place",
        "time name verb noun near the place",
    )
)
"""Sentences, all as likely."""
DIGITS = "zero one two three four five six seven eight nine".split()
PROMPTS = ("sentences", "digits")
"""What speakers can be given to read."""

# Part of the corpus -> the hundreds of its speakers' numbers. The order is that of speaking.
_PARTS = {"test": 2, "dev": 1, "train": 0}
_MOST_SPEAKERS = 100
_RECORD = "mini_accent.json"


@dataclass(frozen=True)
class Options:
    """Options of the miniature corpus; other values make another corpus."""

    accents: tuple[str, ...] = tuple(accent for accent in ACCENTS if accent not in FRESH)
    """Accents to speak."""
    unseen_accents: tuple[str, ...] = ("midlands", "italian", "german", "turkish")
    """Those among them that are held out of training: tested in test_unseen."""
    train_speakers: int = 28
    """Speakers of each seen accent in train."""
    dev_speakers: int = 4
    """Speakers of each seen accent in dev."""
    test_speakers: int = 24
    """Speakers of each accent in test or test_unseen."""
    train_utterances: int = 8
    """Utterances of a speaker in train."""
    dev_utterances: int = 5
    """Utterances of a speaker in dev."""
    test_utterances: int = 2
    """Utterances of a speaker in test."""
    unseen_utterances: int = 4
    """Utterances of a speaker in test_unseen; the first ones are those of test."""
    prompts: str = "sentences"
    """What is read: sentences, or digits (three to seven connected digits)."""
    corpus_seed: int = 1
    """Another seed makes other sentences and speakers."""


class Line(NamedTuple):
    """What is spoken once, by whom, into which file."""

    utt_id: str
    speaker: str
    accent: str
    set_name: str
    text: str
    gender: str
    voice: str
    spoken: str
    rate: int
    pitch: int
    range: int

    @property
    def file(self) -> str:
        """Path of the audio in the corpus folder."""
        return f"audio/{self.speaker}/{self.utt_id}.flac"


def prepare(corpus_dir: Path, options: Options, seed: int) -> Corpus:
    """The corpus, generated in `corpus_dir` unless it is there already.

    Args:
        corpus_dir: an absent or empty folder, or one that this function made; one that was made
            with other options is made anew.
        options: its size, accents and seed.
        seed: not used: runs that differ in their seed are to hear the same speech (`corpus_seed`).

    Raises:
        UserError: options that make no corpus; other files in the folder; espeakng-loader is not
            installed, or fails.
    """
    lines = plan(options)
    corpus_dir = corpus_dir.absolute()
    if not _is_complete(corpus_dir, lines):
        _refuse_strange_files(corpus_dir)
        _generate(corpus_dir, options, lines)
    corpus = Corpus(sets={})
    for line in sorted(lines, key=lambda line: line.utt_id):
        corpus.sets.setdefault(line.set_name, []).append(
            Utterance(
                line.utt_id, line.speaker, line.accent, line.text, corpus_dir / line.file,
                columns={"gender": line.gender},
            )
        )
    order = ["train", "dev", "test", "test_unseen"]
    corpus.sets = {name: corpus.sets[name] for name in order if name in corpus.sets}
    return corpus


def plan(options: Options) -> list[Line]:
    """All that is spoken, in order: accent by accent, test before dev before train.

    In each part all speakers say their first sentence, then all their second one. So what an
    accent's test speakers say first is spoken, and sounds, the same whether it is seen or not.

    Raises:
        UserError: options that make no corpus.
    """
    _check(options)
    lines = []
    for accent in options.accents:
        unseen = accent in options.unseen_accents
        for part in ("test",) if unseen else _PARTS:
            set_name = "test_unseen" if unseen else part
            count = getattr(options, f"{'unseen' if unseen else part}_utterances")
            speakers = range(getattr(options, f"{part}_speakers"))
            lines += [
                _line(options, accent, part, set_name, speaker, number)
                for number in range(count)
                for speaker in speakers
            ]
    return lines


def _line(
    options: Options, accent: str, part: str, set_name: str, speaker: int, number: int
) -> Line:
    index = _PARTS[part] * _MOST_SPEAKERS + speaker
    names = list(VARIANTS)
    # dev has few speakers: begun elsewhere, it does not have the first variants of train again.
    variant = names[(speaker + 4 * _PARTS[part]) % len(names)]
    voice = _random(options, "speaker", index)
    rate, pitch, range_ = voice.randint(140, 180), voice.randint(30, 70), voice.randint(30, 70)
    # Learning wants many sentences, tests want accents to be compared on the same ones.
    reader = "all accents" if part == "test" else accent
    read = sentence if options.prompts == "sentences" else digits
    text = read(_random(options, "sentence", reader, index, number))
    return Line(
        utt_id=f"{accent}-{index:03d}-{number:02d}",
        speaker=f"{accent}-{index:03d}",
        accent=accent,
        set_name=set_name,
        text=text,
        gender=VARIANTS[variant],
        voice=f"{ACCENTS[accent]}+{variant}",
        spoken=respell(text, FOREIGN[accent]) if accent in FOREIGN else text,
        rate=rate,
        pitch=pitch,
        range=range_,
    )


def sentence(chance: random.Random) -> str:
    """One sentence of the grammar: a pattern, and a word for each of its slots."""
    return " ".join(chance.choice(GRAMMAR[slot]) for slot in chance.choice(PATTERNS))


def digits(chance: random.Random) -> str:
    """Three to seven digits, spelt out."""
    return " ".join(chance.choice(DIGITS) for _ in range(chance.randint(3, 7)))


def _random(options: Options, *key: object) -> random.Random:
    # Its own generator for each speaker and sentence: a smaller corpus is a part of a larger one.
    return random.Random(_number("\0".join(map(str, (options.corpus_seed, *key)))))


def _number(text: str) -> int:
    # Not hash(), which is another one in each process.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _check(options: Options) -> None:
    if options.prompts not in PROMPTS:
        raise UserError(f"--prompts {options.prompts}: one of {', '.join(PROMPTS)}")
    for name in ("accents", "unseen_accents"):
        given = getattr(options, name)
        for accent in given:
            if accent not in ACCENTS:
                raise UserError(f"--{name} {accent}: unknown; mini_accent has {', '.join(ACCENTS)}")
        if len(set(given)) < len(given):
            raise UserError(f"--{name} {' '.join(given)}: one is named twice")
    strange = sorted(set(options.unseen_accents) - set(options.accents))
    if strange:
        raise UserError(
            f"--unseen_accents {strange[0]}: is not among --accents {' '.join(options.accents)}"
        )
    seen = len(options.accents) - len(options.unseen_accents)
    if seen < 2:
        raise UserError(
            f"--unseen_accents {' '.join(options.unseen_accents)}: leaves {seen} of "
            f"{len(options.accents)} accents to train on; at least 2 are needed"
        )
    for name, value in asdict(options).items():
        if name.endswith(("_speakers", "_utterances")) and not 1 <= value <= _MOST_SPEAKERS:
            raise UserError(f"--{name} {value}: must lie between 1 and {_MOST_SPEAKERS}")


def _digest(lines: Iterable[Line]) -> str:
    return hashlib.sha256(json.dumps(list(lines)).encode()).hexdigest()


def _is_complete(corpus_dir: Path, lines: list[Line]) -> bool:
    """Whether the folder holds just these lines, spoken."""
    try:
        record = json.loads((corpus_dir / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(record, dict) or record.get("digest") != _digest(lines):
        return False
    return all((corpus_dir / line.file).is_file() for line in lines)


def _refuse_strange_files(corpus_dir: Path) -> None:
    """Generating takes the place of the folder: never of one that holds anything else."""
    if corpus_dir.exists() and not corpus_dir.is_dir():
        raise UserError(f"--corpus_dir {corpus_dir}: is a file; mini_accent makes a folder there")
    names = sorted(os.listdir(corpus_dir)) if corpus_dir.exists() else []
    strange = [name for name in names if name not in ("audio", "manifest.tsv", _RECORD)]
    if strange or (names and _RECORD not in names):
        raise UserError(
            f"--corpus_dir {corpus_dir}: holds {(strange or names)[0]}, which is not of "
            f"mini_accent, and would be replaced; name a new or empty folder"
        )


def _generate(corpus_dir: Path, options: Options, lines: list[Line]) -> None:
    # Found without being imported: it is under another licence, and only `espeak` uses it.
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "mini_accent is spoken by the package espeakng-loader, which is not installed: "
            "pip install 'espnet-saliency[mini]'"
        )
    by_accent: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_accent[line.accent].append(line)

    with atomic_dir(corpus_dir) as folder:
        for name in sorted({Path(line.file).parent for line in lines}):
            (folder / name).mkdir(parents=True)
        progress, lock = Progress("speaking mini_accent", len(lines), "sentences"), Lock()

        def spoken() -> None:
            with lock:
                progress.advance()

        # A process an accent, however many run at a time: what is spoken depends on what the
        # process spoke before.
        with progress, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            running = [
                pool.submit(_speak, accent, part, folder, spoken)
                for accent, part in by_accent.items()
            ]
            for process in running:
                process.result()
        _write_table(folder / "manifest.tsv", lines)
        record = {"digest": _digest(lines), "options": asdict(options), "utterances": len(lines)}
        (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _speak(accent: str, lines: list[Line], folder: Path, spoken: Callable[[], None]) -> None:
    """Speak the lines of one accent in a fresh process; `spoken` is called after each."""
    jobs = [
        {
            "path": str(folder / line.file), "voice": line.voice, "text": line.spoken,
            "rate": line.rate, "pitch": line.pitch, "range": line.range,
            "noise_seed": _number(line.utt_id),
        }
        for line in lines
    ]  # fmt: skip
    # The process finds this package where we found it, whatever the current folder is.
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_saliency.corpora.espeak"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    )
    with process:
        try:
            process.stdin.writelines(json.dumps(job) + "\n" for job in jobs)
            process.stdin.close()
        except BrokenPipeError:
            pass  # It ended early: its exit status and its last line say why.
        done = 0
        for _ in process.stdout:
            done += 1
            spoken()
        said = process.stderr.read().strip().splitlines()
    if process.returncode or done != len(lines):
        raise UserError(
            f"mini_accent: espeak-ng failed on the accent {accent} after {done} of {len(lines)} "
            f"sentences (status {process.returncode}): {said[-1] if said else 'it said nothing'}"
        )


def _write_table(path: Path, lines: list[Line]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        table.writerow(["utt_id", "path", "text", "speaker", "accent", "split", "gender", "voice"])
        for line in sorted(lines, key=lambda line: line.utt_id):
            table.writerow([
                line.utt_id, line.file, line.text, line.speaker, line.accent, line.set_name,
                line.gender, line.voice,
            ])  # fmt: skip
