"""Where there is speech in a signal.

A frame of 20 ms is active where its power lies less than 15.9 dB below the active speech level,
which is the mean power of the active frames: the rule of ITU-T P.56, method B, on frames in place
of an envelope with hangover.
"""

from __future__ import annotations

import numpy as np

FRAME = 0.02
"""Length of the frames in which activity is judged, in s."""

MARGIN = 15.9
"""An active frame lies less than this below the active speech level, in dB (ITU-T P.56)."""


def frame_powers(samples: np.ndarray, fs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of each frame and its length in samples: (frames,), (frames,).

    Args:
        samples: (N,).
        fs: sampling rate, in Hz.
    """
    size = round(FRAME * fs)
    starts = np.arange(0, len(samples), size)
    lengths = np.minimum(size, len(samples) - starts)
    return np.add.reduceat(np.square(samples), starts) / lengths, lengths


def active_samples(samples: np.ndarray, fs: int) -> np.ndarray:
    """Where there is speech: bool (N,), all False for digital silence.

    The active frames are the largest set of the loudest frames whose softest one lies less than
    MARGIN below their mean power. A last frame that is not whole counts by its own mean.

    Args:
        samples: (N,).
        fs: sampling rate, in Hz.
    """
    power, lengths = frame_powers(samples, fs)
    loudest = np.sort(power)[::-1]
    levels = np.cumsum(loudest) / np.arange(1, len(loudest) + 1)
    active = (loudest > 0) & (loudest > levels * 10 ** (-MARGIN / 10))
    if not active.any():
        return np.zeros(len(samples), dtype=bool)
    threshold = loudest[np.flatnonzero(active)[-1]]
    return np.repeat(power >= threshold, lengths)
