"""Arms that were trained with several seeds: means, spread, and what the seeds do to the intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from espnet_saliency.errors import UserError
from espnet_saliency.scoring import significance as sig
from espnet_saliency.scoring.comparison import ArmDecode, compare
from espnet_saliency.scoring.score_folder import score_decode

REFERENCE = "one two three four five six seven eight nine ten"
# Words that each speaker loses under each arm and seed: (speakers, arms, seeds).
LOST = np.array(
    [
        [[1, 2, 3], [2, 4, 3]],
        [[0, 1, 2], [3, 3, 3]],
        [[4, 4, 1], [4, 6, 2]],
        [[2, 0, 1], [1, 0, 5]],
    ]
)
ARMS, SEEDS, SPEAKERS = ("specaug", "saliency"), (1, 2, 7), ("a1", "a2", "b1", "b2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[ArmDecode]:
    root = tmp_path_factory.mktemp("seeds")
    data = root / "data" / "test"
    data.mkdir(parents=True)
    (data / "text").write_text("".join(f"{s}-1 {REFERENCE}\n" for s in SPEAKERS))
    (data / "utt2spk").write_text("".join(f"{s}-1 {s}\n" for s in SPEAKERS))
    (data / "utt2accent").write_text("".join(f"{s}-1 {s[0]}\n" for s in SPEAKERS))
    made = []
    for a, arm in enumerate(ARMS):
        for k, seed in enumerate(SEEDS):
            experiment = root / f"asr_{arm}_seed{seed}"
            folder = experiment / "decode" / "test"
            folder.mkdir(parents=True)
            words = REFERENCE.split()
            (folder / "text").write_text(
                "".join(f"{s}-1 {' '.join(words[LOST[i, a, k]:])}\n" for i, s in enumerate(SPEAKERS))
            )
            score_decode(folder, data, "none")
            made.append(ArmDecode(arm, experiment, "decode", ("test",), "./run.sh", 10.0, seed))
    return made


@pytest.fixture(scope="module")
def comparison(runs):
    return compare(runs, "specaug", "digits", draws=4000, seed=5)


def test_rates_are_means_over_seeds_and_words_are_counted_once(comparison):
    assert comparison["seeds"] == [1, 2, 7]
    arms = comparison["sets"]["test"]["wer"]["arms"]
    for a, arm in enumerate(ARMS):
        overall = arms[arm]["groups"]["overall"]
        assert overall["words"] == 40
        assert overall["del"] == overall["errors"] == pytest.approx(LOST[:, a].sum() / 3)
        assert overall["rate"] == pytest.approx(100 * LOST[:, a].sum() / 120)
        by_seed = 100 * LOST[:, a].sum(axis=0) / 40
        assert overall["seeds"]["rates"] == pytest.approx(by_seed.tolist())
        assert overall["seeds"]["std"] == pytest.approx(np.std(by_seed, ddof=1))
        assert arms[arm]["groups"]["a"]["rate"] == pytest.approx(100 * LOST[:2, a].sum() / 60)
    about = comparison["arms"][0]
    assert len(about["experiments"]) == 3 and about["train_seconds"] == 30.0


def test_difference_has_a_test_over_speakers_and_one_over_seeds(comparison):
    (pair,) = comparison["sets"]["test"]["wer"]["differences"]
    group = pair["groups"]["overall"]
    by_seed = 100 * (LOST[:, 1] - LOST[:, 0]).sum(axis=0) / 40
    assert group["absolute"] == pytest.approx(by_seed.mean())
    assert group["seeds"]["absolute"] == pytest.approx(by_seed.tolist())
    assert group["seeds"]["p_value"] == pytest.approx(scipy.stats.ttest_1samp(by_seed, 0).pvalue)
    by_speaker = (LOST[:, 1] - LOST[:, 0]).sum(axis=1)  # 3, 6, 3, 3: only two of 16 patterns
    assert by_speaker.tolist() == [3, 6, 3, 3]
    assert group["p_value"] == 2 / 16
    assert group["p_mapsswe"] is None


def test_intervals_cover_the_seeds_as_well():
    # Seeds that differ by much, speakers that do not differ at all: only drawn seeds spread.
    errors = np.zeros((50, 1, 2))
    errors[:, 0, 1] = 4
    rates = sig.bootstrap_rates(errors, np.full(50, 10), 20_000, seed=1)
    assert sorted(set(rates[:, 0].round(9))) == [0.0, 20.0, 40.0]
    assert np.mean(rates[:, 0] == 20.0) == pytest.approx(0.5, abs=0.02)
    # One seed, however it is given, draws what it always drew.
    flat = np.arange(12).reshape(6, 2)
    words = np.full(6, 20)
    one = sig.bootstrap_rates(flat, words, 500, seed=3)
    assert np.array_equal(one, sig.bootstrap_rates(flat[:, :, None], words, 500, seed=3))


def test_two_arms_share_the_seeds_that_are_drawn():
    # The second arm is always the first plus one: whatever is drawn, the difference is the same.
    errors = np.random.default_rng(0).integers(0, 5, (30, 1, 4)).repeat(2, axis=1)
    errors[:, 1] += 1
    rates = sig.bootstrap_rates(errors, np.full(30, 10), 1000, seed=2)
    assert (rates[:, 1] - rates[:, 0]).round(9).tolist() == [10.0] * 1000


def test_arms_of_different_seeds_are_refused(runs):
    with pytest.raises(UserError, match="arm saliency was trained with seeds 1, 2, arm specaug with 1, 2, 7"):
        compare(runs[:5], "specaug", "digits", draws=10)


def test_a_seed_given_twice_is_refused(runs):
    with pytest.raises(UserError, match="named twice"):
        compare([*runs, runs[0]], "specaug", "digits", draws=10)
