"""Real audio files and small data directories for these tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_saliency.corpora.utterance import Utterance
from espnet_saliency.datadir.prepare import write_data_dir
from espnet_saliency.datadir.rejection import RejectionLog


def sine(hz: float, seconds: float, fs: int) -> np.ndarray:
    """A tone of amplitude 0.5."""
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * fs)) / fs)


@pytest.fixture
def tone():
    """tone(path, …): write a tone and return the path; channel c has hz * (c + 1)."""

    def write(path, seconds=1.0, fs=16000, hz=440.0, channels=1, **options) -> Path:
        samples = np.stack([sine(hz * (c + 1), seconds, fs) for c in range(channels)], axis=1)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, fs, **options)
        return Path(path)

    return write


@pytest.fixture
def utterance():
    """utterance(path, utt_id="ann-1", speaker="ann", …) with the rest filled in."""

    def make(path, utt_id="ann-1", speaker=None, accent="scottish", text="hello", **more):
        speaker = speaker or utt_id.split("-")[0]
        return Utterance(utt_id, speaker, accent, text, Path(path), **more)

    return make


@pytest.fixture
def prepare(tmp_path):
    """prepare(utterances, name="train", nj=1) -> (folder, counts, log) of a data directory."""

    def write(utterances, name="train", nj=1):
        with RejectionLog(tmp_path / "data" / f"{name}.rejected.tsv") as log:
            counts = write_data_dir(tmp_path / "data" / name, utterances, log, nj)
        return tmp_path / "data" / name, counts, log

    return write
