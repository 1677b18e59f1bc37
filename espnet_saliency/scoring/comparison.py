"""Arms against each other on the same utterances: differences, intervals, paired tests by accent.

`compare` makes the dictionary of exp/report/comparison.json; see its docstring for the keys.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.scoring import significance
from espnet_saliency.scoring.error_rates import METRICS, Rate, Scores, members_of, spread
from espnet_saliency.scoring.score_folder import OVERALL, first_few, read_scores

SCHEMA = 1

TEST = (
    "paired randomisation test over speakers, two-sided; p_holm: Holm's correction over accents; "
    "p_mapsswe (words): NIST matched-pairs sentence-segment word error test, two-sided"
)


@dataclass(frozen=True)
class ArmDecode:
    """One arm as it was decoded and scored."""

    name: str
    """Name of the arm."""
    experiment: Path
    """Experiment folder, exp/asr_..."""
    decode: str
    """Name of the decode folder in it."""
    sets: tuple[str, ...]
    """Sets that were decoded and scored: <experiment>/<decode>/<set>/score_wer, score_cer."""
    command: str
    """The command that made it."""
    train_seconds: float | None = None
    """Time of its training, where it is known."""

    def folder(self, name: str) -> Path:
        """Decode folder of one set."""
        return Path(self.experiment) / self.decode / name

    def scores(self, name: str, metric: str) -> Scores:
        """Scores of one set; UserError where it was not scored."""
        return read_scores(self.folder(name) / f"score_{metric}")


def compare(
    arms: Sequence[ArmDecode],
    baseline: str,
    corpus: str,
    draws: int = 10_000,
    seed: int = 1,
    level: float = 0.95,
    worst: int = 10,
) -> dict[str, Any]:
    """Compare every pair of arms, on every set, overall and by accent.

    Args:
        arms: scored arms, with the same sets.
        baseline: name of the arm that the others are meant to beat; the reference of its pairs.
        corpus: name of the corpus, for the reader.
        draws: draws of the bootstrap, and of the randomisation test.
        seed: the same seed and scores give the same result, whatever else is compared.
        level: coverage of the intervals.
        worst: how many of the worst utterances of each set and arm to list.

    Returns:
        A dictionary that JSON can hold. Rates and differences are in percent, absolute ones in
        percentage points, arm minus reference. None: not defined (no reference word, an interval of
        a single speaker, a relative change from zero). Group "" holds utterances without a known
        accent; where no accent is known there is only "overall". For "cer" the words are
        characters. Differences carry the corrected p-value `p_holm` and, for "wer", `p_mapsswe`,
        `p_mapsswe_holm` and `segments`; `small` marks fewer than 5 speakers.

    Raises:
        UserError: no arm, a doubled arm, an unknown baseline, or arms that were scored on different
            sets, utterances, references, speakers, accents or text policies.
    """
    names = [arm.name for arm in arms]
    if baseline not in names:
        raise UserError(f"baseline {baseline!r} is not among the arms ({', '.join(names)})")
    if len(set(names)) < len(names):
        raise UserError(f"arms {', '.join(names)}: one is named twice: compare each once")
    ordered = sorted(arms, key=lambda arm: arm.name != baseline)  # stable: only the baseline moves
    first = ordered[0]
    for arm in ordered[1:]:
        if set(arm.sets) != set(first.sets):
            raise UserError(
                f"arm {arm.name} was scored on {', '.join(arm.sets)}, arm {first.name} on "
                f"{', '.join(first.sets)}: score both on the same sets"
            )
    sets: dict[str, Any] = {}
    worst_utterances = []
    for name in first.sets:
        for metric in METRICS:
            scores = {arm.name: arm.scores(name, metric) for arm in ordered}
            _same_utterances(scores, name)
            if metric == "wer":
                overall = scores[first.name].rate()
                sets[name] = {
                    "utterances": overall.utterances,
                    "speakers": overall.speakers,
                    "words": overall.words,
                    "accents": list(scores[first.name].by_accent()),
                }
                for arm in names:
                    worst_utterances += _worst(scores[arm], name, arm, worst)
            sets[name][metric] = _metric(scores, draws, seed, level)
    return {
        "schema": SCHEMA,
        "corpus": corpus,
        "baseline": baseline,
        "arms": [_about(arm) for arm in arms],
        "metrics": list(METRICS),
        "sets": sets,
        "worst_utterances": worst_utterances,
        "bootstrap": {"draws": draws, "seed": seed, "unit": "speaker", "level": level},
        "test": TEST,
    }


def write_comparison(path: Path, comparison: Mapping[str, Any]) -> None:
    """Write what `compare` returned as JSON."""
    with atomic_file(path) as handle:
        json.dump(comparison, handle, ensure_ascii=False, indent=1, allow_nan=False)
        handle.write("\n")


def _about(arm: ArmDecode) -> dict[str, Any]:
    about = {
        "name": arm.name,
        "experiment": str(arm.experiment),
        "decode": arm.decode,
        "command": arm.command,
    }
    return about if arm.train_seconds is None else about | {"train_seconds": arm.train_seconds}


def _same_utterances(scores: Mapping[str, Scores], name: str) -> None:
    """Refuse arms whose references, speakers, accents or policies differ in set `name`."""
    (first, a), *others = scores.items()
    for arm, b in others:
        where = f"set {name}: arms {first} and {arm}"
        if a.policy != b.policy:
            raise UserError(
                f"{where} were scored under text policies {a.policy} and {b.policy}: "
                "score both under one (stage 13)"
            )
        if a.ids != b.ids:
            apart = set(a.ids) ^ set(b.ids)
            raise UserError(
                f"{where} were scored on different utterances: {len(apart)} are in one alone "
                f"({first_few(apart)}): decode and score both on the same data (stages 12 and 13)"
            )
        for what in ("references", "speakers", "accents"):
            pairs = zip(a.ids, getattr(a, what), getattr(b, what))
            differ = [(utt_id, x, y) for utt_id, x, y in pairs if x != y]
            if differ:
                utt_id, x, y = differ[0]
                raise UserError(
                    f"{where} were scored with different {what} for {len(differ)} utterances "
                    f"(first {utt_id}: {x!r} and {y!r}): score both on the same data (stage 13)"
                )


def _metric(scores: Mapping[str, Scores], draws: int, seed: int, level: float) -> dict[str, Any]:
    """Arms and differences of one set and metric; the first arm is the baseline."""
    one = next(iter(scores.values()))
    groups = {OVERALL: np.arange(len(one.ids))}
    if any(one.accents):
        groups |= members_of(one.accents)
    rates = {arm: {g: s.rate(rows) for g, rows in groups.items()} for arm, s in scores.items()}
    arms: dict[str, Any] = {arm: {"groups": {}} for arm in scores}
    pairs = list(itertools.combinations(scores, 2))
    differences: list[dict[str, Any]] = [
        {"arm": arm, "reference": reference, "groups": {}} for reference, arm in pairs
    ]
    for group, members in groups.items():
        counts = np.column_stack([s.errors for s in scores.values()] + [one.words])[members]
        sums = significance.cluster_sums([one.speakers[i] for i in members], counts)
        errors, words = sums[:, :-1], sums[:, -1]
        # One speaker resampled is itself: an interval would pretend to be sure.
        resampled = significance.bootstrap_rates(
            errors, words, draws if len(words) > 1 else 0, seed
        )
        for column, arm in enumerate(scores):
            bounds = significance.interval(resampled[:, column], level)
            arms[arm]["groups"][group] = _group(rates[arm][group], bounds)
        for (i, j), pair in zip(itertools.combinations(range(len(scores)), 2), differences):
            arm, reference = pair["arm"], pair["reference"]
            pair["groups"][group] = _difference(
                rates[arm][group], rates[reference][group], resampled[:, j], resampled[:, i], level
            ) | {"p_value": significance.randomisation_p(errors[:, j] - errors[:, i], draws, seed)}
            if one.metric == "wer":
                pair["groups"][group] |= _mapsswe(scores[arm], scores[reference], members)
    for arm in scores:
        found = spread({group: rate for group, rate in rates[arm].items() if group != OVERALL})
        worst = found.worst and dict(zip(("accent", "rate"), found.worst))
        arms[arm] |= {"macro": found.macro, "worst": worst, "gap": found.gap, "std": found.std}
    for pair in differences:
        _correct(pair["groups"])
    return {"arms": arms, "differences": differences}


def _group(rate: Rate, bounds: tuple[float | None, float | None]) -> dict[str, Any]:
    return {
        "utterances": rate.utterances,
        "speakers": rate.speakers,
        "words": rate.words,
        "hits": rate.hits,
        "sub": rate.substitutions,
        "del": rate.deletions,
        "ins": rate.insertions,
        "errors": rate.errors,
        "wrong_utterances": rate.wrong_utterances,
        "rate": rate.rate,
        "low": bounds[0],
        "high": bounds[1],
        "small": rate.speakers < significance.FEW_SPEAKERS,
    }


def _difference(
    rate: Rate, reference: Rate, draws: np.ndarray, reference_draws: np.ndarray, level: float
) -> dict[str, Any]:
    """Absolute and relative difference of one group. `draws`: resampled rates of both arms."""
    absolute = relative = None
    if rate.rate is not None and reference.rate is not None:
        absolute = rate.rate - reference.rate
        relative = 100.0 * absolute / reference.rate if reference.rate else None
    low, high = significance.interval(draws - reference_draws, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 100.0 * (draws - reference_draws) / reference_draws
    relative_low, relative_high = significance.interval(ratios, level)
    return {
        "absolute": absolute,
        "low": low,
        "high": high,
        "relative": relative,
        "relative_low": relative_low,
        "relative_high": relative_high,
        "speakers": rate.speakers,
        "words": rate.words,
        "small": rate.speakers < significance.FEW_SPEAKERS,
    }


def _mapsswe(arm: Scores, reference: Scores, members: np.ndarray) -> dict[str, Any]:
    a, b = arm.timeline, reference.timeline
    chosen = np.isin(a.utterance, members)
    result = significance.mapsswe(
        significance.mapsswe_segments(
            a.errors[chosen], b.errors[chosen], a.utterance[chosen], a.is_token[chosen]
        )
    )
    return {"p_mapsswe": result.p_value, "segments": result.segments}


def _correct(groups: dict[str, dict[str, Any]]) -> None:
    """Add Holm's correction over the accents; the overall difference is one question: it stands."""
    accents = [group for group in groups if group != OVERALL]
    for key, corrected in (("p_value", "p_holm"), ("p_mapsswe", "p_mapsswe_holm")):
        if key in groups[OVERALL]:
            adjusted = significance.holm([groups[accent][key] for accent in accents])
            for accent, p in zip(accents, adjusted):
                groups[accent][corrected] = p
            groups[OVERALL][corrected] = None


def _worst(scores: Scores, name: str, arm: str, count: int) -> list[dict[str, Any]]:
    """The utterances with the most errors, of these the shortest first."""
    errors, words = scores.errors, scores.words
    order = sorted(range(len(scores.ids)), key=lambda i: (-errors[i], words[i], scores.ids[i]))
    return [
        {
            "set": name,
            "arm": arm,
            "utt_id": scores.ids[i],
            "speaker": scores.speakers[i],
            "accent": scores.accents[i],
            "reference": scores.references[i],
            "hypothesis": scores.hypotheses[i],
            "alignment": [list(pair) for pair in scores.alignment(i)],
            "errors": int(errors[i]),
            "words": int(words[i]),
        }
        for i in order[:count]
        if errors[i]
    ]
