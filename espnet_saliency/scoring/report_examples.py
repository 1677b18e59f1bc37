"""Test utterances to listen to: those on which the arms differ most, and those with a picture."""

from __future__ import annotations

import base64
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.scoring.error_rates import score
from espnet_saliency.scoring.report_cells import Link, links
from espnet_saliency.scoring.report_figures import Picture, picture
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_words import accent_name

MOST = 8  # examples in all
PICTURED = 3  # of these at most, for having a picture
SECONDS = 8.0  # of an utterance
BYTES = 60_000  # of its sound
TRIES = 5  # utterances of an accent whose sound is asked for
LONG = 25  # words; shorter utterances come first
_RATE = 16_000  # Hz

Row = Mapping[str, str]  # a line of utterances.tsv


@dataclass(frozen=True)
class Heard:
    """What one arm made of an utterance: its errors, its words as (kind, said, heard)."""

    arm: str
    errors: int
    alignment: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Example:
    """One utterance with its sound."""

    set: str
    utt_id: str
    speaker: str
    accent: str
    words: int
    audio: str
    """Data URI of MP3."""
    seconds: float
    """Of the utterance; the sound may be its beginning only."""
    cut: bool
    heard: Sequence[Heard]
    picture: Picture | None


@dataclass(frozen=True)
class Examples:
    """The examples, how many utterances had no sound that could be read, and the files behind."""

    shown: Sequence[Example]
    without_sound: int
    sources: Sequence[Link]


def examples(inputs: ReportInputs, folder: Path) -> Examples | None:
    """Choose utterances and read their sound; None where there is none.

    One utterance for each accent of the set that answers the question: that on which the method
    and the baseline differ most in errors, whichever is better; then some that have a picture.
    """
    texts = {name: _texts(inputs, name) for name in inputs.sets if name in inputs.audio}
    texts = {name: arms for name, arms in texts.items() if arms}
    sound = {name: read_table(inputs.path(inputs.audio[name]) / "wav.scp") for name in texts}
    chosen: dict[str, tuple[str, tuple[str, float, bool]]] = {}
    missing = 0
    pictured = {}
    for one in inputs.pictures:
        match = re.match(r"(\S+) \(", one["caption"])
        name = match and next((n for n, arms in texts.items() if match[1] in arms[0][1]), None)
        if name and len(pictured) < PICTURED:
            audio = encode(sound[name].get(match[1], ""))
            if audio:
                pictured[match[1]] = (name, audio, one)
    if inputs.headline in texts:
        for candidates in _by_accent(inputs, texts[inputs.headline]):
            for utt_id in candidates[:TRIES]:
                audio = encode(sound[inputs.headline].get(utt_id, ""))
                if audio:
                    chosen[utt_id] = (inputs.headline, audio)
                    break
                missing += 1
            if len(chosen) == MOST - len(pictured):
                break
    chosen |= {utt_id: (name, audio) for utt_id, (name, audio, _) in pictured.items()}
    if not chosen:
        return None
    shown = [
        _example(
            name, utt_id, texts[name], audio,
            picture(inputs, pictured[utt_id][2]) if utt_id in pictured else None,
        )
        for utt_id, (name, audio) in chosen.items()
    ]  # fmt: skip
    used = dict.fromkeys(one.set for one in shown)
    files = {
        f"{label}, {name}: utterances.tsv": path
        for name in used
        for arm in inputs.charted
        for label, path in [_file(inputs, arm, name)]
    }
    return Examples(shown, missing, links(inputs, folder, files))


def encode(path: str) -> tuple[str, float, bool] | None:
    """(data URI, seconds of the file, whether only its beginning is in the URI) of a sound file.

    MP3, which every browser plays, and which is the same bytes each time (the serial number of an
    Ogg stream is drawn at random).

    Args:
        path: an audio file as named in wav.scp; a pipe is not run.

    Returns:
        None where there is no such file, it cannot be read, or its sound is too large.
    """
    import soundfile
    import soxr

    # A command of wav.scp ends in "|": no file has that name.
    if not path or not Path(path).is_file():
        return None
    try:
        info = soundfile.info(path)
        wave, rate = soundfile.read(
            path, frames=int(SECONDS * info.samplerate), dtype="float32", always_2d=True
        )
    except soundfile.LibsndfileError:
        return None
    mono = wave.mean(axis=1)
    if rate != _RATE:
        mono = soxr.resample(mono, rate, _RATE)
    out = io.BytesIO()
    soundfile.write(out, mono, _RATE, format="MP3", subtype="MPEG_LAYER_III")
    content = out.getvalue()
    if len(content) > BYTES:
        return None
    uri = "data:audio/mpeg;base64," + base64.b64encode(content).decode("ascii")
    return uri, info.duration, info.duration > SECONDS


def _file(inputs: ReportInputs, arm: str, name: str) -> tuple[str, Path]:
    """Label and table of an arm's utterances in one set, of its first seed."""
    label, decode = inputs.decodes(arm, name)[0]
    return label, decode / "score_wer" / "utterances.tsv"


def _texts(inputs: ReportInputs, name: str) -> list[tuple[str, dict[str, Row]]]:
    """(arm, utterance -> its row) of the charted arms: the method first, then the baseline."""
    part = roles(inputs.comparison)
    first = [part.method, part.baseline]
    arms = sorted(inputs.charted, key=lambda arm: first.index(arm) if arm in first else 2)
    found = []
    for arm in arms:
        _, path = _file(inputs, arm, name)
        if not path.is_file():
            return []
        with open(path, encoding="utf-8", newline="") as handle:
            rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            found.append((arm, {row["utt_id"]: row for row in rows}))
    return found


def _errors(row: Row) -> int:
    return sum(int(row[kind]) for kind in ("sub", "del", "ins"))


def _by_accent(
    inputs: ReportInputs, texts: Sequence[tuple[str, Mapping[str, Row]]]
) -> list[list[str]]:
    """Utterances of each accent, those that tell the arms apart first; so are the accents."""
    ours = texts[0][1]
    theirs = dict(texts).get(inputs.comparison["baseline"], {}) if len(texts) > 1 else {}

    def rank(utt_id: str) -> tuple[Any, ...]:
        row, words = ours[utt_id], int(ours[utt_id]["words"])
        apart = _errors(row) - (_errors(theirs[utt_id]) if utt_id in theirs else 0)
        return (words > LONG, -abs(apart), words, utt_id)

    accents: dict[str, list[str]] = {}
    for utt_id in sorted(ours, key=rank):
        accents.setdefault(ours[utt_id]["accent"], []).append(utt_id)
    return list(accents.values())


def _example(
    name: str,
    utt_id: str,
    texts: Sequence[tuple[str, Mapping[str, Row]]],
    audio: tuple[str, float, bool],
    shown: Picture | None,
) -> Example:
    heard = []
    for arm, rows in texts:
        row = rows[utt_id]
        # The texts are as they were scored, so that no policy changes them again.
        one = score("wer", *({utt_id: row[k]} for k in ("reference", "hypothesis", "speaker")), {})
        heard.append(Heard(arm, _errors(row), one.alignment(0)))
    row = texts[0][1][utt_id]
    uri, seconds, cut = audio
    return Example(
        name, utt_id, row["speaker"], accent_name(row["accent"]), int(row["words"]), uri, seconds,
        cut, heard, shown,
    )  # fmt: skip
