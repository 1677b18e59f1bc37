"""Masks: how much, where, how often; every probability against one worked out exactly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.masking import FILLS, MaskPolicy, draw, fill, place, sample_mask

ALWAYS = MaskPolicy(
    patch_frames=1, patch_bins=1, apply_prob=1.0, uniform_mix=0.0, min_unmasked_frames=0,
    shift_grid=False,
)  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inclusion(weights: list[float], count: int) -> list[float]:
    """Probability that each item is among `count` drawn one by one without replacement."""
    result = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), count):
        probability, left = 1.0, sum(weights)
        for item in order:
            probability *= weights[item] / left
            left -= weights[item]
        for item in order:
            result[item] += probability
    return result


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("uniform_mix", [0.0, 0.2])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_patches_are_drawn_in_proportion_to_saliency(temperature, uniform_mix, count):
    saliency = [0.1, 0.2, 0.3, 1.0]
    draws = 60000
    policy = replace(
        ALWAYS, temperature=temperature, uniform_mix=uniform_mix, mask_ratio=(count / 4, count / 4)
    )
    maps = torch.tensor(saliency)[None, :, None].expand(draws, 4, 1)
    mask = sample_mask(maps, torch.full((draws,), 4), (4, 1), policy, seeded())
    assert (mask.sum(dim=(1, 2)) == count).all()
    mixed = [(1 - uniform_mix) * s / sum(saliency) + uniform_mix / 4 for s in saliency]
    expected = inclusion([p ** (1 / temperature) for p in mixed], count)
    # Four standard errors of a share of 60000 draws are at most 0.0082.
    assert mask[:, :, 0].float().mean(dim=0).tolist() == pytest.approx(expected, abs=0.0082)


@pytest.mark.parametrize("saliency", [None, [0.0, 0.0, 0.0, 0.0], [0.7, 0.7, 0.7, 0.7]])
@pytest.mark.parametrize("temperature", [0.0, 1.0, math.inf])
def test_without_saliency_every_patch_is_as_likely(saliency, temperature):
    draws = 40000
    policy = replace(ALWAYS, temperature=temperature, mask_ratio=(0.25, 0.25))
    maps = None if saliency is None else torch.tensor(saliency)[None, :, None].expand(draws, 4, 1)
    mask = sample_mask(maps, torch.full((draws,), 4), (4, 1), policy, seeded(1))
    assert mask[:, :, 0].float().mean(dim=0).tolist() == pytest.approx([0.25] * 4, abs=0.009)


def test_infinite_temperature_is_the_random_control():
    maps = torch.rand(6, 40, 16, generator=seeded(2))
    lengths = torch.tensor([40, 33, 20, 9, 4, 1])
    policy = MaskPolicy(apply_prob=1.0, temperature=math.inf)
    salient = sample_mask(maps, lengths, (40, 16), policy, seeded())
    assert torch.equal(salient, sample_mask(None, lengths, (40, 16), policy, seeded()))
    assert salient.any()


def test_temperature_zero_is_the_top():
    maps = torch.tensor([[[0.1, 0.9], [0.4, 0.2], [0.8, 0.3]]])
    policy = replace(ALWAYS, temperature=0.0, mask_ratio=(0.5, 0.5))
    for seed in range(20):
        mask = sample_mask(maps, torch.tensor([3]), (3, 2), policy, seeded(seed))
        assert mask[0].tolist() == [[False, True], [True, False], [True, False]]


def test_a_patch_of_no_saliency_needs_the_mixture_or_the_last_place():
    maps = torch.tensor([1.0, 1.0, 0.0, 0.0])[None, :, None].expand(20000, 4, 1)
    lengths = torch.full((20000,), 4)
    half = replace(ALWAYS, mask_ratio=(0.5, 0.5))
    assert not sample_mask(maps, lengths, (4, 1), half, seeded())[:, 2:].any()
    mixed = sample_mask(maps, lengths, (4, 1), replace(half, uniform_mix=0.2), seeded())
    expected = inclusion([0.45, 0.45, 0.05, 0.05], 2)
    assert mixed[:, :, 0].float().mean(dim=0).tolist() == pytest.approx(expected, abs=0.014)
    more = sample_mask(maps, lengths, (4, 1), replace(half, mask_ratio=(0.75, 0.75)), seeded())
    assert (more.sum(dim=(1, 2)) == 3).all()


def test_patch_saliency_is_a_mean_over_what_is_left_of_the_patch():
    # Patches of 2 x 2 over 3 x 3 cells: the corner patch is one cell of 0.5, others average less.
    maps = torch.tensor([[[0.9, 0.0, 0.4], [0.0, 0.0, 0.4], [0.4, 0.4, 0.5]]])
    policy = replace(ALWAYS, patch_frames=2, patch_bins=2, temperature=0.0, mask_ratio=(0.1, 0.1))
    mask = sample_mask(maps, torch.tensor([3]), (3, 3), policy, seeded())
    assert mask[0].nonzero().tolist() == [[2, 2]]


@pytest.mark.parametrize("shift_grid", [False, True])
@pytest.mark.parametrize("saliency", [False, True])
def test_masked_share_is_within_half_a_patch(shift_grid, saliency):
    policy = MaskPolicy(
        patch_frames=6, patch_bins=5, mask_ratio=(0.1, 0.4), apply_prob=1.0, shift_grid=shift_grid
    )
    lengths = torch.tensor([61, 50, 33, 20] * 50)
    size = (61, 16)
    draws = draw(len(lengths), size, policy, seeded())
    maps = torch.rand(len(lengths), *size, generator=seeded(1)) if saliency else None
    mask = place(draws, maps, lengths, size, policy)
    masked = mask.sum(dim=(1, 2))
    assert ((masked - draws.share * lengths * size[1]).abs() <= 6 * 5 / 2).all()
    assert draws.share.min() >= 0.1 and draws.share.max() <= 0.4
    assert draws.share.std() > 0.07  # evenly from [0.1, 0.4]: 0.3 / sqrt(12) = 0.087


def test_masks_are_whole_patches_of_the_grid():
    policy = MaskPolicy(patch_frames=3, patch_bins=4, apply_prob=1.0, min_unmasked_frames=0)
    lengths = torch.tensor([20, 13])
    draws = draw(2, (20, 10), policy, seeded(3))
    mask = place(draws, None, lengths, (20, 10), policy)
    for index, length in enumerate(lengths.tolist()):
        shift = draws.shift[index].tolist()
        patches = {}
        for frame, mel in itertools.product(range(length), range(10)):
            patch = ((frame + shift[0]) // 3, (mel + shift[1]) // 4)
            patches.setdefault(patch, set()).add(bool(mask[index, frame, mel]))
        assert all(len(values) == 1 for values in patches.values())
        assert {True} in patches.values() and {False} in patches.values()


def test_the_grid_shifts_evenly_or_not_at_all():
    policy = MaskPolicy(patch_frames=3, patch_bins=4)
    shift = draw(20000, (20, 10), policy, seeded()).shift
    for axis, step in enumerate((3, 4)):
        share = torch.bincount(shift[:, axis], minlength=step) / 20000
        assert share.tolist() == pytest.approx([1 / step] * step, abs=0.014)
    still = draw(100, (20, 10), replace(policy, shift_grid=False), seeded())
    assert (still.shift == 0).all()


@pytest.mark.parametrize("method", ["salient", "random"])
@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_short_utterances_survive(method, ratio):
    lengths = torch.arange(1, 11).repeat(200)
    policy = MaskPolicy(apply_prob=1.0, mask_ratio=ratio, min_unmasked_frames=4)
    maps = torch.rand(len(lengths), 12, 16, generator=seeded()) if method == "salient" else None
    mask = sample_mask(maps, lengths, (12, 16), policy, seeded(1))
    for index, length in enumerate(lengths.tolist()):
        assert not mask[index, length:].any()
        untouched = int((~mask[index, :length].any(dim=1)).sum())
        assert untouched >= min(length, 4)
        if ratio == 1.0:
            assert untouched == min(length, 4)  # all the rest is masked, and it is one run
            frames = (~mask[index, :length].any(dim=1)).nonzero()[:, 0]
            assert frames.max() - frames.min() == untouched - 1
    starts = {int((~mask[i].any(dim=1)).nonzero()[0]) for i in range(9, 2000, 10)}
    assert ratio < 1.0 or starts == set(range(7))  # of 10 frames, 4 untouched: 7 places


def test_padding_has_no_say_and_is_never_masked():
    policy = MaskPolicy(apply_prob=1.0, patch_frames=5, patch_bins=5, mask_ratio=0.5)
    lengths = torch.tensor([30, 17, 6, 1])
    maps = torch.rand(4, 30, 16, generator=seeded())
    valid = torch.arange(30) < lengths[:, None]
    loud = maps.masked_fill(~valid[:, :, None], 1e6)
    for seed in range(10):  # grids that are cut by the end of an utterance in many places
        mask = sample_mask(maps, lengths, (30, 16), policy, seeded(seed))
        assert torch.equal(mask, sample_mask(loud, lengths, (30, 16), policy, seeded(seed)))
        assert not mask[~valid].any() and mask[0].any() and mask[1].any()


def test_participation():
    lengths = torch.full((4000,), 12)
    policy = MaskPolicy(apply_prob=0.3, mask_ratio=0.5, min_unmasked_frames=0)
    mask = sample_mask(None, lengths, (12, 16), policy, seeded())
    assert float(mask.any(dim=2).any(dim=1).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not sample_mask(None, lengths, (12, 16), replace(policy, apply_prob=0.0)).any()
    always = sample_mask(None, lengths, (12, 16), replace(policy, apply_prob=1.0))
    assert always.any(dim=2).any(dim=1).all()


def test_items_of_a_batch_differ_and_a_seed_repeats():
    lengths = torch.full((8,), 40)
    policy = MaskPolicy(apply_prob=1.0)
    maps = torch.rand(1, 40, 16, generator=seeded()).expand(8, 40, 16)
    mask = sample_mask(maps, lengths, (40, 16), policy, seeded(5))
    assert len({tuple(item.flatten().tolist()) for item in mask}) == 8
    assert torch.equal(mask, sample_mask(maps, lengths, (40, 16), policy, seeded(5)))
    assert not torch.equal(mask, sample_mask(maps, lengths, (40, 16), policy, seeded(6)))
    torch.manual_seed(5)
    assert torch.equal(mask, sample_mask(maps, lengths, (40, 16), policy))


def test_saliency_and_control_share_participants_and_shares():
    policy = MaskPolicy(patch_frames=1, patch_bins=1, mask_ratio=(0.05, 0.6))
    lengths = torch.randint(6, 41, (64,), generator=seeded())
    maps = torch.rand(64, 40, 16, generator=seeded()) ** 3
    salient = sample_mask(maps, lengths, (40, 16), policy, seeded(1))
    control = sample_mask(None, lengths, (40, 16), policy, seeded(1))
    assert torch.equal(salient.sum(dim=(1, 2)), control.sum(dim=(1, 2)))
    assert not torch.equal(salient, control)
    hidden = (maps * salient).sum() / salient.sum(), (maps * control).sum() / control.sum()
    assert hidden[0] > 1.3 * hidden[1]


def test_fills_by_hand():
    # Two utterances of 2 and 1 frames, 2 mel bins; 50 and -50 stand in padding.
    x = torch.tensor([[[1.0, -4.0], [3.0, -8.0]], [[2.0, 6.0], [50.0, -50.0]]])
    lengths = torch.tensor([2, 1])
    mask = torch.tensor([[[True, False], [False, True]], [[True, False], [False, False]]])
    expected = {
        "mean": [[[2.0, -4.0], [3.0, -6.0]], [[2.0, 6.0], [50.0, -50.0]]],
        "floor": [[[-8.0, -4.0], [3.0, -8.0]], [[2.0, 6.0], [50.0, -50.0]]],
        "zero": [[[0.0, -4.0], [3.0, 0.0]], [[0.0, 6.0], [50.0, -50.0]]],
    }
    before = x.clone()
    for how, values in expected.items():
        assert fill(x, mask, lengths, how).tolist() == values, how
    assert torch.equal(x, before)


def test_noise_has_the_mean_and_deviation_of_each_bin():
    x = torch.randn(1, 6000, 2, generator=seeded()) * torch.tensor([0.5, 3.0])
    x = x + torch.tensor([-7.0, 2.0])
    x[:, 5000:] = 1e4  # padding
    lengths = torch.tensor([5000])
    mask = torch.zeros(1, 6000, 2, dtype=torch.bool)
    mask[:, :5000] = True
    filled = fill(x, mask, lengths, "noise", seeded(1))[0, :5000]
    assert filled.mean(dim=0).tolist() == pytest.approx([-7.0, 2.0], abs=0.15)
    assert filled.std(dim=0).tolist() == pytest.approx([0.5, 3.0], rel=0.05)
    assert not torch.equal(filled, x[0, :5000])
    assert torch.equal(filled, fill(x, mask, lengths, "noise", seeded(1))[0, :5000])


@pytest.mark.parametrize("how", FILLS)
def test_gradients_flow_around_the_mask_only(how):
    x = torch.randn(1, 4, 3, generator=seeded()).requires_grad_()
    mask = torch.zeros(1, 4, 3, dtype=torch.bool)
    mask[0, 1, 2] = True
    fill(x, mask, torch.tensor([4]), how, seeded()).sum().backward()
    assert torch.equal(x.grad, (~mask).float())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"patch_frames": 0}, ["patch_frames", "0", ">= 1"]),
        ({"patch_bins": 2.5}, ["patch_bins", "2.5", ">= 1"]),
        ({"min_unmasked_frames": -1}, ["min_unmasked_frames", "-1", ">= 0"]),
        ({"mask_ratio": (0.4, 0.2)}, ["mask_ratio", "0.4", "0.2"]),
        ({"mask_ratio": 1.2}, ["mask_ratio", "1.2", "[0, 1]"]),
        ({"mask_ratio": (0.1, 0.2, 0.3)}, ["mask_ratio", "0.3"]),
        ({"apply_prob": "often"}, ["apply_prob", "often", "[0, 1]"]),
        ({"apply_prob": float("nan")}, ["apply_prob", "nan", "[0, 1]"]),
        ({"apply_prob": None}, ["apply_prob", "None"]),
        ({"temperature": -1.0}, ["temperature", "-1.0", ">= 0"]),
        ({"uniform_mix": 2}, ["uniform_mix", "2", "[0, 1]"]),
        ({"shift_grid": "yes"}, ["shift_grid", "yes"]),
        ({"fill": "silence"}, ["fill", "silence", "mean", "floor", "noise", "zero"]),
    ],
)
def test_a_policy_out_of_range_is_refused(options, words):
    with pytest.raises(UserError) as caught:
        MaskPolicy(**options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_numbers_as_yaml_writes_them():
    policy = MaskPolicy(mask_ratio=[0.1, 1], temperature="inf", apply_prob="1e-1")
    assert policy.mask_ratio == (0.1, 1.0)
    assert policy.temperature == math.inf and policy.apply_prob == 0.1
