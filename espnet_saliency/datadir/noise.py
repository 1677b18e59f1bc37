"""Noises and competing talkers that are added to speech: from a user's folder, or generated.

A source is a function of a number of samples, a sampling rate in Hz and a random generator; it
returns that many samples and says in a word or two what they are. Same generator, same samples.
"""

from __future__ import annotations

import bisect
import os
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

import numpy as np
import soundfile
import soxr

from espnet_saliency.datadir.activity import active_samples
from espnet_saliency.datadir.probe import BadAudio, open_audio
from espnet_saliency.errors import UserError

Source = Callable[[int, int, np.random.Generator], tuple[np.ndarray, str]]
"""(samples, rate in Hz, generator) -> (signal (samples,), what it is). May raise BadAudio."""

TALKERS = 3
"""Talkers of the babble, fewer where the set has fewer other speakers."""

AUDIO = (".flac", ".mp3", ".ogg", ".opus", ".wav")
"""What the names of audio files end in."""

# Floating-point files may hold more than full scale, but a thousand times the 16 bit range is no audio.
_LOUDEST = 3e7

# Byrne et al. (1994), "An international comparison of long-term average speech spectra", J. Acoust.
# Soc. Am. 96(4), Table II, both sexes: levels of third-octave bands, in dB.
_BANDS = {
    63: 38.6, 80: 43.5, 100: 54.4, 125: 57.7, 160: 56.8, 200: 60.2, 250: 60.3, 315: 59.0,
    400: 62.1, 500: 62.1, 630: 60.5, 800: 56.8, 1000: 53.7, 1250: 53.0, 1600: 52.0, 2000: 48.7,
    2500: 48.1, 3150: 46.8, 4000: 45.6, 5000: 44.5, 6300: 44.3, 8000: 43.7, 10000: 43.4,
    12500: 41.3, 16000: 40.7,
}  # fmt: skip


def noise_files(folder: Path) -> list[Path]:
    """Audio files of noise: those of MUSAN or RIRS_NOISES where `folder` is one, else all in it.

    MUSAN's music and speech are left out: the one is no noise, the other is what `babble` is for. So
    are the room impulse responses of RIRS_NOISES.

    Raises:
        UserError: there is none.
    """
    if rirs := rirs_noises(folder):
        return audio_files(rirs, "--noise_dir", is_noise_of_rirs)
    for musan in (folder / "musan", folder):
        if (musan / "noise").is_dir() and any((musan / part).is_dir() for part in ("music", "speech")):
            return audio_files(musan / "noise", "--noise_dir")
    return audio_files(folder, "--noise_dir")


def rirs_noises(folder: Path) -> Path | None:
    """`folder`, or the folder RIRS_NOISES in it, where it is laid out as RIRS_NOISES is."""
    parts = ("pointsource_noises", "real_rirs_isotropic_noises", "simulated_rirs")
    places = (folder / "RIRS_NOISES", folder)
    return next((one for one in places if any((one / part).is_dir() for part in parts)), None)


def is_noise_of_rirs(path: Path) -> bool:
    """Whether a file of RIRS_NOISES is a noise: beside its rooms there are point-source noises, and
    isotropic ones, which have "noise" in their names."""
    return "pointsource_noises" in path.parts or "noise" in path.name.lower()


def audio_files(
    folder: Path, option: str, wanted: Callable[[Path], bool] = lambda path: True
) -> list[Path]:
    """Audio files below `folder` whose path in it is `wanted`, in an order that is always the same.

    Args:
        folder: searched with its sub-folders, links to folders too.
        option: the option that named it, for messages.
        wanted: says of a path relative to `folder` whether it counts.

    Raises:
        UserError: there is no such folder, or no such file in it, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder; name one or leave it out")
    names = (path.relative_to(folder) for path in _files(folder))
    found = sorted(p.as_posix() for p in names if p.suffix.lower() in AUDIO and wanted(p))
    if not found:
        raise UserError(
            f"{option} {folder}: no audio in it ({', '.join(AUDIO)}); name another folder, or "
            "leave the option out and it is generated"
        )
    if strange := [name for name in found if not _is_utf8(name)]:
        raise UserError(
            f"{option} {folder}: {len(strange)} names of files are not UTF-8, the first is "
            f"{ascii(strange[0])}; rename them"
        )
    return [folder / name for name in found]


def _files(folder: Path) -> Iterator[Path]:
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would have no end.
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_files(files: Sequence[Path]) -> Source:
    """A random place of a random file; a file that is too short is repeated."""

    def draw(samples: int, fs: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        path = files[rng.integers(len(files))]
        return _section(path, samples, fs, rng), str(path)

    return draw


def speech_shaped(samples: int, fs: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Stationary noise with the long-term average spectrum of speech (Byrne et al., 1994).

    Between the centres of the third-octave bands the spectrum is straight in dB over log-frequency,
    below 63 Hz there is nothing. RMS near 1.
    """
    centres = np.array(list(_BANDS), dtype=float)
    # The level of a band is spread over its width.
    widths = centres * (2 ** (1 / 6) - 2 ** (-1 / 6))
    density = np.array(list(_BANDS.values())) - 10 * np.log10(widths)
    # Two seconds at least: of a short utterance the lowest bands would be missing.
    length = max(samples, 2 * fs)
    hz = np.fft.rfftfreq(length, 1 / fs)
    heard = hz >= centres[0]
    gain = np.zeros(len(hz))
    gain[heard] = 10 ** (np.interp(np.log(hz[heard]), np.log(centres), density) / 20)
    gain *= np.sqrt(len(hz) / np.sum(gain**2))
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * gain, length)
    return noise[:samples], "speech-shaped"


class Talkers:
    """Utterances of a set by speaker, for babble; grows with the set.

    Args:
        audio: utterance -> its audio file.
        speakers: utterance -> its speaker.
        where: the folder to name in an error.

    Raises:
        UserError: there is but one speaker.
    """

    def __init__(self, audio: Mapping[str, str], speakers: Mapping[str, str], where: Path):
        self._audio = audio
        self._utterances: dict[str, list[str]] = {}
        for utterance in sorted(audio):
            self._utterances.setdefault(speakers[utterance], []).append(utterance)
        self._speakers = sorted(self._utterances)
        if len(self._speakers) < 2:
            raise UserError(
                f"{where}: babble needs other speakers, and all utterances are of "
                f"{' '.join(self._speakers)}; leave babble out of --conditions"
            )

    def draw(
        self, speaker: str, samples: int, fs: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, str]:
        """Babble of other speakers than this one: TALKERS of them, or as many as there are.

        Each says one utterance, begun at a random place where it is speaking and repeated where it is
        too short. All have the same active level, so that a pause stays one. Digital silence is no
        talker: another speaker takes its place.

        Raises:
            BadAudio: all that were drawn are silent.
        """
        others = len(self._speakers) - 1
        own = bisect.bisect_left(self._speakers, speaker)
        total, said = np.zeros(samples), []
        for index in rng.permutation(others):
            # Places from the own one on move up by one, so that it is never hit.
            utterances = self._utterances[self._speakers[index + (index >= own)]]
            utterance = utterances[rng.integers(len(utterances))]
            voice = read_at(Path(self._audio[utterance]), fs)
            speaks = np.flatnonzero(active_samples(voice, fs))
            if not len(speaks):
                continue
            level = np.sqrt(np.mean(voice[speaks] ** 2))
            start = speaks[rng.integers(len(speaks))]
            total += np.resize(np.roll(voice, -start), samples) / level
            said.append(utterance)
            if len(said) == TALKERS:
                break
        if not said:
            raise BadAudio(f"no other speaker than {speaker} makes a sound")
        return total, " ".join(said)


def read(path: Path, start: int = 0, frames: int = -1) -> tuple[np.ndarray, int]:
    """Samples (N,) of a file's first channel, in [-1, 1], and their rate in Hz.

    Raises:
        BadAudio: the file cannot be read, or holds no samples, or samples that are no numbers.
    """
    with open_audio(path) as audio:
        try:
            audio.seek(start)
            samples = audio.read(frames, dtype="float64", always_2d=True)[:, 0]
        except soundfile.LibsndfileError:
            raise BadAudio(f"truncated or damaged: {path}") from None
        if not len(samples):
            raise BadAudio(f"no samples: {path}")
        if not np.isfinite(samples).all():
            raise BadAudio(f"samples that are no numbers: {path}")
        if (peak := np.abs(samples).max()) > _LOUDEST:
            raise BadAudio(f"samples of {peak:.3g}, where 1 is full scale: {path}")
        return samples, audio.samplerate


def read_at(path: Path, to_fs: int, start: int = 0, frames: int = -1) -> np.ndarray:
    """What `read` gives, at `to_fs` Hz.

    Raises:
        BadAudio: as `read`, or nothing is left at that rate.
    """
    samples, fs = read(path, start, frames)
    if fs != to_fs:
        samples = soxr.resample(samples, fs, to_fs, quality="HQ")
    if not len(samples):
        raise BadAudio(f"too short to be heard at {to_fs} Hz: {path}")
    return samples


def _section(path: Path, samples: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    """`samples` samples at `fs` Hz from a random place of a file."""
    with open_audio(path) as audio:
        frames, rate = audio.frames, audio.samplerate
    # One sample more than asked for: resampling may round down.
    needed = -(-samples * rate // fs) + 1
    if frames > needed:
        start = int(rng.integers(frames - needed + 1))
        return np.resize(read_at(path, fs, start, needed), samples)
    found = read_at(path, fs)
    return np.resize(np.roll(found, -int(rng.integers(len(found)))), samples)
