"""Masks: how much, where, how often; every probability against one worked out exactly."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from espnet_saliency.saliency.masking import draw, freeze, place, sample_mask
from espnet_saliency.saliency.policy import MaskPolicy

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
@pytest.mark.parametrize("weight_by", ["value", "rank"])
def test_without_saliency_every_patch_is_as_likely(saliency, temperature, weight_by):
    draws = 40000
    policy = replace(
        ALWAYS, temperature=temperature, weight_by=weight_by, mask_ratio=(0.25, 0.25)
    )
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


@pytest.mark.parametrize("weight_by", ["value", "rank"])
@pytest.mark.parametrize("uniform_mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.0, 0.2, 1.0])
def test_a_map_of_zeros_gives_the_mask_of_the_random_control(weight_by, uniform_mix, temperature):
    policy = MaskPolicy(
        patch_frames=2, patch_bins=2, apply_prob=1.0, weight_by=weight_by,
        uniform_mix=uniform_mix, temperature=temperature,
    )  # fmt: skip
    lengths = torch.tensor([200, 170, 90, 120])  # patches enough for ties by rounding
    maps = torch.rand(4, 200, 80, generator=seeded(2))
    maps[1] = maps[3] = 0.0
    mask = sample_mask(maps, lengths, (200, 80), policy, seeded())
    random = sample_mask(None, lengths, (200, 80), policy, seeded())
    assert torch.equal(mask[[1, 3]], random[[1, 3]]) and random[1].any() and random[3].any()
    if uniform_mix < 1.0:
        assert not torch.equal(mask[0], random[0]) and not torch.equal(mask[2], random[2])


@pytest.mark.parametrize("count", [1, 2])
def test_by_rank_only_the_order_of_patches_counts(count):
    # Ranks 0, 1, 2, 3 whatever the values; with m = 0.2: p = 0.8 r / 6 + 0.05.
    draws = 40000
    policy = replace(
        ALWAYS, weight_by="rank", uniform_mix=0.2, mask_ratio=(count / 4, count / 4)
    )
    lengths = torch.full((draws,), 4)
    expected = inclusion([0.05, 0.05 + 0.8 / 6, 0.05 + 1.6 / 6, 0.45], count)
    masks = []
    for saliency in ([0.0, 0.1, 0.2, 1.0], [0.97, 0.98, 0.99, 1.0]):
        maps = torch.tensor(saliency)[None, :, None].expand(draws, 4, 1)
        masks.append(sample_mask(maps, lengths, (4, 1), policy, seeded()))
    assert torch.equal(*masks)
    assert masks[0][:, :, 0].float().mean(dim=0).tolist() == pytest.approx(expected, abs=0.01)


def test_patches_of_equal_saliency_share_a_rank():
    # Ranks 1, 1, 3 and 0, however many patches of padding there are.
    maps = torch.tensor([0.5, 0.5, 0.9, 0.0, 0.0, 0.7])[None, :, None].expand(40000, 6, 1)
    policy = replace(ALWAYS, weight_by="rank", mask_ratio=(0.25, 0.25))
    mask = sample_mask(maps, torch.full((40000,), 4), (6, 1), policy, seeded())
    share = mask[:, :, 0].float().mean(dim=0).tolist()
    assert share == pytest.approx([0.2, 0.2, 0.6, 0.0, 0.0, 0.0], abs=0.01)


@pytest.mark.parametrize(
    "axis, expected",
    [
        # Mean over mel bins: 0.3, 0.5, 0.2, 0.4. Mean over frames: 0.35, 0.3, 0.4.
        ("time", [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1), (3, 2)]),
        ("frequency", [(0, 0), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2), (3, 0), (3, 2)]),
    ],
)
def test_maps_of_one_axis_mask_all_of_the_other(axis, expected):
    maps = torch.tensor([[[0.0, 0.0, 0.9], [0.5, 0.5, 0.5], [0.4, 0.2, 0.0], [0.5, 0.5, 0.2]]])
    share = len(expected) / 12
    policy = replace(ALWAYS, axis=axis, temperature=0.0, mask_ratio=(share, share))
    for seed in range(5):
        mask = sample_mask(maps, torch.tensor([4]), (4, 3), policy, seeded(seed))
        assert [tuple(cell) for cell in mask[0].nonzero().tolist()] == expected
    longer = torch.cat([maps, torch.ones(1, 3, 3)], dim=1)
    mask = sample_mask(longer, torch.tensor([4]), (7, 3), policy, seeded())
    assert [tuple(cell) for cell in mask[0].nonzero().tolist()] == expected


@pytest.mark.parametrize("axis, still, moving", [("time", 1, 0), ("frequency", 0, 1)])
def test_a_grid_of_one_axis_moves_along_it_alone(axis, still, moving):
    policy = MaskPolicy(patch_frames=3, patch_bins=4, axis=axis)
    draws = draw(2000, (20, 10), policy, seeded())
    assert (draws.shift[:, still] == 0).all()
    assert set(draws.shift[:, moving].tolist()) == set(range((3, 4)[moving]))
    lengths = torch.full((2000,), 20)
    always = replace(policy, apply_prob=1.0, mask_ratio=0.4, min_unmasked_frames=0)
    mask = sample_mask(None, lengths, (20, 10), always, seeded())
    across = mask.float().mean(dim=2 - moving)  # (B, F) or (B, T): 0 or 1 where all agree
    assert set(across.unique().tolist()) == {0.0, 1.0}
    half_a_patch = 0.5 * (3 / 20, 4 / 10)[moving] + 1e-6
    assert ((mask.float().mean(dim=(1, 2)) - 0.4).abs() <= half_a_patch).all()


def test_an_utterance_shorter_than_a_patch_is_one_patch():
    policy = replace(ALWAYS, patch_frames=8, patch_bins=4, mask_ratio=(0.5, 0.5))
    maps = torch.rand(1, 3, 8, generator=seeded())
    mask = sample_mask(maps, torch.tensor([3]), (3, 8), policy, seeded())
    assert mask.sum() == 12 and mask[0].all(dim=0).sum() == 4  # all frames of one patch of 4 bins


def frozen(keys, lengths, size, policy, seed):
    draws = draw(len(keys), size, policy, seeded(seed))
    return place(freeze(draws, keys, lengths, size, policy), None, lengths, size, policy)


def test_frozen_masks_are_the_same_cells_whatever_the_seed_and_the_batch():
    policy = MaskPolicy(patch_frames=3, patch_bins=4, apply_prob=1.0, mask_ratio=0.3)
    keys, lengths = [11, 12, 13], torch.tensor([40, 31, 17])
    mask = frozen(keys, lengths, (40, 16), policy, 0)
    assert torch.equal(mask, frozen(keys, lengths, (40, 16), policy, 1))
    for index in range(3):
        length = lengths[index : index + 1]
        alone = frozen(keys[index : index + 1], length, (int(length), 16), policy, 2)
        assert torch.equal(mask[index, : int(length)], alone[0]) and alone.any()
    other = frozen([21, 22, 23], lengths, (40, 16), policy, 0)
    assert all(not torch.equal(one, two) for one, two in zip(mask, other))
    twins = frozen([5, 5], torch.tensor([40, 40]), (40, 16), policy, 0)
    assert torch.equal(twins[0], twins[1])


def test_frozen_masks_grow_with_the_share_and_keep_the_participants():
    small = MaskPolicy(apply_prob=0.5, mask_ratio=0.1)
    large = MaskPolicy(apply_prob=0.5, mask_ratio=0.4)
    keys, lengths = list(range(60)), torch.full((60,), 40)
    masks = [frozen(keys, lengths, (40, 16), policy, 3) for policy in (small, large)]
    assert not (masks[0] & ~masks[1]).any() and masks[1].sum() > 2 * masks[0].sum()
    active = draw(60, (40, 16), large, seeded(3)).active
    assert torch.equal(masks[1].flatten(1).any(dim=1), active)
