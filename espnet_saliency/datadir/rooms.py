"""Reverberation: room impulse responses from a user's folder, or simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import numpy as np

from espnet_saliency.datadir.noise import audio_files, is_noise_of_rirs, read_at, rirs_noises
from espnet_saliency.datadir.probe import BadAudio

Room = Callable[[int, np.random.Generator], tuple[np.ndarray, int, str]]
"""(rate in Hz, generator) -> (impulse response (N,), sample of the direct sound, what it is).
May raise BadAudio."""

RT60 = (0.2, 0.8)
"""Reverberation times of simulated rooms, from and to, in s: a furnished room to a bare hall."""

VOLUME = (30.0, 300.0)
"""Their volumes, in m³."""

DISTANCE = (0.5, 3.0)
"""Distances from mouth to microphone, in m."""

LONGEST = 15.0
"""A longer recording, in s, is no room impulse response: a cathedral's lasts ten."""


def room_files(folder: Path) -> list[Path]:
    """Room impulse responses of RIRS_NOISES, or all audio files of any other folder.

    What RIRS_NOISES holds beside them, point-source and isotropic noises, is left out.

    Raises:
        UserError: there is none.
    """
    if rirs := rirs_noises(folder):
        return audio_files(rirs, "--rir_dir", lambda path: not is_noise_of_rirs(path))
    return audio_files(folder, "--rir_dir")


def measured(files: Sequence[Path]) -> Room:
    """A random one of the files (its first channel); its largest sample is the direct sound."""

    def draw(fs: int, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
        path = files[rng.integers(len(files))]
        response = read_at(path, fs)
        if not response.any():
            raise BadAudio(f"silent: {path}")
        if len(response) > LONGEST * fs:
            raise BadAudio(f"{len(response) / fs:.0f} s are no impulse response of a room: {path}")
        return response, int(np.argmax(np.abs(response))), str(path)

    return draw


def simulated(fs: int, rng: np.random.Generator) -> tuple[np.ndarray, int, str]:
    """A room after Polack's model, with RT60, volume and distance drawn evenly from their ranges.

    The energy of the direct sound against the diffuse one follows from the room: they are equal at
    the critical distance 0.057 sqrt(V / RT60) (Sabine), and the direct one falls by the square of
    the distance (Kuttruff, Room Acoustics, section 5.5).
    """
    rt60, volume, distance = (float(rng.uniform(*span)) for span in (RT60, VOLUME, DISTANCE))
    direct = 20 * np.log10(0.057 * np.sqrt(volume / rt60) / distance)
    response = polack(rt60, direct, fs, rng)
    return response, 0, f"rt60={rt60:.3f}s direct={direct:.1f}dB"


def polack(rt60: float, direct: float, fs: int, rng: np.random.Generator) -> np.ndarray:
    """A room impulse response: the direct sound, then noise that decays exponentially.

    Polack (1988), La transmission de l'énergie sonore dans les salles: Gaussian noise whose energy
    has fallen by 60 dB after RT60, so its amplitude is 10^(-3 t / RT60). Early reflections are not
    modelled one by one.

    Args:
        rt60: reverberation time, in s.
        direct: energy of the direct sound over that of all the rest, in dB.
        fs: sampling rate, in Hz.
        rng: draws the noise.

    Returns:
        (N,), 1.25 RT60 long; its first sample, 1, is the direct sound.
    """
    seconds = np.arange(1, round(1.25 * rt60 * fs)) / fs
    tail = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / rt60)
    tail *= 10 ** (-direct / 20) / np.sqrt(np.sum(tail**2))
    return np.concatenate([[1.0], tail])


def reverberate(samples: np.ndarray, response: np.ndarray, direct: int) -> np.ndarray:
    """`samples` (N,) as heard in a room: (N,), the direct sound where the speech was.

    The tail after the last sample is cut, so that the length stays.

    Args:
        samples: (N,).
        response: room impulse response (M,).
        direct: its sample that is the direct sound.
    """
    # Half a second to import: the names of the conditions are checked without it.
    from scipy.signal import oaconvolve

    return oaconvolve(samples, response)[direct : direct + len(samples)]
