"""Time of scoring: alignment, bootstrap over speakers, tests; beside kaldialign's bootstrap.

    python benchmarks/scoring.py [--utterances 10000] [--speakers 200] [--draws 10000]

kaldialign (`pip install kaldialign`) is not needed for anything else; without it only our own times
are shown. Its bootstrap resamples utterances and gives a normal interval, so ours is run with each
utterance as its own speaker for that comparison.
"""

from __future__ import annotations

import argparse
import random
import time
from contextlib import contextmanager
from typing import Iterator

import numpy as np

from espnet_saliency.scoring import significance
from espnet_saliency.scoring.error_rates import Scores, score


@contextmanager
def timed(label: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{label:<64} {time.perf_counter() - start:7.2f} s", flush=True)


def make(utterances: int, speakers: int, seed: int) -> tuple[dict, dict, dict, dict]:
    """References, hypotheses of two systems, speakers: 12 words an utterance, 20 % wrong."""
    draw = random.Random(seed)
    vocabulary = [f"word{n}" for n in range(2000)]
    references, first, second, who = {}, {}, {}, {}
    for n in range(utterances):
        utt, words = f"u{n:06}", draw.choices(vocabulary, k=draw.randint(4, 20))
        references[utt], who[utt] = " ".join(words), f"s{n % speakers:05}"
        for hypotheses, rate in ((first, 0.2), (second, 0.19)):
            heard = [draw.choice(vocabulary) if draw.random() < rate else w for w in words]
            hypotheses[utt] = " ".join(heard)
    return references, first, second, who


def bootstrap(a: Scores, b: Scores, clusters: tuple[str, ...], draws: int) -> np.ndarray:
    sums = significance.cluster_sums(clusters, np.column_stack([a.errors, b.errors, a.words]))
    return significance.bootstrap_rates(sums[:, :2], sums[:, 2], draws, seed=1)


def against_kaldialign(a: Scores, b: Scores, rates: np.ndarray, draws: int) -> None:
    try:
        from kaldialign import bootstrap_wer_ci
    except ImportError:
        print("kaldialign is not installed (pip install kaldialign): no comparison with it")
        return
    texts = (a.references, a.hypotheses, b.hypotheses)
    refs, one, two = ([text.split() for text in column] for column in texts)
    with timed(f"kaldialign: both systems, alignment included, {draws} draws"):
        theirs = bootstrap_wer_ci(refs, one, hyps2=two, replications=draws)
    for column, system in enumerate(("system1", "system2")):
        low, high = significance.interval(rates[:, column])
        mean, half = (100 * theirs[system][key] for key in ("wer", "ci95"))
        theirs_now = f"{mean - half:.2f} to {mean + half:.2f}"
        print(f"  {system}, %: kaldialign {theirs_now}, ours {low:.2f} to {high:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--utterances", type=int, default=10_000)
    parser.add_argument("--speakers", type=int, default=200)
    parser.add_argument("--draws", type=int, default=10_000)
    options = parser.parse_args()
    references, first, second, who = make(options.utterances, options.speakers, seed=1)
    print(f"{options.utterances} utterances, {options.speakers} speakers, {options.draws} draws")
    with timed("WER counts of two systems"):
        a, b = (score("wer", references, hypotheses, who, {}) for hypotheses in (first, second))
    with timed("CER counts of two systems"):
        for hypotheses in (first, second):
            score("cer", references, hypotheses, who, {})
    with timed("bootstrap over speakers, both systems and their difference"):
        rates = bootstrap(a, b, a.speakers, options.draws)
        low, high = significance.interval(rates[:, 1] - rates[:, 0])
    print(f"  difference {low:.2f} to {high:.2f} points")
    with timed("randomisation test over speakers"):
        sums = significance.cluster_sums(a.speakers, (b.errors - a.errors)[:, None])
        p_value = significance.randomisation_p(sums[:, 0], options.draws, seed=1)
    print(f"  p = {p_value:.4f}")
    with timed("MAPSSWE, alignment's timeline included"):
        x, y = a.timeline, b.timeline
        result = significance.mapsswe(
            significance.mapsswe_segments(x.errors, y.errors, x.utterance, x.is_token)
        )
    print(f"  {result.segments} segments, p = {result.p_value:.4f}")
    with timed("bootstrap over utterances, each its own speaker"):
        rates = bootstrap(a, b, a.ids, options.draws)
    against_kaldialign(a, b, rates, options.draws)


if __name__ == "__main__":
    main()
