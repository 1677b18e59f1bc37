"""What ESPnet's cls task needs to train on a dump folder: labels, classes, lengths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from espnet_saliency.datadir.kaldi import UNKNOWN, read_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file

UNK = "<unk>"
"""Last line of the token list; ESPnet asks for it, and it is no class."""


@dataclass(frozen=True)
class TrainingData:
    """Files of one classifier's training, as `write_training_data` leaves them."""

    accents: tuple[str, ...]
    """Classes, in order."""
    left_out: Mapping[str, str]
    """Utterances that neither train nor validate, with the reason."""


def write_training_data(train: Path, valid: Path, folder: Path) -> TrainingData:
    """Write labels, classes and lengths for ESPnet's cls task.

    In `folder`: token_list, left_out.tsv, and train/ and valid/ with wav.scp, label, speech_shape
    (samples), and category2utt, which ESPnet's class-balanced batches are made from. Utterances
    whose accent is unknown, and validation utterances of an accent that training does not have, are
    left out.

    Args:
        train, valid: dump folders with wav.scp, utt2accent and utt2num_samples.
        folder: where the files go, e.g. exp/accent_stats.

    Raises:
        UserError: a file is missing, files disagree on the utterances, training has fewer than two
            accents, or validation has none of them.
    """
    sets = {"train": _labelled(train), "valid": _labelled(valid)}
    accents = sorted({accent for _, accent, _ in sets["train"].values() if accent != UNKNOWN})
    if len(accents) < 2:
        raise UserError(
            f"{train / 'utt2accent'}: {len(accents)} known accents; a classifier needs two or more"
        )
    left_out: dict[str, str] = {}
    for name, utterances in sets.items():
        kept = {}
        for utt_id, (path, accent, samples) in utterances.items():
            if accent == UNKNOWN:
                left_out[utt_id] = "accent unknown"
            elif accent not in accents:
                left_out[utt_id] = f"accent {accent} is not in the training set"
            else:
                kept[utt_id] = (path, accent, samples)
        if not kept:
            raise UserError(f"{valid / 'utt2accent'}: none of the training set's accents is in it")
        _write(folder / name, kept)
    with atomic_file(folder / "token_list") as handle:
        handle.writelines(f"{accent}\n" for accent in [*accents, UNK])
    with atomic_file(folder / "left_out.tsv") as handle:
        handle.write("utt_id\treason\n")
        handle.writelines(f"{utt_id}\t{reason}\n" for utt_id, reason in left_out.items())
    return TrainingData(tuple(accents), left_out)


def training_arguments(folder: Path) -> tuple[str, ...]:
    """Options of espnet2.bin.cls_train that name the files of `write_training_data`."""
    arguments = ["--token_list", str(folder / "token_list"), "--token_type", "word"]
    for name in ("train", "valid"):
        here = folder / name
        arguments += [f"--{name}_data_path_and_name_and_type", f"{here / 'wav.scp'},speech,sound"]
        arguments += [f"--{name}_data_path_and_name_and_type", f"{here / 'label'},label,text"]
        arguments += [f"--{name}_shape_file", str(here / "speech_shape")]
    return tuple(arguments)


def _labelled(folder: Path) -> dict[str, tuple[str, str, str]]:
    tables = [read_table(folder / name) for name in ("wav.scp", "utt2accent", "utt2num_samples")]
    wav, accent, samples = tables
    for name, table in (("utt2accent", accent), ("utt2num_samples", samples)):
        if table.keys() != wav.keys():
            odd = min(table.keys() ^ wav.keys())
            raise UserError(
                f"{folder}: wav.scp and {name} disagree on {odd}; format the audio again"
            )
    for utt_id, value in accent.items():
        # A class of ESPnet's cls task is one token, and blanks divide tokens.
        if len(value.split()) != 1:
            raise UserError(f"{folder / 'utt2accent'}: {utt_id}: accent '{value}' must be one word")
    return {utt_id: (wav[utt_id], accent[utt_id], samples[utt_id]) for utt_id in sorted(wav)}


def _write(folder: Path, utterances: Mapping[str, tuple[str, str, str]]) -> None:
    by_accent: dict[str, list[str]] = {}
    for utt_id, (_, accent, _) in utterances.items():
        by_accent.setdefault(accent, []).append(utt_id)
    columns = {"wav.scp": 0, "label": 1, "speech_shape": 2}
    for name, column in columns.items():
        with atomic_file(folder / name) as handle:
            handle.writelines(f"{utt_id} {row[column]}\n" for utt_id, row in utterances.items())
    with atomic_file(folder / "category2utt") as handle:
        handle.writelines(f"{a} {' '.join(by_accent[a])}\n" for a in sorted(by_accent))
