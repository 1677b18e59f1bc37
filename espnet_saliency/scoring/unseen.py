"""Each accent when training had not heard it against when it had: one table by arm.

Both are scored on the same utterances, so that the difference is the training's. With several
seeds, or several runs that heard the accent, errors are means over them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.scoring import significance
from espnet_saliency.scoring.error_rates import Scores
from espnet_saliency.scoring.score_folder import OVERALL

TEST = (
    "paired randomisation test over speakers, two-sided; p_holm: Holm's correction over accents"
)

_WHOLE = 720_720  # divisible by 1 to 16


@dataclass(frozen=True)
class HeldOut:
    """One accent and arm."""

    accent: str
    arm: str
    unseen: Sequence[Scores]
    """Scores of runs that trained without the accent, one a seed."""
    seen: Sequence[Scores]
    """Scores of runs that trained with it."""


@dataclass(frozen=True)
class _Counts:
    """Sums by speaker of the utterances that all runs share."""

    speakers: tuple[str, ...]
    words: np.ndarray
    """(S,) reference words."""
    errors: np.ndarray
    """(S, 2) errors when seen and when unseen, means over runs."""
    utterances: int


def unseen_table(
    held: Sequence[HeldOut], baseline: str, draws: int = 10_000, seed: int = 1, level: float = 0.95
) -> dict[str, Any]:
    """Error rates of every accent when unseen and when seen, by arm.

    Args:
        held: one entry for each accent and arm; all arms with the same accents.
        baseline: arm that the others are compared with on unseen accents.
        draws: draws of the bootstrap, and of the randomisation test.
        seed: of both.
        level: coverage of the intervals.

    Returns:
        {"accents": [...], "arms": {arm: {group: {"utterances", "speakers", "words", "seen",
        "unseen": rates in percent, "loss": unseen minus seen in points, "low", "high", "relative",
        "p_value", "p_holm", "small", and for other arms than the baseline "change": points on the
        unseen accent against the baseline, "change_low", "change_high", "change_p",
        "change_p_holm"}}}, "baseline", "bootstrap", "test"}. Group "overall" holds all accents
        together, each unseen in its turn. None: not defined.

    Raises:
        UserError: nothing to compare, an accent without utterances that all its runs share, runs
            with other references, arms with other accents.
    """
    counts: dict[str, dict[str, _Counts]] = {}
    for one in held:
        counts.setdefault(one.arm, {})[one.accent] = _count(one)
    if baseline not in counts:
        there = ", ".join(counts) or "none"
        raise UserError(f"baseline {baseline!r} is not among the arms ({there})")
    accents = sorted(counts[baseline])
    arms: dict[str, dict[str, Any]] = {}
    for arm, found in counts.items():
        if sorted(found) != accents:
            apart = ", ".join(sorted(set(found) ^ set(accents)))
            raise UserError(f"arms {baseline} and {arm} differ in the accents left out ({apart})")
        arms[arm] = {}
        for group, parts in _groups(accents, found):
            mine = _pool(parts)
            arms[arm][group] = _row(mine, draws, seed, level)
            if arm != baseline:
                theirs = _pool([counts[baseline][accent] for accent in _members(group, accents)])
                both = f"{baseline} and {arm}"
                arms[arm][group] |= _change(mine, theirs, draws, seed, level, both)
        for p_value in ("p_value", "change_p"):
            if all(p_value in arms[arm][accent] for accent in accents):
                adjusted = significance.holm([arms[arm][accent][p_value] for accent in accents])
                name = "p_holm" if p_value == "p_value" else "change_p_holm"
                for accent, value in zip(accents, adjusted):
                    arms[arm][accent][name] = value
    return {
        "accents": accents,
        "baseline": baseline,
        "arms": arms,
        "bootstrap": {"draws": draws, "seed": seed, "unit": "speaker", "level": level},
        "test": TEST,
    }


def _members(group: str, accents: Sequence[str]) -> Sequence[str]:
    return accents if group == OVERALL else [group]


def _groups(accents: Sequence[str], found: Mapping[str, _Counts]):
    for group in (OVERALL, *accents):
        yield group, [found[accent] for accent in _members(group, accents)]


def _count(one: HeldOut) -> _Counts:
    runs = [*one.seen, *one.unseen]
    where = f"accent {one.accent}, arm {one.arm}"
    if not one.seen or not one.unseen:
        raise UserError(f"{where}: no run {'with' if one.unseen else 'without'} it")
    texts: list[dict[str, int]] = []
    for run in runs:
        rows = zip(run.ids, run.accents)
        texts.append({utt_id: i for i, (utt_id, accent) in enumerate(rows) if accent == one.accent})
    # An accent may be tested on more utterances when it is unseen.
    shared = sorted(set.intersection(*map(set, texts)))
    if not shared:
        raise UserError(f"{where}: its runs share no test utterance of it")
    for run, index in zip(runs[1:], texts[1:]):
        for utt_id in shared:
            pair = runs[0].references[texts[0][utt_id]], run.references[index[utt_id]]
            if pair[0] != pair[1]:
                raise UserError(
                    f"{where}: {utt_id} has the references {pair[0]!r} and {pair[1]!r}: "
                    "score all runs on the same data"
                )

    def errors(part: Sequence[Scores], indices: Sequence[dict[str, int]]) -> np.ndarray:
        rows = zip(part, indices)
        return np.mean([run.errors[[index[i] for i in shared]] for run, index in rows], axis=0)

    first = [texts[0][utt_id] for utt_id in shared]
    speakers = np.asarray([runs[0].speakers[i] for i in first])
    columns = np.column_stack(
        [
            runs[0].words[first],
            errors(one.seen, texts),
            errors(one.unseen, texts[len(one.seen) :]),
        ]
    )
    names, index = np.unique(speakers, return_inverse=True)
    sums = np.zeros((len(names), 3))
    np.add.at(sums, index, columns)
    return _Counts(tuple(names.tolist()), sums[:, 0], sums[:, 1:], len(shared))


def _pool(parts: Sequence[_Counts]) -> _Counts:
    return _Counts(
        tuple(speaker for part in parts for speaker in part.speakers),
        np.concatenate([part.words for part in parts]),
        np.concatenate([part.errors for part in parts]),
        sum(part.utterances for part in parts),
    )


def _compared(
    errors: np.ndarray, words: np.ndarray, draws: int, seed: int, level: float
) -> tuple[tuple[float | None, float | None], float]:
    """Interval of the second column's rate minus the first's, and the p-value."""
    # One speaker resampled is itself: an interval would pretend to be sure.
    resampled = significance.bootstrap_rates(errors, words, draws if len(words) > 1 else 0, seed)
    bounds = significance.interval(resampled[:, 1] - resampled[:, 0], level)
    # In whole numbers, so that equal sums are equal: means over up to 16 runs are exact here.
    differences = np.rint(_WHOLE * (errors[:, 1] - errors[:, 0]))
    return bounds, significance.randomisation_p(differences, draws, seed)


def _row(counts: _Counts, draws: int, seed: int, level: float) -> dict[str, Any]:
    words = counts.words.sum()
    sums = counts.errors.sum(axis=0).tolist()
    seen, unseen = (100.0 * errors / words if words else None for errors in sums)
    bounds, p_value = _compared(counts.errors, counts.words, draws, seed, level)
    loss = None if seen is None else unseen - seen
    return {
        "utterances": counts.utterances,
        "speakers": len(counts.speakers),
        "words": int(words),
        "seen": seen,
        "unseen": unseen,
        "loss": loss,
        "low": bounds[0],
        "high": bounds[1],
        "relative": 100.0 * loss / seen if seen else None,
        "p_value": p_value,
        "small": len(counts.speakers) < significance.FEW_SPEAKERS,
    }


def _change(
    mine: _Counts, theirs: _Counts, draws: int, seed: int, level: float, arms: str
) -> dict[str, Any]:
    """The arm against the baseline on the same accents, both unseen."""
    if mine.speakers != theirs.speakers or (mine.words != theirs.words).any():
        raise UserError(f"arms {arms} were scored on different utterances: decode both again")
    errors = np.column_stack([theirs.errors[:, 1], mine.errors[:, 1]])
    bounds, p_value = _compared(errors, mine.words, draws, seed, level)
    words = mine.words.sum()
    before, after = errors.sum(axis=0)
    return {
        "change": 100.0 * (after - before) / words if words else None,
        "change_low": bounds[0],
        "change_high": bounds[1],
        "change_p": p_value,
    }


Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Test set -> metric -> what `unseen_table` returned."""


def write_unseen(folder: Path, tables: Tables, seen_from: str) -> Path:
    """Write results.json, RESULTS.md and unseen_<set>.png (WER); returns RESULTS.md's path.

    Args:
        folder: e.g. exp/leave_one_out.
        tables: what to write.
        seen_from: which runs had heard the accents, for the reader.
    """
    with atomic_file(folder / "results.json") as handle:
        content = {"schema": 1, "seen_from": seen_from, "sets": tables}
        json.dump(content, handle, ensure_ascii=False, indent=1, allow_nan=False)
        handle.write("\n")
    with atomic_file(folder / "RESULTS.md") as handle:
        handle.write(_markdown(tables, seen_from))
    for name, metrics in tables.items():
        _plot(folder / f"unseen_{name}.png", metrics["wer"])
    return folder / "RESULTS.md"


def _markdown(tables: Tables, seen_from: str) -> str:
    lines = [
        "<!-- Written by the recipe: edits are lost. -->",
        "# Each accent left out of training in turn",
        "",
        "Rates in %, differences in points with their 95 % interval (bootstrap over speakers). "
        f"Seen: {seen_from}. Overall: all accents together, each unseen in its turn. p: "
        "randomisation test over speakers, for an accent with Holm's correction. * fewer than "
        f"{significance.FEW_SPEAKERS} speakers.",
    ]
    flat = [(s, m, table) for s, metrics in tables.items() for m, table in metrics.items()]
    for name, metric, table in flat:
        baseline = table["baseline"]
        for arm, rows in table["arms"].items():
            head = ["accent", "speakers", "words", "seen", "unseen", "loss", "p"]
            if arm != baseline:
                head += [f"unseen against {baseline}", "p"]
            lines += ["", f"## {name}: {metric.upper()}, {arm}", ""]
            lines += [f"|{'|'.join(head)}|", "|---" * len(head) + "|"]
            for group, row in rows.items():
                mark = "*" if row["small"] else ""
                cells = [group.replace("|", "/") + mark, str(row["speakers"]), str(row["words"])]
                cells += [_number(row["seen"]), _number(row["unseen"])]
                cells.append(_difference(row["loss"], row["low"], row["high"]))
                cells.append(_p(row, "p_holm", "p_value"))
                if arm != baseline:
                    cells.append(_difference(row["change"], row["change_low"], row["change_high"]))
                    cells.append(_p(row, "change_p_holm", "change_p"))
                lines.append(f"|{'|'.join(cells)}|")
    return "\n".join(lines) + "\n"


def _p(row: Mapping[str, Any], *names: str) -> str:
    return f"{next(row[name] for name in names if name in row):.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _difference(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.1f}" + ("" if low is None else f" ({low:+.1f} to {high:+.1f})")


def _plot(path: Path, table: Mapping[str, Any]) -> None:
    """A pair of dots for each accent and arm: seen (hollow) and unseen (filled)."""
    from matplotlib.figure import Figure

    groups = [OVERALL, *table["accents"]]
    arms = table["arms"]
    figure = Figure(figsize=(7, 1.2 + 0.25 * len(groups) * (len(arms) + 1)), layout="constrained")
    axes = figure.subplots()
    for k, (arm, rows) in enumerate(arms.items()):
        shown = [(i, rows[g]) for i, g in enumerate(groups) if rows[g]["seen"] is not None]
        places = [i + 0.8 * (k + 0.5) / len(arms) - 0.4 for i, _ in shown]
        seen, unseen = ([row[name] for _, row in shown] for name in ("seen", "unseen"))
        color = f"C{k}"
        axes.hlines(places, seen, unseen, color=color, linewidth=1)
        axes.scatter(seen, places, facecolors="none", edgecolors=color)
        axes.scatter(unseen, places, color=color, label=arm)
    # Labels are the corpus's: a dollar sign would start a formula.
    axes.set_yticks(range(len(groups)), groups, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("WER in %: seen (hollow), unseen (filled)")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=120, metadata={"Software": None})
