"""Test sets as they sound elsewhere: in noise, in a room, among other talkers.

A condition is written clean, noise_<dB>, babble_<dB> or reverb. Every utterance has a random
generator of its own, seeded with the seed, the condition and the utterance's id: its mix does not
depend on what else is in the set, on the order of the work or on how much is done at a time
(babble alone draws on the other utterances).

Signal-to-noise ratio. Both powers are means over the same samples: those where the speech is
active (`activity`). Pauses change nothing, therefore, and noise that stops when the speech stops is
not measured as quiet. A noise that is loud in the pauses alone could only be brought to the ratio
by drowning the speech between them, so another is drawn. Reverberant speech has the power of the
clean speech in the same samples.

Where a mix would reach full scale the whole of it is made smaller, speech and noise alike: the
ratio stays and nothing is clipped.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Iterable, NamedTuple

import numpy as np
import soundfile

from espnet_saliency.datadir import noise, rooms
from espnet_saliency.datadir.activity import active_samples, frame_powers
from espnet_saliency.datadir.kaldi import in_batches, read_table, utterance_tables
from espnet_saliency.datadir.parallel import muted_stderr, ordered_map
from espnet_saliency.datadir.probe import BadAudio
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir
from espnet_saliency.progress import Progress

MIXES = "mixes.tsv"
"""What was done to each utterance, beside the tables of the set."""

HEADER = "utt_id\twith\tgain_db\tscale\n"

_SNR = (-30.0, 60.0)
_BATCH = 16
# The largest 16 bit sample.
_FULL_SCALE = 32767 / 32768
# Draws in a row that may come to nothing (a broken file, silence) before the source is given up.
_DRAWS = 20
# What lies further below its own loudest frame where the speech is than this, in dB, is not heard there.
_QUIET = 30.0
# Power of noise of two steps of 16 bit: less is what the file was rounded by.
_ROUNDING = (2 / 32768) ** 2


@dataclass(frozen=True)
class Condition:
    """How a test set is heard."""

    kind: str
    """clean, noise, babble or reverb."""
    snr: float | None = None
    """Signal-to-noise ratio of noise and babble, in dB."""

    @property
    def name(self) -> str:
        """As `parse_condition` reads it: noise_10, reverb."""
        return self.kind if self.snr is None else f"{self.kind}_{self.snr:g}"


@dataclass(frozen=True)
class Mixed:
    """What became of the utterances of a set."""

    utterances: int
    scaled: int
    """Mixes that were made smaller as a whole, to stay below full scale."""
    smallest: float
    """The least scale among them, 1 where there is none."""
    silent: int
    """Utterances of digital silence: without speech there is no ratio, they stay as they are."""
    unusable: tuple[str, ...]
    """Noises and rooms that were drawn and could not be used, and why: others took their place."""


class _Row(NamedTuple):
    utterance: str
    path: str
    speaker: str


class _Mix(NamedTuple):
    """What was done to an utterance."""

    source: str = ""
    gain: float = 0.0
    """Of the interference, or of the reverberant speech, as it was drawn; in dB."""
    scale: float = 1.0
    """Of the whole mix."""
    unusable: tuple[str, ...] = ()
    """What was drawn first and could not be used, and why."""


def parse_condition(name: str) -> Condition:
    """A condition by its name.

    Raises:
        UserError: unknown, or without a ratio, or the ratio is no number from -30 to 60.
    """
    kind, _, ratio = name.partition("_")
    if name in ("clean", "reverb"):
        return Condition(name)
    if kind not in ("noise", "babble"):
        raise UserError(
            f"condition {name!r} is not known: clean, reverb, noise_<dB> or babble_<dB>, "
            "e.g. 'clean noise_10 reverb'"
        )
    # Not float(): "1_0", "nan" and "1e1" would be folders' names that nobody expects.
    if not re.fullmatch(r"-?\d+(\.\d+)?", ratio):
        raise UserError(
            f"condition {name!r}: {ratio!r} is no number; write the signal-to-noise ratio in dB, "
            f"e.g. {kind}_10"
        )
    snr = float(ratio) + 0.0  # no minus zero
    if not _SNR[0] <= snr <= _SNR[1]:
        raise UserError(
            f"condition {name!r}: a signal-to-noise ratio lies between {_SNR[0]:g} and "
            f"{_SNR[1]:g} dB, not at {snr:g}"
        )
    return Condition(kind, snr)


def generator(seed: int, condition: Condition, utterance: str) -> np.random.Generator:
    """The random generator of one utterance in one condition."""
    digest = hashlib.sha256(f"{seed} {condition.name} {utterance}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def mix_condition(
    source: Path,
    target: Path,
    condition: Condition,
    *,
    seed: int = 1,
    nj: int = 1,
    noise_dir: Path | None = None,
    rir_dir: Path | None = None,
    talkers_of: Path | None = None,
) -> Mixed:
    """Write `target`: the set `source` under a condition, every utterance as long as it was.

    All tables are those of `source`; wav.scp names new FLAC files, which lie in target/data as they
    lie in source/data. mixes.tsv says for each utterance what it was mixed with (file, talkers or
    room), the gain of that in dB, and the scale of the whole mix (below 1 where it would have
    reached full scale). The result is the same, byte for byte, whatever `nj`.

    Args:
        source: a formatted set (see `format_audio`), whole; its tables are held in memory.
        target: another folder; an older one is replaced.
        condition: not clean, which is `source` itself.
        seed: another seed draws other noises, places, rooms and talkers.
        nj: utterances at a time.
        noise_dir: noises (MUSAN or any folder of audio) for `noise`; generated without: stationary
            with the spectrum of speech.
        rir_dir: room impulse responses (RIRS_NOISES or any folder of audio) for `reverb`; simulated
            without, see `rooms.simulated`.
        talkers_of: another formatted set, whose speakers talk in the `babble` of a set that has but
            one of its own.

    Raises:
        UserError: no audio in noise_dir or rir_dir, or none that can be used; babble without other
            speakers; audio of the set cannot be read.
    """
    audio, speakers = read_table(source / "wav.scp"), read_table(source / "utt2spk")
    sound = _sound(condition, source, audio, speakers, noise_dir, rir_dir, talkers_of)
    rows = (_Row(utterance, path, speakers[utterance]) for utterance, path in audio.items())
    scaled, silent, smallest = 0, 0, 1.0
    unusable: set[str] = set()
    with (
        atomic_dir(target) as work,
        open(work / "wav.scp", "w", encoding="utf-8", newline="\n") as wav,
        open(work / MIXES, "w", encoding="utf-8", newline="\n") as mixes,
        Progress(f"{target.name}: mixing", len(audio)) as progress,
        muted_stderr(),
    ):
        mixes.write(HEADER)
        for folder in {_place(path).parent for path in audio.values()}:
            (work / folder).mkdir(parents=True, exist_ok=True)
        task = partial(_mix_batch, sound, condition, seed, work)
        for results in ordered_map(task, in_batches(rows, _BATCH), nj):
            for row, mix in results:
                wav.write(f"{row.utterance} {target.absolute() / _place(row.path)}\n")
                fields = (row.utterance, mix.source, f"{mix.gain:.4f}", f"{mix.scale:.6f}")
                mixes.write("\t".join(" ".join(field.split()) for field in fields) + "\n")
                scaled += mix.scale < 1
                smallest = min(smallest, mix.scale)
                silent += not mix.source
                unusable.update(mix.unusable)
            progress.advance(len(results))
        for name in (*utterance_tables(source), "spk2utt", "category2utt"):
            if (source / name).exists():
                shutil.copyfile(source / name, work / name)
    return Mixed(len(audio), scaled, smallest, silent, tuple(sorted(unusable)))


def read_mixes(folder: Path) -> dict[str, dict[str, str]]:
    """mixes.tsv of a set: utterance -> {"with", "gain_db", "scale"}."""
    with open(folder / MIXES, encoding="utf-8", newline="\n") as handle:
        names = next(handle).rstrip("\n").split("\t")[1:]
        rows = (line.rstrip("\n").split("\t") for line in handle)
        return {utterance: dict(zip(names, values)) for utterance, *values in rows}


Sound = Callable[[np.ndarray, int, str, np.random.Generator], tuple[np.ndarray, str]]
"""(speech (N,), rate in Hz, its speaker, generator) -> what else is heard (N,), and what it is:
the interference without the speech, or the speech in a room."""


def _sound(
    condition: Condition,
    source: Path,
    audio: dict[str, str],
    speakers: dict[str, str],
    noise_dir: Path | None,
    rir_dir: Path | None,
    talkers_of: Path | None,
) -> Sound:
    if condition.kind == "babble":
        if talkers_of and len(set(speakers.values())) == 1:
            audio = read_table(talkers_of / "wav.scp") | audio
            speakers = read_table(talkers_of / "utt2spk") | speakers
        talkers = noise.Talkers(audio, speakers, source)
        return lambda speech, fs, speaker, rng: talkers.draw(speaker, len(speech), fs, rng)
    if condition.kind == "reverb":
        room = rooms.measured(rooms.room_files(rir_dir)) if rir_dir else rooms.simulated
        return partial(_in_room, room)
    draw = noise.from_files(noise.noise_files(noise_dir)) if noise_dir else noise.speech_shaped
    return lambda speech, fs, speaker, rng: draw(len(speech), fs, rng)


def _in_room(
    room: rooms.Room, speech: np.ndarray, fs: int, speaker: str, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    response, direct, said = room(fs, rng)
    return rooms.reverberate(speech, response, direct), said


def _place(path: str) -> Path:
    """Where an audio file lies in its set: data/format.NN/<utterance>.flac."""
    return Path("data", *Path(path).parts[-2:])


def _mix_batch(
    sound: Sound, condition: Condition, seed: int, work: Path, rows: Iterable[_Row]
) -> list[tuple[_Row, _Mix]]:
    results = []
    for row in rows:
        try:
            speech, fs = noise.read(Path(row.path))
        except BadAudio as error:
            raise UserError(
                f"{error}: utterance {row.utterance}; format the set again (stage 3)"
            ) from None
        mixed, mix = speech, _Mix()
        active = active_samples(speech, fs)
        if active.any():
            rng = generator(seed, condition, row.utterance)
            mixed, mix = _mix(speech, active, fs, row.speaker, condition, sound, rng)
        steps = np.rint(mixed * 32768).astype(np.int16)
        soundfile.write(work / _place(row.path), steps, fs, format="FLAC", subtype="PCM_16")
        results.append((row, mix))
    return results


def _mix(
    speech: np.ndarray,
    active: np.ndarray,
    fs: int,
    speaker: str,
    condition: Condition,
    sound: Sound,
    rng: np.random.Generator,
) -> tuple[np.ndarray, _Mix]:
    """The speech under the condition, below full scale."""
    unusable: list[str] = []
    while len(unusable) < _DRAWS:
        try:
            heard, said = sound(speech, fs, speaker, rng)
        except BadAudio as error:
            unusable.append(str(error))
            continue
        power = np.mean(heard[active] ** 2)
        if power > _least_power(condition, heard, fs):
            break
        unusable.append(f"{'nearly ' * bool(power)}silent where it is needed: {said}")
    else:
        raise UserError(
            f"{condition.name}: {_DRAWS} draws in a row cannot be used, the last because of "
            f"{unusable[-1]}; take such files away"
        )
    gain = math.sqrt(np.mean(speech[active] ** 2) / power / 10 ** ((condition.snr or 0) / 10))
    mixed = gain * heard if condition.kind == "reverb" else speech + gain * heard
    scale = min(1.0, float(_FULL_SCALE / np.max(np.abs(mixed))))
    return scale * mixed, _Mix(said, 20 * math.log10(gain), scale, tuple(unusable))


def _least_power(condition: Condition, heard: np.ndarray, fs: int) -> float:
    """What is heard beside the speech has more power than this where the speech is, or is not used.

    Speech in a room is as loud as the speech was, however soft that is.
    """
    if condition.kind == "reverb":
        return 0.0
    heard_at_all = frame_powers(heard, fs)[0].max() * 10 ** (-_QUIET / 10)
    return max(heard_at_all, _ROUNDING) if condition.kind == "noise" else heard_at_all
