"""Groups of utterances besides accents: speaker, length, and any column of the data (gender, …)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from espnet_saliency.datadir.kaldi import UNKNOWN, read_table
from espnet_saliency.errors import UserError
from espnet_saliency.scoring import significance
from espnet_saliency.scoring.error_rates import Scores, members_of
from espnet_saliency.scoring.normalize import collapse_blanks

LENGTHS = (1, 3, 6, 11, 21)
"""Least reference words of the classes of length."""

LENGTH = "length"
"""The column of the classes of length; no column of the data may have its name."""

MOST_VALUES = 50
"""A column with more values than this is no grouping (free text, ids) and is left out, and named."""

NO_COLUMNS = {"spk", "accent", "dur", "num_samples", "channel", "speed"}
"""utt2… tables that are measures, or groups in their own right."""


def read_columns(data_dir: Path, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Column -> utterance -> value, of the utt2<column> tables in a data directory.

    "" stands for a value that is not known.

    Raises:
        UserError: a table lacks an utterance.
    """
    columns = {}
    for path in sorted(Path(data_dir).glob("utt2*")):
        name = path.name.removeprefix("utt2")
        if name in NO_COLUMNS:
            continue
        table = read_table(path)
        missing = [i for i in ids if i not in table]
        if missing:
            raise UserError(
                f"{path}: {len(missing)} utterances of text are missing, the first {min(missing)}: "
                "add them, or remove the table"
            )
        columns[name] = {i: "" if table[i] == UNKNOWN else collapse_blanks(table[i]) for i in ids}
    return columns


def length_class(words: int) -> str:
    """The class of a reference of so many words: "1-2", "3-5", …, "21+"; "0" for an empty one."""
    if words < LENGTHS[0]:
        return "0"
    place = max(i for i, least in enumerate(LENGTHS) if words >= least)
    if place == len(LENGTHS) - 1:
        return f"{LENGTHS[place]}+"
    return f"{LENGTHS[place]}-{LENGTHS[place + 1] - 1}"


def groupings(scores: Scores) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Column -> value -> indices of its utterances; and the columns that were left out.

    Length comes first, then the columns of the data that have more than one value, then speakers.
    """
    words = [len(reference.split()) for reference in scores.references]
    classes = members_of([length_class(n) for n in words])
    shortest_first = sorted(classes, key=lambda c: int(c.split("-")[0].rstrip("+")))
    found = {LENGTH: {c: classes[c] for c in shortest_first}}
    left_out = []
    for name, values in scores.columns.items():
        members = members_of(values)
        if len(members) > MOST_VALUES:
            left_out.append(name)
        elif len(members) > 1:
            found[name] = members
    found["speaker"] = members_of(scores.speakers)
    return found, left_out


def rates_by_column(
    scores: Mapping[str, Sequence[Scores]], draws: int, seed: int, level: float
) -> dict[str, Any]:
    """Rates of every group of every column, for each arm.

    Args:
        scores: arm -> its scores, one a seed; the baseline first.
        draws, seed, level: of the intervals (bootstrap over speakers).

    Returns:
        {"columns": {column: {value: {"utterances", "speakers", "words", "arms": {arm: {"rate",
        "low", "high", "relative": change against the baseline in percent}}}}}, "left_out": columns
        with more than MOST_VALUES values}. A single speaker has no interval (None).
    """
    one = next(iter(scores.values()))[0]
    found, left_out = groupings(one)
    errors = np.stack([np.stack([s.errors for s in mine], -1) for mine in scores.values()], 1)
    columns: dict[str, Any] = {}
    for column, groups in found.items():
        columns[column] = {}
        for value, members in groups.items():
            flat = errors[members].reshape(len(members), -1)
            sums = significance.cluster_sums(
                [one.speakers[i] for i in members], np.column_stack([flat, one.words[members]])
            )
            by_speaker, words = sums[:, :-1].reshape(len(sums), *errors.shape[1:]), sums[:, -1]
            total = int(words.sum())
            drawn = significance.bootstrap_rates(
                by_speaker, words, draws if len(words) > 1 else 0, seed
            )
            rates = by_speaker.sum(axis=0).mean(axis=-1) * 100.0 / total if total else None
            arms = {}
            for place, arm in enumerate(scores):
                low, high = significance.interval(drawn[:, place], level)
                rate = None if rates is None else float(rates[place])
                base = None if rates is None else float(rates[0])
                relative = 100.0 * (rate - base) / base if base else None
                arms[arm] = {"rate": rate, "low": low, "high": high, "relative": relative}
            columns[column][value] = {
                "utterances": len(members),
                "speakers": len(words),
                "words": total,
                "arms": arms,
            }
    return {"columns": columns, "left_out": left_out}
