"""Stage 4: training and validation sets without what a training chokes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from espnet_saliency.corpora.utterance import Rejection
from espnet_saliency.datadir.kaldi import (
    copy_kept,
    iter_table,
    utterance_tables,
    write_category2utt,
    write_spk2utt,
)
from espnet_saliency.datadir.rejection import RejectionLog
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir

STAGE = "filter"


@dataclass(frozen=True)
class Filtered:
    """How many utterances went on, and what did not."""

    kept: int
    rejected: int
    why: str
    """The commonest reasons with their counts, "" where nothing was rejected."""


def filter_data_dir(source: Path, target: Path, min_seconds: float, max_seconds: float) -> Filtered:
    """Write `target`: the utterances of `source` with a text and a duration within the limits.

    The audio stays where `source` has it. Each utterance left out is listed in target/rejected.tsv.
    For sets that are trained on or validated with: a test set is never filtered.

    Args:
        source: a formatted set, e.g. dump/raw/org/<set>, with wav.scp by utterance and utt2dur.
        target: another folder, e.g. dump/raw/<set>; an older one is replaced.
        min_seconds: shortest duration that stays, in s.
        max_seconds: longest duration that stays, in s.

    Raises:
        UserError: the limits leave no room, or no utterance is left.
    """
    if not 0 <= min_seconds < max_seconds:
        raise UserError(
            f"--min_wav_duration {min_seconds:g} and --max_wav_duration {max_seconds:g}: the first "
            "must lie below the second, and not below 0"
        )
    kept = 0
    with atomic_dir(target) as temporary:
        with (
            RejectionLog(temporary / "rejected.tsv") as log,
            open(temporary / "utt2dur", "w", encoding="utf-8", newline="\n") as durations,
        ):
            tables = zip(iter_table(source / "utt2dur"), iter_table(source / "text"), strict=True)
            for (utterance, seconds), (_, text) in tables:
                reason = _why_not(float(seconds), text, min_seconds, max_seconds)
                if reason:
                    log.add(Rejection(utterance, STAGE, reason))
                else:
                    durations.write(f"{utterance} {seconds}\n")
                    kept += 1
        if not kept:
            raise UserError(
                f"{source}: none of {log.count} utterances is left: {log.commonest()}; change "
                "--min_wav_duration or --max_wav_duration"
            )
        for name in ["wav.scp", *utterance_tables(source)]:
            if name != "utt2dur":
                copy_kept(source / name, temporary / name, temporary / "utt2dur")
        write_spk2utt(temporary, target)
        write_category2utt(temporary)
    return Filtered(kept, log.count, log.commonest())


def _why_not(seconds: float, text: str, min_seconds: float, max_seconds: float) -> str | None:
    if not text:
        return "empty text"
    if seconds < min_seconds:
        return f"too short: {seconds:g} s, --min_wav_duration {min_seconds:g}"
    if seconds > max_seconds:
        return f"too long: {seconds:g} s, --max_wav_duration {max_seconds:g}"
    return None
