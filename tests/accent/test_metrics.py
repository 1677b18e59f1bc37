"""Figures of a set: by hand, and against scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from espnet_saliency.accent.metrics import Prediction, balanced_accuracy_interval, score


def said(rows):
    """(speaker, accent, predicted, times) -> predictions."""
    return [
        Prediction(f"{speaker}-{i}-{j}", speaker, accent, predicted, ())
        for i, (speaker, accent, predicted, times) in enumerate(rows)
        for j in range(times)
    ]


HAND = said(
    [
        ("s1", "a", "a", 3), ("s2", "a", "b", 1),
        ("s3", "b", "b", 1), ("s3", "b", "a", 1),
        ("s4", "x", "a", 2), ("s4", "x", "c", 1), ("s5", "unknown", "c", 1),
    ]
)  # fmt: skip


def test_by_hand():
    r = score(HAND, ["a", "b", "c"])
    assert r["utterances"] == 6 and r["speakers"] == 3
    assert r["accuracy"] == pytest.approx(4 / 6)
    assert list(r["per_accent"]["a"]) == ["precision", "recall", "f1", "support"]
    assert list(r["per_accent"]["a"].values()) == pytest.approx([3 / 4, 3 / 4, 3 / 4, 4])
    assert list(r["per_accent"]["b"].values()) == pytest.approx([1 / 2, 1 / 2, 1 / 2, 2])
    assert r["balanced_accuracy"] == pytest.approx(5 / 8) and r["macro_f1"] == pytest.approx(5 / 8)
    assert r["chance"] == 1 / 2
    assert r["confusion"]["accents"] == ["a", "b", "c"]
    assert r["confusion"]["counts"] == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert r["unknown_accents"] == {
        "unknown": {"utterances": 1, "predicted": {"c": 1}},
        "x": {"utterances": 3, "predicted": {"a": 2, "c": 1}},
    }


def test_against_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(5)
    accents = list("abcde")
    rows = [
        (f"s{rng.integers(12)}", accents[a], accents[rng.choice([a, rng.integers(5)])], 1)
        for a in rng.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05])
    ]
    predictions = said(rows)
    r = score(predictions, accents)
    true, predicted = [p.accent for p in predictions], [p.predicted for p in predictions]
    present = accents[:4]
    assert r["accuracy"] == pytest.approx(sklearn.accuracy_score(true, predicted))
    assert r["balanced_accuracy"] == pytest.approx(
        sklearn.recall_score(true, predicted, labels=present, average="macro")
    )
    assert r["macro_f1"] == pytest.approx(
        sklearn.f1_score(true, predicted, labels=present, average="macro", zero_division=0)
    )
    columns = sklearn.precision_recall_fscore_support(
        true, predicted, labels=present, zero_division=0
    )
    for accent, *expected in zip(present, *columns):
        assert list(r["per_accent"][accent].values()) == pytest.approx(expected[:4])
        assert list(r["per_accent"][accent]) == ["precision", "recall", "f1", "support"]
    matrix = sklearn.confusion_matrix(true, predicted, labels=accents)
    assert r["confusion"]["counts"] == matrix.tolist()
    assert r["low"] < r["balanced_accuracy"] < r["high"]


def test_interval_is_that_of_all_draws_of_speakers():
    # Two speakers an accent: four equally likely draws each, so sixteen balanced accuracies.
    rows = [("s1", "a", "a", 2), ("s1", "a", "b", 2), ("s2", "a", "a", 1),
            ("s3", "b", "b", 3), ("s3", "b", "a", 1), ("s4", "b", "a", 2)]  # fmt: skip
    a, b = [(2, 4), (1, 1)], [(3, 4), (0, 2)]
    exact = [
        np.mean([sum(h for h, _ in draw) / sum(n for _, n in draw) for draw in (da, db)])
        for da in itertools.product(a, a)
        for db in itertools.product(b, b)
    ]
    low, high = balanced_accuracy_interval(said(rows), level=0.5, draws=20000)
    assert (low, high) == pytest.approx(tuple(np.percentile(exact, [25, 75])), abs=1e-9)


def test_utterances_of_a_speaker_are_not_independent():
    # The same 60 utterances, from 30 speakers and from 2 of whom one is never right.
    many = [(f"{a}{i}", a, a if i % 2 else "x", 2) for a in "ab" for i in range(30)]
    few = [(f"{a}{i}", a, a if i % 2 else "x", 30) for a in "ab" for i in range(2)]
    low, high = balanced_accuracy_interval(said(many))
    wide_low, wide_high = balanced_accuracy_interval(said(few))
    assert high - low < 0.3 < 0.9 < wide_high - wide_low


@pytest.mark.parametrize("right, near", [(14, False), (7, True)])
def test_near_chance(right, near):
    rows = [(f"{a}{i}", a, a if i < right else b, 4) for a, b in ("ab", "ba") for i in range(14)]
    assert score(said(rows), ["a", "b"])["near_chance"] is near


def test_the_same_seed_gives_the_same_interval_in_any_order():
    rows = [(f"s{i}", "ab"[i % 2], "ab"[(i // 3) % 2], i % 4 + 1) for i in range(20)]
    predictions = said(rows)
    one = balanced_accuracy_interval(predictions, seed=4)
    assert one == balanced_accuracy_interval(predictions[::-1], seed=4)
    assert one != balanced_accuracy_interval(predictions, seed=5)


def test_nothing_to_score():
    r = score(said([("s", "x", "a", 2)]), ["a", "b"])
    assert r["utterances"] == 0 and r["accuracy"] is None and r["near_chance"] is None
    assert r["per_accent"] == {} and r["unknown_accents"]["x"]["utterances"] == 2
