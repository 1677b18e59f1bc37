"""Deletion curves on tones that a real classifier tells apart by a stretch whose place is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import ClassActivation
from espnet_saliency.saliency.faithfulness import (
    ORDERS,
    bootstrap,
    faithfulness,
    random_weights,
    rank_correlations,
    roll_in_time,
)
from espnet_saliency.saliency.masking import MaskPolicy


@pytest.fixture(scope="module")
def result(glide_classifier, glides, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faithfulness")
    result = faithfulness(glide_classifier, glides, folder, seed=1)
    assert json.loads((folder / "faithfulness.json").read_text()) == result
    assert (folder / "faithfulness.png").read_bytes().startswith(b"\x89PNG")
    return result


def test_hiding_what_is_salient_costs_most(result):
    assert result["untouched"] > 0.9
    curves = result["curves"]
    assert sorted(curves) == sorted(ORDERS)
    assert curves["salient"][0] < 0.7  # 5 % of the cells: only the top of the map does it
    at = result["shares"].index(0.2)
    assert curves["salient"][at] < 0.6
    assert curves["random"][at] > 0.8 and curves["rolled"][at] > 0.8
    assert curves["least"][-1] > 0.9


def test_hearing_what_is_salient_alone_is_worth_most(result):
    insertion = result["insertion"]
    assert insertion["nothing"] == 0.5  # all alike, so one answer for all
    at = result["shares"].index(0.2)
    assert insertion["curves"]["salient"][at] > insertion["curves"]["random"][at] + 0.2
    assert sorted(insertion["curves"]) == ["random", "salient"]


def test_areas_are_those_under_the_curves(result):
    at = [0.0, *result["shares"]]
    for direction, curves, first in (
        ("deletion", result["curves"], result["untouched"]),
        ("insertion", result["insertion"]["curves"], result["insertion"]["nothing"]),
    ):
        areas = result["auc"][direction]
        for order, curve in curves.items():
            ys = [first, *curve]
            by_hand = sum((b - a) * (y + z) / 2 for a, b, y, z in zip(at, at[1:], ys, ys[1:]))
            assert areas[order]["value"] == pytest.approx(by_hand / at[-1])
            assert areas[order]["low"] <= areas[order]["value"] <= areas[order]["high"]
        gain = areas["random"]["value"] - areas["salient"]["value"]
        gain = gain if direction == "deletion" else -gain
        assert areas["salient_gain"]["value"] == pytest.approx(gain)
        assert areas["salient_gain"]["low"] > 0  # the map is faithful, and that is shown


def test_the_result_says_what_it_is_made_of(result):
    assert result["set"] == "dev" and result["classifier"] == "glides"
    assert result["shares"] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert (result["utterances"], result["speakers"], result["left_out"]) == (48, 12, 1)
    assert result["chance"] == 0.5 and result["balanced_accuracy"] > 0.9
    assert abs(result["random_weights_correlation"]) < 0.4
    for order in ORDERS:
        for rate, (low, high) in zip(result["curves"][order], result["intervals"][order]):
            assert low <= rate <= high


def test_a_seed_fixes_everything_and_nothing_is_changed(
    result, glide_classifier, glides, tmp_path
):
    before = {key: value.clone() for key, value in glide_classifier.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert faithfulness(glide_classifier, glides, tmp_path, seed=1) == result
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in glide_classifier.state_dict().items():
        assert torch.equal(value, before[key])


def test_shares_patches_and_limit_are_those_asked_for(glide_classifier, glides, tmp_path):
    policy = MaskPolicy(patch_frames=4, patch_bins=20, fill="floor")
    result = faithfulness(
        glide_classifier, glides, tmp_path, shares=(0.0, 1.0), policy=policy, limit=12
    )
    assert result["utterances"] == 12 and result["speakers"] == 12  # evenly spaced: one a speaker
    assert result["patch"] == [4, 20] and result["fill"] == "floor"
    for order in ORDERS:
        nothing, everything = result["curves"][order]
        assert nothing == result["untouched"]
        assert everything == 0.5  # all alike, so one answer for all


def test_random_weights_give_other_maps(glide_classifier):
    stranger = random_weights(glide_classifier, seed=0)
    twin = random_weights(glide_classifier, seed=0)
    assert not stranger.training
    for (name, mine), other, again in zip(
        glide_classifier.named_parameters(), stranger.parameters(), twin.parameters()
    ):
        assert torch.equal(other, again)
        assert "norm" in name or not torch.equal(mine, other), name


def activation(*maps, lengths):
    return ClassActivation(torch.tensor(maps), torch.tensor(lengths), (1, 1), None, None)


def test_rank_correlation_by_hand():
    first = activation([[1.0, 2.0], [3.0, 9.0]], [[1.0, 2.0], [0.0, 0.0]], lengths=[2, 1])
    second = activation([[1.0, 3.0], [2.0, 4.0]], [[5.0, 1.0], [7.0, 7.0]], lengths=[2, 1])
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15) = 0.8; then 1 2 against 2 1.
    assert rank_correlations(first, second) == pytest.approx([0.8, -1.0])
    flat = activation([[3.0, 3.0], [3.0, 3.0]], [[5.0, 1.0], [7.0, 7.0]], lengths=[2, 1])
    assert rank_correlations(first, flat) == pytest.approx([-1.0])


def test_rolling_moves_frames_within_the_utterance():
    maps = torch.arange(12.0).view(2, 6, 1)
    rolled = roll_in_time(maps, torch.tensor([6, 4]))
    assert rolled[:, :, 0].tolist() == [[3, 4, 5, 0, 1, 2], [8, 9, 6, 7, 10, 11]]


def test_bootstrap_draws_speakers():
    # Two speakers, one always right, one always wrong: resampled accuracy is 0, 1/2 or 1.
    right = np.array([[1.0]] * 50 + [[0.0]] * 50)
    rate, low, high = bootstrap(right, ["a"] * 50 + ["b"] * 50, seed=0)
    assert (rate.tolist(), low.tolist(), high.tolist()) == ([0.5], [0.0], [1.0])
    # A hundred speakers of one utterance: the interval of a proportion, 0.5 +- 1.96 * 0.05.
    rate, low, high = bootstrap(right, [str(i) for i in range(100)], seed=0)
    assert [low[0], high[0]] == pytest.approx([0.402, 0.598], abs=0.02)


def copy_with(folder, target, name, change):
    target.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".flac":
            (target / path.name).write_text(path.read_text())
    (target / name).write_text(change((target / name).read_text()))
    return target


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("utt2accent", lambda text: text.replace("ing\n", "ed\n"), ["utt2accent", "falling"]),
        ("utt2spk", lambda text: text.partition("\n")[2], ["utt2spk", "falling0-0"]),
        ("wav.scp", lambda text: text.replace("falling0-1.", "gone."), ["gone.flac"]),
    ],
)
def test_a_broken_set_is_refused_with_its_name(
    glide_classifier, glides, tmp_path, name, change, words
):
    data = copy_with(glides, tmp_path / "dev", name, change)
    with pytest.raises(UserError) as caught:
        faithfulness(glide_classifier, data, tmp_path / "out", shares=(0.1,))
    assert all(word in str(caught.value) for word in words), str(caught.value)
