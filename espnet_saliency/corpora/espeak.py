"""Speak texts with espeak-ng into FLAC files: a program of its own, for corpora that are generated.

    python -m espnet_saliency.corpora.espeak < jobs.jsonl

A line of jobs.jsonl is {"path", "voice", "text", "rate", "pitch", "range", "noise_seed"}: where
the FLAC file goes, espeak-ng's name of a voice with its variant ("en-us+m3"), words a minute, base
pitch and its range from 0 to 100 (50 is the voice's own), and the seed of the noise that is added.
After each file its number of samples goes to standard output, a line.

espeak-ng is GPL-3.0-or-later and comes with the optional package espeakng-loader, which is imported
here alone; the rest of this package runs this program as a process and reads the audio that it
writes.

espeak-ng draws random numbers as it speaks: the same text sounds different the second time. A
fresh process that speaks the same jobs in the same order writes the same bytes.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Iterable

# Of espeak-ng's speak_lib.h.
_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)

# Of 100. At 100 the louder voices reach the largest sample value and are cut there.
VOLUME = 60
# Standard deviation of white noise, in steps of 16 bit: some 45 dB below the speech. Without it the
# silence before a plosive is all zeros, whose logarithm is far from anything in a recording.
NOISE = 10.0


class Synthesiser:
    """The one espeak-ng of this process.

    Raises:
        RuntimeError: the library does not start.
    """

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        """Hz."""
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng does not start: its data was not found")
        self._samples = bytearray()
        # ctypes keeps no reference to a callback: without this one it would be collected.
        self._callback = _CALLBACK(self._take)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_SetParameter(_VOLUME, VOLUME, 0)
        self._voice = ""

    def _take(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._samples += ctypes.string_at(samples, 2 * count)
        return 0

    def speak(self, voice: str, text: str, rate: int, pitch: int, range_: int) -> bytes:
        """Samples, 16 bit, of a text.

        Raises:
            RuntimeError: there is no such voice, or nothing was spoken.
        """
        if voice != self._voice and self._library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        self._voice = voice
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, range_)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        encoded = text.encode() + b"\0"
        failed = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, 0, 0, _CHARS_UTF8, None, None
        )
        if failed or not self._samples:
            raise RuntimeError(f"espeak-ng says nothing for {text!r} with the voice {voice!r}")
        return bytes(self._samples)


def main(lines: Iterable[str]) -> None:
    """Do the jobs that `lines` describe, in their order."""
    import numpy as np
    import soundfile

    # All of them before the first is done: whoever writes them need not read our output meanwhile.
    jobs = [json.loads(line) for line in lines]
    synthesiser = Synthesiser()
    for job in jobs:
        speech = np.frombuffer(
            synthesiser.speak(job["voice"], job["text"], job["rate"], job["pitch"], job["range"]),
            dtype=np.int16,
        )
        noise = np.random.default_rng(job["noise_seed"]).normal(scale=NOISE, size=len(speech))
        samples = np.clip(speech + np.rint(noise), -32768, 32767).astype(np.int16)
        soundfile.write(job["path"], samples, synthesiser.sample_rate, format="FLAC")
        print(len(samples), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
