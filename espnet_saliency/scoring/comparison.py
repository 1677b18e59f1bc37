"""Arms against each other on the same utterances: differences, intervals, paired tests by accent.

An arm may have been trained several times, with other seeds. Its rate is then the mean over them;
the seeds are drawn along with the speakers for its interval, and their spread stands beside it.

`compare` makes the dictionary of exp/report/comparison.json; see its docstring for the keys.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.scoring import significance
from espnet_saliency.scoring.error_rates import (
    METRICS,
    Rate,
    Scores,
    mean_rate,
    members_of,
    spread,
)
from espnet_saliency.scoring.groups import rates_by_column
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
    seed: int | None = None
    """Seed of its training; an arm is given once for each of its seeds."""

    @property
    def label(self) -> str:
        """What messages call it: the arm, and its seed where it has one."""
        return self.name if self.seed is None else f"{self.name} (seed {self.seed})"

    def folder(self, name: str) -> Path:
        """Decode folder of one set."""
        return Path(self.experiment) / self.decode / name

    def scores(self, name: str, metric: str) -> Scores:
        """Scores of one set; UserError where it was not scored."""
        return read_scores(self.folder(name) / f"score_{metric}")


def default_baseline(arms: Sequence[str]) -> str:
    """The arm that the others are measured against: specaug, else none, else the first."""
    return next((name for name in ("specaug", "none") if name in arms), arms[0])


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
        arms: scored arms, with the same sets; an arm that was trained with several seeds is given
            once for each, and all arms have the same seeds.
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
        `p_mapsswe_holm` and `segments`; `small` marks fewer than 10 speakers.

        `by` has the rates by length, by speaker and by any column of the data, see
        `groups.rates_by_column`.

        With several seeds (`"seeds"`, else empty) counts of errors are means over them, groups
        carry `seeds` ({"rates": one a seed, "std"}) and differences `seeds` ({"absolute": one a
        seed, "std", "p_value": paired t-test over seeds}). `p_value` is then the randomisation test
        on the errors of all seeds together: it speaks for other speakers, not for other seeds. The
        matched-pairs test compares two systems, so it is left out (None).

    Raises:
        UserError: no arm, a doubled arm, an unknown baseline, arms of different seeds, or arms that
            were scored on different sets, utterances, references, speakers, accents or policies.
    """
    names = list(dict.fromkeys(arm.name for arm in arms))
    if baseline not in names:
        raise UserError(f"baseline {baseline!r} is not among the arms ({', '.join(names)})")
    ordered = sorted(arms, key=lambda arm: arm.name != baseline)  # stable: only the baseline moves
    runs = _runs(ordered)
    first = ordered[0]
    for arm in ordered[1:]:
        if set(arm.sets) != set(first.sets):
            raise UserError(
                f"arm {arm.label} was scored on {', '.join(arm.sets)}, arm {first.label} on "
                f"{', '.join(first.sets)}: score both on the same sets"
            )
    sets: dict[str, Any] = {}
    worst_utterances = []
    for name in first.sets:
        for metric in METRICS:
            scores = {arm: [run.scores(name, metric) for run in runs[arm]] for arm in runs}
            labels = [run.label for arm in runs for run in runs[arm]]
            _same_utterances(dict(zip(labels, itertools.chain(*scores.values()))), name)
            if metric == "wer":
                one = scores[first.name][0]
                overall = one.rate()
                sets[name] = {
                    "utterances": overall.utterances,
                    "speakers": overall.speakers,
                    "words": overall.words,
                    "accents": list(one.by_accent()),
                }
                for arm in names:
                    worst_utterances += _worst(scores[arm][0], name, arm, worst)
            sets[name][metric] = _metric(scores, draws, seed, level)
            sets[name][metric]["by"] = rates_by_column(scores, draws, seed, level)
    return {
        "schema": SCHEMA,
        "corpus": corpus,
        "baseline": baseline,
        "arms": [_about(runs[name]) for name in names],
        "seeds": [run.seed for run in runs[baseline]] if len(runs[baseline]) > 1 else [],
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


def _runs(arms: Sequence[ArmDecode]) -> dict[str, list[ArmDecode]]:
    """Arm -> its runs by seed; every arm with the same seeds."""
    runs: dict[str, list[ArmDecode]] = {}
    for arm in arms:
        runs.setdefault(arm.name, []).append(arm)
    seeds = {}
    for name, mine in runs.items():
        seeds[name] = [run.seed for run in mine]
        if len(set(seeds[name])) < len(mine):
            raise UserError(
                f"arms {', '.join(arm.label for arm in arms)}: one is named twice: compare each once"
            )
        mine.sort(key=lambda run: run.seed or 0)
    (first, wanted), *others = seeds.items()
    for name, found in others:
        if set(found) != set(wanted):
            raise UserError(
                f"arm {name} was trained with seeds {_list(found)}, arm {first} with "
                f"{_list(wanted)}: give all arms the same seeds (--seeds)"
            )
    return runs


def _list(seeds: Sequence[int | None]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _about(runs: Sequence[ArmDecode]) -> dict[str, Any]:
    """What is known of an arm; with several seeds the experiments are listed as well."""
    arm = runs[0]
    about: dict[str, Any] = {
        "name": arm.name,
        "experiment": str(arm.experiment),
        "decode": arm.decode,
        "command": arm.command,
    }
    if len(runs) > 1:
        about["experiments"] = [str(run.experiment) for run in runs]
    seconds = [run.train_seconds for run in runs]
    return about if None in seconds else about | {"train_seconds": sum(seconds)}


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
        if apart := sorted(set(a.columns) ^ set(b.columns)):
            raise UserError(
                f"{where} were scored with different columns of the data: {', '.join(apart)} in one alone: score "
                "both on the same data (stage 13)"
            )
        facts = {what: (getattr(a, what), getattr(b, what)) for what in ("references", "speakers", "accents")}
        facts |= {f"values of {name}": (a.columns[name], b.columns[name]) for name in a.columns}
        for what, (ours, theirs) in facts.items():
            pairs = zip(a.ids, ours, theirs)
            differ = [(utt_id, x, y) for utt_id, x, y in pairs if x != y]
            if differ:
                utt_id, x, y = differ[0]
                raise UserError(
                    f"{where} were scored with different {what} for {len(differ)} utterances "
                    f"(first {utt_id}: {x!r} and {y!r}): score both on the same data (stage 13)"
                )


def _metric(
    scores: Mapping[str, Sequence[Scores]], draws: int, seed: int, level: float
) -> dict[str, Any]:
    """Arms and differences of one set and metric; the first arm is the baseline.

    Args:
        scores: arm -> its scores, one a seed.
    """
    one = next(iter(scores.values()))[0]
    groups = {OVERALL: np.arange(len(one.ids))}
    if any(one.accents):
        groups |= members_of(one.accents)
    rates = {a: {g: mean_rate([s.rate(m) for s in mine]) for g, m in groups.items()}
             for a, mine in scores.items()}  # fmt: skip
    arms: dict[str, Any] = {arm: {"groups": {}} for arm in scores}
    pairs = list(itertools.combinations(scores, 2))
    differences: list[dict[str, Any]] = [
        {"arm": arm, "reference": reference, "groups": {}} for reference, arm in pairs
    ]
    for group, members in groups.items():
        # (N, A, K): errors of each utterance, arm and seed.
        errors = np.stack([np.stack([s.errors for s in mine], -1) for mine in scores.values()], 1)
        counts = np.column_stack([errors.reshape(len(errors), -1), one.words])[members]
        sums = significance.cluster_sums([one.speakers[i] for i in members], counts)
        errors, words = sums[:, :-1].reshape(len(sums), *errors.shape[1:]), sums[:, -1]
        # One speaker resampled is itself: an interval would pretend to be sure.
        resampled = significance.bootstrap_rates(
            errors, words, draws if len(words) > 1 else 0, seed
        )
        total = words.sum()
        by_seed = errors.sum(axis=0) * (100.0 / total if total else math.nan)  # (A, K)
        for column, arm in enumerate(scores):
            bounds = significance.interval(resampled[:, column], level)
            arms[arm]["groups"][group] = _group(rates[arm][group], bounds) | _of_seeds(
                "rates", by_seed[column]
            )
        for (i, j), pair in zip(itertools.combinations(range(len(scores)), 2), differences):
            arm, reference = pair["arm"], pair["reference"]
            together = (errors[:, j] - errors[:, i]).sum(axis=-1)
            pair["groups"][group] = _difference(
                rates[arm][group], rates[reference][group], resampled[:, j], resampled[:, i], level
            ) | {"p_value": significance.randomisation_p(together, draws, seed)}
            found = _of_seeds("absolute", by_seed[j] - by_seed[i])
            if found:
                found["seeds"]["p_value"] = significance.paired_t_p(by_seed[j] - by_seed[i])
            pair["groups"][group] |= found
            if one.metric == "wer":
                pair["groups"][group] |= _mapsswe(scores[arm], scores[reference], members)
    for arm in scores:
        found = spread({group: rate for group, rate in rates[arm].items() if group != OVERALL})
        worst = found.worst and dict(zip(("accent", "rate"), found.worst))
        arms[arm] |= {"macro": found.macro, "worst": worst, "gap": found.gap, "std": found.std}
    for pair in differences:
        _correct(pair["groups"])
    return {"arms": arms, "differences": differences}


def _of_seeds(key: str, values: np.ndarray) -> dict[str, Any]:
    """{"seeds": {key: one a seed, "std"}}; nothing where there is one seed, or no reference word."""
    if len(values) < 2 or not np.isfinite(values).all():
        return {}
    return {"seeds": {key: values.tolist(), "std": float(values.std(ddof=1))}}


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


def _mapsswe(
    arm: Sequence[Scores], reference: Sequence[Scores], members: np.ndarray
) -> dict[str, Any]:
    if len(arm) > 1:
        return {"p_mapsswe": None, "segments": None}
    a, b = arm[0].timeline, reference[0].timeline
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
