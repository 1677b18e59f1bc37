from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import scipy.stats

from espnet_saliency.scoring import significance as sig
from espnet_saliency.scoring.error_rates import score


def test_cluster_sums():
    values = np.array([[1, 10], [2, 20], [3, 30]])
    assert sig.cluster_sums(["s2", "s1", "s2"], values).tolist() == [[2, 20], [4, 40]]


def test_bootstrap_against_a_plain_loop():
    """Resampling one speaker at a time gives the same intervals, within the noise of the draws."""
    draw = random.Random(3)
    words = [draw.randint(20, 200) for _ in range(25)]
    errors = [[draw.randint(0, w // 3), draw.randint(0, w // 4)] for w in words]
    draws = 20_000
    loop = []
    for _ in range(draws):
        picked = [draw.randrange(25) for _ in range(25)]
        total = sum(words[s] for s in picked)
        loop.append([100 * sum(errors[s][a] for s in picked) / total for a in (0, 1)])
    naive = np.array(loop)
    ours = sig.bootstrap_rates(np.array(errors), np.array(words), draws, seed=1)
    for a, b in (
        (ours[:, 0], naive[:, 0]),
        (ours[:, 1], naive[:, 1]),
        (ours[:, 1] - ours[:, 0], naive[:, 1] - naive[:, 0]),
    ):
        assert a.std() == pytest.approx(b.std(), rel=0.03)
        assert sig.interval(a) == pytest.approx(sig.interval(b), abs=0.12 * b.std())


def test_bootstrap_of_equal_speakers_is_binomial():
    """k of S equal speakers wrong in each word: the rate of a draw is Binomial(S, k / S) / S."""
    errors = np.array([[10]] * 8 + [[0]] * 12)
    rates = sig.bootstrap_rates(errors, np.full(20, 10), 50_000, seed=2)[:, 0]
    counts = np.round(rates / 5).astype(int)  # 100 % / 20 speakers
    expected = scipy.stats.binom(20, 0.4)
    assert rates.mean() == pytest.approx(40, abs=0.2)
    assert rates.std() == pytest.approx(5 * expected.std(), rel=0.02)
    for k in (4, 8, 12):
        assert np.mean(counts <= k) == pytest.approx(expected.cdf(k), abs=0.01)


def test_bootstrap_does_not_depend_on_memory_blocks(monkeypatch):
    errors, words = np.arange(60).reshape(30, 2), np.full(30, 100)
    whole = sig.bootstrap_rates(errors, words, 1000, seed=4)
    monkeypatch.setattr(sig, "_BLOCK", 30 * 7)
    assert np.array_equal(whole, sig.bootstrap_rates(errors, words, 1000, seed=4))
    assert not np.array_equal(whole, sig.bootstrap_rates(errors, words, 1000, seed=5))


def test_bootstrap_leaves_out_draws_without_words():
    rates = sig.bootstrap_rates(np.array([[1], [2]]), np.array([10, 0]), 1000, seed=1)
    assert 700 < len(rates) < 800  # three draws in four hold the speaker with words
    assert np.isfinite(rates).all()


def test_interval():
    assert sig.interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert sig.interval(np.array([1.0, np.inf])) == (None, None)
    assert sig.interval(np.zeros(0)) == (None, None)


def test_randomisation_by_hand():
    # 3 speakers, differences 1, 2, 3: of the 8 sign patterns +++ and --- are as far out as 6
    assert sig.randomisation_p(np.array([1, 2, 3]), 0, seed=1) == 2 / 8
    # 3, 3, -1 sum to 5: as far out lie +3+3+1 and +3+3-1, and their mirrors
    assert sig.randomisation_p(np.array([3, 3, -1]), 0, seed=1) == 4 / 8
    assert sig.randomisation_p(np.array([0, 0]), 0, seed=1) == 1
    assert sig.randomisation_p(np.array([7]), 0, seed=1) == 1  # one speaker shows nothing
    assert sig.randomisation_p(np.array([4, 0, 0, 5]), 0, seed=1) == 2 / 4  # zeros change nothing


def test_randomisation_against_scipy():
    differences = np.random.default_rng(0).integers(-5, 8, 12)
    expected = scipy.stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sig.randomisation_p(differences, 0, seed=1) == pytest.approx(expected.pvalue)


def test_randomisation_sampled_agrees_with_exact(monkeypatch):
    differences = np.array([5, -3, 4, 2, -1, 6, 3, -2, 4, 1, -2, 2])
    exact = sig.randomisation_p(differences, 0, seed=1)
    assert 0.01 < exact < 0.2
    monkeypatch.setattr(sig, "_EXACT", 3)
    assert sig.randomisation_p(differences, 50_000, seed=1) == pytest.approx(exact, abs=0.005)
    assert sig.randomisation_p(np.full(40, 3), 999, seed=1) == 1 / 1000  # never zero


def segments(reference, a, b):
    speakers = {i: "s" for i in reference}
    lines = [score("wer", reference, hyp, speakers, {}).timeline for hyp in (a, b)]
    first, second = lines
    return sig.mapsswe_segments(
        first.errors, second.errors, first.utterance, first.is_token
    ).tolist()


def test_mapsswe_published_example():
    """NIST's own example (its MAPSSWE page; Jurafsky & Martin, Speech and Language Processing)."""
    reference = {"u": "it was the best of times it was the worst of times it was"}
    a = {"u": "ITS the best of times it IS the worst of times OR it was"}
    b = {"u": "it was the best times it WON the TEST of times it was"}
    assert segments(reference, a, b) == [2, -1, -1, 1]
    result = sig.mapsswe(np.array([2, -1, -1, 1]))
    # mean 1/4, variance (1.75^2 + 2 * 1.25^2 + 0.75^2) / 3 = 2.25, z = (1/4) / (1.5 / 2)
    assert (result.segments, result.mean, result.z) == (4, 0.25, pytest.approx(1 / 3))
    assert result.p_value == pytest.approx(2 * scipy.stats.norm.sf(1 / 3))


@pytest.mark.parametrize(
    ("reference", "a", "b", "expected"),
    [
        # one right word between two errors: one segment; two: two segments
        ("p q r", "X q X", "p q r", [2]),
        ("p q r s", "X q r X", "p q r s", [1, 1]),
        # the right words must be right in both systems
        ("p q r s", "X q r X", "p q Y s", [1]),
        # an insertion among them is an error between them
        ("p q r s", "X q r X", "p q Z r s", [1]),
        # at either end
        ("p q", "K p q", "p q L", [1, -1]),
        ("p", "K p", "p L", [0]),
        ("p q", "p q", "p q", []),
    ],
)
def test_mapsswe_segments_by_hand(reference, a, b, expected):
    assert segments({"u": reference}, {"u": a}, {"u": b}) == expected


def test_mapsswe_segments_end_with_the_utterance():
    reference = {"u1": "p q", "u2": "r s"}
    hypothesis = {"u1": "p X", "u2": "Y s"}
    assert segments(reference, hypothesis, reference) == [1, 1]


def test_mapsswe_segments_against_a_state_machine():
    """NIST's program walks the words one by one: such a walk finds the same segments."""

    def walk(errors_a, errors_b, is_token):
        found, current, good = [], None, 0
        for x, y, token in zip(errors_a, errors_b, is_token):
            if x or y:
                current, good = (current or 0) + x - y, 0
            elif token and current is not None:
                good += 1
                if good == 2:
                    found, current = [*found, current], None
        return found if current is None else [*found, current]

    rng = np.random.default_rng(7)
    for _ in range(200):
        length = 2 * rng.integers(1, 30) + 1
        is_token = np.arange(length) % 2 == 1
        a, b = (rng.random((2, length)) < rng.uniform(0.02, 0.4)).astype(int)
        ours = sig.mapsswe_segments(a, b, np.zeros(length, dtype=int), is_token)
        assert ours.tolist() == walk(a, b, is_token)


def test_mapsswe_without_variation_shows_nothing():
    assert sig.mapsswe(np.zeros(0, dtype=int)).p_value == 1
    assert sig.mapsswe(np.array([3])).p_value == 1
    assert sig.mapsswe(np.array([1, 1, 1])).z == 0  # as NIST's program has it


def test_mapsswe_is_the_one_sample_statistic():
    differences = np.random.default_rng(1).integers(-3, 5, 200)
    result = sig.mapsswe(differences)
    assert result.z == pytest.approx(scipy.stats.ttest_1samp(differences, 0).statistic)
    assert result.p_value == pytest.approx(math.erfc(abs(result.z) / math.sqrt(2)))


def test_holm():
    # by hand: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.04 * 1 (the same)
    assert sig.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert sig.holm([0.6, None, 0.7]) == [1, None, 1]
    assert sig.holm([0.02]) == [0.02]
    assert sig.holm([]) == []


def test_holm_rejects_as_the_closed_test_by_bonferroni():
    """Holm's procedure is the closure of Bonferroni's test (Marcus, Peritz & Gabriel 1976)."""
    p = [0.011, 0.2, 0.02, 0.015, 0.9]
    for i, adjusted in enumerate(sig.holm(p)):
        worst = max(
            min(1.0, size * min(p[j] for j in chosen))
            for size in range(1, 6)
            for chosen in itertools.combinations(range(5), size)
            if i in chosen
        )
        assert adjusted == pytest.approx(worst)
