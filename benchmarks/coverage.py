"""Do the intervals and the test by speakers keep their word? Simulated corpora where arms do not differ.

Each speaker has an error rate of their own (Beta(2, 8), 20 % on average), each speaker a leaning to
one of the two arms (deviation 4 points), and each training seed of each arm one (2 points). No arm
is better. So a 95 % interval of the difference should hold zero in 95 % of the corpora, and the
randomisation test, which is about speakers alone, should give p < 0.05 in 5 % of them.
"""

from __future__ import annotations

import argparse

import numpy as np

from espnet_saliency.scoring.significance import bootstrap_rates, interval, randomisation_p

WORDS = (20, 60)
DRAWS = 2000


def simulate(speakers: int, seeds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Errors (speakers, 2, seeds) of two arms that are equally good, and words (speakers,)."""
    words = rng.integers(*WORDS, speakers)
    base = rng.beta(2, 8, (speakers, 1, 1))
    leaning = rng.normal(0, 0.04, (speakers, 1, 1)) * np.array([0.5, -0.5])[:, None]
    trained = rng.normal(0, 0.02, (1, 2, seeds)) if seeds > 1 else 0.0
    return rng.binomial(words[:, None, None], np.clip(base + leaning + trained, 0, 1)), words


def main() -> None:
    """Print a table: corpora whose interval holds zero, and whose test says that arms differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=int, default=1000, help="simulated for each row")
    corpora = parser.parse_args().corpora
    print("| speakers | seeds | intervals that hold zero, % | p < 0.05, % |")
    print("| ---: | ---: | ---: | ---: |")
    for speakers, seeds in ((5, 1), (10, 1), (20, 1), (50, 1), (100, 1), (50, 3), (50, 5), (50, 10)):
        held = told = 0
        for corpus in range(corpora):
            errors, words = simulate(speakers, seeds, np.random.default_rng([corpus, speakers, seeds]))
            rates = bootstrap_rates(errors, words, DRAWS, corpus)
            low, high = interval(rates[:, 0] - rates[:, 1])
            held += low <= 0 <= high
            difference = (errors[:, 0] - errors[:, 1]).sum(axis=-1)
            told += randomisation_p(difference, DRAWS, corpus) < 0.05
        rejected = f"{100 * told / corpora:.1f}" if seeds == 1 else "–"
        print(f"| {speakers} | {seeds} | {100 * held / corpora:.1f} | {rejected} |", flush=True)


if __name__ == "__main__":
    main()
