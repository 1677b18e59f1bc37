"""Utterances of known accent from a dump folder, as batches of log-mel features."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, NamedTuple

import soundfile
import torch
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError

BATCH_SECONDS = 60.0
"""Audio in a batch, padding included."""


class Labelled(NamedTuple):
    """One utterance whose accent the classifier knows."""

    utt_id: str
    speaker: str
    accent: int
    """Index into the classifier's accents."""
    path: str
    samples: int


class Batch(NamedTuple):
    """Utterances of similar length."""

    utterances: list[Labelled]
    feats: Tensor
    """(B, T, F), log-mel, not normalised."""
    lengths: Tensor
    """(B,), valid frames."""
    accents: Tensor
    """(B,), true accents."""


def read_labelled(
    data: Path, classifier: AccentClassifier, limit: int | None = None
) -> tuple[list[Labelled], int]:
    """Utterances of a dump folder whose accent is one of the classifier's.

    Args:
        data: dump folder with wav.scp, utt2spk, utt2accent and utt2num_samples.
        classifier: whose accents count.
        limit: at most this many, evenly spaced over the utterances in order of id.

    Returns:
        the utterances in order of id, and how many were left out for another or no accent.

    Raises:
        UserError: a file is missing, files disagree, or no utterance has an accent that is known.
    """
    names = ("wav.scp", "utt2spk", "utt2accent", "utt2num_samples")
    wav, speakers, accents, samples = (read_table(data / name) for name in names)
    index = {accent: number for number, accent in enumerate(classifier.accents)}
    found = []
    for utt_id in sorted(wav):
        for name, table in zip(names[1:], (speakers, accents, samples)):
            if utt_id not in table:
                raise UserError(f"{data / name}: {utt_id} of wav.scp is missing; redo stage 3")
        number = index.get(accents[utt_id])
        if number is not None:
            length = int(samples[utt_id])
            found.append(Labelled(utt_id, speakers[utt_id], number, wav[utt_id], length))
    if not found:
        raise UserError(
            f"{data / 'utt2accent'}: none of its accents is one of the classifier's "
            f"({', '.join(classifier.accents)})"
        )
    left_out = len(wav) - len(found)
    if limit is not None and len(found) > limit:
        found = [found[number * len(found) // limit] for number in range(limit)]
    return found, left_out


def has_accent_of(data: Path, classifier: AccentClassifier) -> bool:
    """Whether a dump folder has an utterance whose accent is one of the classifier's."""
    table = data / "utt2accent"
    return table.exists() and not set(classifier.accents).isdisjoint(read_table(table).values())


def batches(
    utterances: list[Labelled], classifier: AccentClassifier, device: str = "cpu"
) -> Iterator[Batch]:
    """Features of `utterances`, by length and id, on `device`.

    Raises:
        UserError: an audio file cannot be read or has another rate than the classifier's.
    """
    fs = classifier.features.fs
    pending: list[Labelled] = []
    for utterance in sorted(utterances, key=lambda one: (one.samples, one.utt_id)):
        if pending and (len(pending) + 1) * utterance.samples > BATCH_SECONDS * fs:
            yield _batch(pending, classifier, device)
            pending = []
        pending.append(utterance)
    if pending:
        yield _batch(pending, classifier, device)


def _batch(utterances: list[Labelled], classifier: AccentClassifier, device: str) -> Batch:
    waves = [read_audio(one.path, classifier.features.fs) for one in utterances]
    feats, lengths = log_mel(classifier, waves, device)
    accents = torch.tensor([one.accent for one in utterances], device=device)
    return Batch(utterances, feats, lengths, accents)


def log_mel(
    classifier: AccentClassifier, waves: list[Tensor], device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Audio (samples,) each -> log-mel features (B, T, F) as the classifier hears them, lengths."""
    lengths = torch.tensor([len(wave) for wave in waves])
    speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    # The transform reflects half a window at each end, and so takes no audio shorter than that.
    missing = max(0, classifier.features.n_fft - speech.size(1))
    speech = torch.nn.functional.pad(speech, (0, missing))
    with torch.no_grad():
        return classifier.frontend(speech.to(device), lengths.to(device))


def read_audio(path: str | Path, fs: int) -> Tensor:
    """The first channel of an audio file, (samples,), float32.

    Raises:
        UserError: not readable, empty, of NaN samples, or not at `fs` Hz.
    """
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(f"{path}: not readable as audio") from error
    wave = torch.from_numpy(audio[:, 0].copy())
    if rate != fs:
        raise UserError(f"{path}: {rate} Hz, but the classifier hears {fs} Hz; convert the file")
    if not len(wave) or not torch.isfinite(wave).all():
        raise UserError(f"{path}: no samples in it, or samples that are no numbers (NaN)")
    return wave
