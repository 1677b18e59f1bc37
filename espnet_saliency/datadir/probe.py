"""What an audio file says of itself, and what may be wrong with it."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

import soundfile


class AudioInfo(NamedTuple):
    """The header of an audio file."""

    fs: int
    """Sampling rate, in Hz."""
    frames: int
    """Samples in each channel."""
    channels: int

    @property
    def seconds(self) -> float:
        """Duration, in s."""
        return self.frames / self.fs


class BadAudio(Exception):
    """An audio file that cannot be used; the text is a reason for rejected.tsv."""


# Where the size of the samples in a header disagrees with the file's, libsndfile goes by the file
# and only tells its log: "data : 160000 (should be 79978)"; "SSND" is AIFF's, "Data Size" AU's,
# "riff" W64's name for it.
_SIZES = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.M)
# Sizes from here on are placeholders that programs leave which write into a pipe.
_PLACEHOLDER = 0x7FFF0000
# FLAC, MP3 and Ogg have no such line; for them getting the log would be time lost.
_SIZED = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU"}
# The most bytes of one sample: less is missing where only the padding is.
_SAMPLE_BYTES = 8


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file in any format that libsndfile knows.

    A file of PCM samples (WAV, AIFF, AU, W64) that was cut off is seen here. A FLAC or MP3 file
    that was cut off shows when its samples are read; an Ogg file, or an MP3 file without the length
    in its first frame (Xing, Info), does not say how long it was meant to be.

    Raises:
        BadAudio: the file is missing, empty, no audio, without samples, or cut off.
    """
    with open_audio(path) as audio:
        info = AudioInfo(audio.samplerate, audio.frames, audio.channels)
        log = audio.extra_info if audio.format in _SIZED else ""
    for match in _SIZES.finditer(log):
        said, there = int(match[1]), int(match[2])
        if said < _PLACEHOLDER and said - there > _SAMPLE_BYTES * info.channels:
            raise BadAudio(f"truncated: {path} has {there} bytes of {said}")
    if info.frames <= 0:
        raise BadAudio(f"no samples: {path}")
    return info


def open_audio(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    """Open an audio file for reading.

    Raises:
        BadAudio: the file is missing, empty or no audio.
    """
    try:
        return soundfile.SoundFile(path)
    except soundfile.LibsndfileError:
        # libsndfile's own words depend on the order of opening where several threads do it.
        raise BadAudio(_why_not_opened(path)) from None


def _why_not_opened(path: str | os.PathLike[str]) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return f"file missing: {path}"
    if not stat.S_ISREG(status.st_mode):
        return f"not a file: {path}"
    if not os.access(path, os.R_OK):
        return f"file not readable: {path}"
    if status.st_size == 0:
        return f"file of zero bytes: {path}"
    return f"not audio: {path}"
