"""How well accents are recognised: figures of one set, from true and predicted accents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

DRAWS = 2000
"""Bootstrap draws."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier said of one utterance."""

    utt_id: str
    speaker: str
    accent: str
    """True accent; "unknown" where it is not known."""
    predicted: str
    posterior: tuple[float, ...]
    """Probability of each of the classifier's accents."""


def score(
    predictions: Sequence[Prediction], accents: Sequence[str], seed: int = 0
) -> dict[str, Any]:
    """Figures of one set; rates are fractions, None where no utterance can be scored.

    Utterances of an accent that the classifier does not know cannot be right: they are counted
    under `unknown_accents` with what was predicted, and take no part in anything else.

    Args:
        predictions: of the whole set.
        accents: the classifier's classes.
        seed: of the bootstrap.

    Returns:
        accuracy; balanced_accuracy (mean recall over the accents present); macro_f1 (mean over the
        same accents); chance, 1 / number of accents present; low and high, 95 % interval of the
        balanced accuracy by bootstrap over speakers within accents; near_chance; utterances and
        speakers that are scored; per_accent precision, recall, f1, support; confusion counts, true
        accents in rows; unknown_accents.
    """
    index = {accent: i for i, accent in enumerate(accents)}
    known = [p for p in predictions if p.accent in index]
    counts = np.zeros((len(accents), len(accents)), dtype=int)
    for p in known:
        counts[index[p.accent], index[p.predicted]] += 1
    support, predicted, hits = counts.sum(axis=1), counts.sum(axis=0), counts.diagonal()
    present = np.flatnonzero(support)
    recall = hits / np.maximum(support, 1)
    precision = hits / np.maximum(predicted, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    result: dict[str, Any] = {
        "accuracy": None, "balanced_accuracy": None, "macro_f1": None, "chance": None,
        "near_chance": None, "low": None, "high": None,
        "utterances": len(known),
        "speakers": len({p.speaker for p in known}),
        "per_accent": {
            accents[i]: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i in present
        },
        "confusion": {"accents": list(accents), "counts": counts.tolist()},
        "unknown_accents": _unknown(predictions, index),
    }  # fmt: skip
    if known:
        low, high = balanced_accuracy_interval(known, seed=seed)
        chance = 1 / len(present)
        result.update(
            accuracy=float(hits.sum() / support.sum()),
            balanced_accuracy=float(recall[present].mean()),
            macro_f1=float(f1[present].mean()),
            chance=chance,
            # A tenth above chance is no accent recognition either.
            near_chance=bool(low < 1.1 * chance),
            low=low,
            high=high,
        )
    return result


def balanced_accuracy_interval(
    predictions: Sequence[Prediction], level: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of the balanced accuracy, over speakers within each accent.

    Utterances of one speaker are alike, so that speakers and not utterances are drawn (Bisani and
    Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
    An accent with one speaker adds nothing to the width: over few speakers it is too narrow.

    Returns:
        lower and upper end, as fractions.
    """
    totals: dict[str, dict[str, list[int]]] = {}
    for p in predictions:
        total = totals.setdefault(p.accent, {}).setdefault(p.speaker, [0, 0])
        total[0] += p.predicted == p.accent
        total[1] += 1
    generator = np.random.default_rng(seed)
    recalls = np.zeros(draws)
    for accent in sorted(totals):
        speakers = np.array([totals[accent][speaker] for speaker in sorted(totals[accent])])
        n = len(speakers)
        times = generator.multinomial(n, np.full(n, 1 / n), size=draws)
        hits, utterances = (times @ speakers).T
        recalls += hits / utterances
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(recalls / len(totals), [tail, 100 - tail])
    return float(low), float(high)


def _unknown(predictions: Sequence[Prediction], index: dict[str, int]) -> dict[str, Any]:
    """Accent -> its utterances and how often each of the classifier's accents was predicted."""
    unknown: dict[str, Any] = {}
    for p in sorted(predictions, key=lambda p: (p.accent, p.predicted)):
        if p.accent not in index:
            entry = unknown.setdefault(p.accent, {"utterances": 0, "predicted": {}})
            entry["utterances"] += 1
            entry["predicted"][p.predicted] = entry["predicted"].get(p.predicted, 0) + 1
    return unknown
