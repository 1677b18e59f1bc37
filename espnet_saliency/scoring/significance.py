"""How sure a difference between two recognisers is.

Speakers are the unit: utterances of one speaker go right or wrong together, so intervals and the
test by speakers treat each speaker as one observation. Three tools, for counts that lie in numpy
arrays:

- intervals by a bootstrap that draws speakers with replacement (Bisani & Ney, "Bootstrap estimates
  for confidence intervals in ASR performance evaluation", ICASSP 2004; there over utterances);
- a paired randomisation test over speakers (Fisher; Noreen, "Computer-intensive methods for testing
  hypotheses", 1989), exact where there are few of them;
- the matched-pairs sentence-segment word error test, MAPSSWE (Gillick & Cox, "Some statistical
  issues in the comparison of speech recognition algorithms", ICASSP 1989; Pallett, Fisher & Fiscus,
  "Tools for the analysis of benchmark speech recognition tests", ICASSP 1990).

Where arms were trained with several seeds, the bootstrap draws these too, and a paired t-test over
seeds stands beside the test over speakers.

Holm's correction ("A simple sequentially rejective multiple test procedure", 1979) is for the many
accents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import numpy as np

FEW_SPEAKERS = 10
"""Groups with fewer speakers are flagged: from five, a 95 % interval holds the truth in 85 %
(benchmarks/coverage.py)."""

_BLOCK = 4_000_000  # numbers held at a time: 32 MB
_EXACT = 14  # speakers up to which all 2^n sign patterns are visited


def cluster_sums(clusters: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Sums of `values` (N, K) over the rows of each cluster: (S, K), clusters sorted by name."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]), dtype=np.int64)
    np.add.at(sums, index, values)
    return sums


def bootstrap_rates(errors: np.ndarray, words: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Error rates of `draws` resampled test sets, in percent.

    Each draw takes S speakers with replacement, the same for all arms, and forms the ratio of sums.
    Where arms were trained K times, each draw takes K of the trainings with replacement as well,
    the same seeds for all arms (crossed bootstrap: Owen, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1, 2007). Draws without a reference word are left out.

    Args:
        errors: (S, A) errors of each speaker under each of A arms, or (S, A, K) with K seeds.
        words: (S,) reference words of each speaker.

    Returns:
        (draws or fewer, A).
    """
    rng = np.random.default_rng(seed)
    size, arms = errors.shape[:2]
    seeds = errors.shape[2] if errors.ndim == 3 else 1
    totals = np.column_stack([errors.reshape(size, arms * seeds), words]).astype(np.float64)
    sums = np.empty((draws, totals.shape[1]))
    block = max(1, _BLOCK // size)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        picks = rng.integers(0, size, (rows, size), dtype=np.int32)
        cells = picks + size * np.arange(rows)[:, None]
        times = np.bincount(cells.ravel(), minlength=rows * size).reshape(rows, size)
        sums[start : start + rows] = times.astype(np.float64) @ totals
    drawn = sums[:, :-1].reshape(draws, arms, seeds)
    if seeds > 1:
        weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        drawn = np.einsum("dak,dk->da", drawn, weights)
    else:
        drawn = drawn[:, :, 0]
    filled = sums[:, -1] > 0
    return 100.0 * drawn[filled] / sums[filled, -1:]


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Percentiles that hold `level` of the samples; (None, None) where a sample is not finite."""
    if not len(samples) or not np.isfinite(samples).all():
        return None, None
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def randomisation_p(differences: np.ndarray, draws: int, seed: int) -> float:
    """Two-sided p-value of the paired randomisation test over speakers.

    If two arms are equally good, each speaker's errors could as well have come from the other arm:
    the sign of each difference is a coin. The p-value is the share of sign patterns whose sum lies
    at least as far from zero as the one seen. Few speakers cannot give a small one: n give 2 / 2^n
    at best.

    Args:
        differences: (S,) errors of one arm minus errors of the other, of each speaker (integers).
        draws: random patterns, where there are too many to visit all.
    """
    values = differences[differences != 0].astype(np.float64)  # a zero has no sign to turn
    seen = abs(values.sum())
    if len(values) <= _EXACT:
        patterns = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ values) >= seen))
    rng = np.random.default_rng(seed)
    extreme = 0
    block = max(1, _BLOCK // len(values))
    for start in range(0, draws, block):
        signs = rng.integers(0, 2, (min(block, draws - start), len(values)), dtype=np.int8)
        extreme += int((np.abs((1.0 - 2.0 * signs) @ values) >= seen).sum())
    # The pattern seen is one of the possible ones: a p-value of zero cannot come out.
    return (extreme + 1) / (draws + 1)


def paired_t_p(differences: np.ndarray) -> float:
    """Two-sided p-value of the paired t-test over seeds.

    Args:
        differences: (K,) rate of one arm minus that of the other, of each seed.
    """
    from scipy.stats import t

    n, deviation = len(differences), float(differences.std(ddof=1))
    if not deviation:
        return 1.0 if not differences.any() else 0.0
    return float(2 * t.sf(abs(differences.mean()) / (deviation / math.sqrt(n)), n - 1))


@dataclass(frozen=True)
class Mapsswe:
    """Result of the matched-pairs test."""

    segments: int
    """Segments in which at least one system has an error."""
    mean: float
    """Mean over segments of the errors of A minus those of B."""
    z: float
    p_value: float
    """Two-sided, by the normal approximation, which wants 50 segments or so."""


def mapsswe_segments(
    errors_a: np.ndarray,
    errors_b: np.ndarray,
    utterance: np.ndarray,
    is_token: np.ndarray,
    separation: int = 2,
) -> np.ndarray:
    """Differences of errors, A minus B, of each sentence segment.

    A segment holds errors of either system; the next one begins after `separation` or more
    reference words in a row that both systems have right, with no insertion among them, or with the
    next utterance. This is NIST's segmentation (`sc_stats -t mapsswe`).

    Args:
        errors_a, errors_b: (T,) errors at each place of the timelines of the two systems.
        utterance, is_token: (T,) the timeline's places, the same for both.

    Returns:
        (segments,) integers.
    """
    places = np.flatnonzero(errors_a + errors_b)
    if not len(places):
        return np.zeros(0, dtype=np.int64)
    tokens_until = np.cumsum(is_token)
    # All tokens strictly between two neighbouring places with errors are right in both systems.
    right = tokens_until[places[1:] - 1] - tokens_until[places[:-1]]
    new = (right >= separation) | (utterance[places[1:]] != utterance[places[:-1]])
    starts = np.concatenate([[0], 1 + np.flatnonzero(new)])
    return np.add.reduceat((errors_a - errors_b)[places], starts)


def mapsswe(differences: np.ndarray) -> Mapsswe:
    """The test that the mean difference of errors over segments is zero.

    As in NIST's program the variance is that of the sample (n - 1), and segments that do not vary
    show nothing: z is then 0.

    Args:
        differences: (segments,) as `mapsswe_segments` gives them.
    """
    n = len(differences)
    mean = float(differences.mean()) if n else 0.0
    deviation = float(differences.std(ddof=1)) if n > 1 else 0.0
    z = mean / (deviation / math.sqrt(n)) if deviation else 0.0
    return Mapsswe(segments=n, mean=mean, z=z, p_value=math.erfc(abs(z) / math.sqrt(2)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number by Holm's step-down procedure; a None stays, uncounted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return adjusted
