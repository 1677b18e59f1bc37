"""Fills that change the accent, protection of what the words need, and either-or with SpecAugment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.phonetic import phonetic_change
from espnet_saliency.saliency.policy import MaskPolicy
from espnet_saliency.saliency.specaug import SaliencySpecAug, needs_classifier
from espnet_saliency.saliency.transfer import Chances, change, draw_chances


class Heard(torch.nn.Module):
    """Hears the accent that it is told to."""

    def __init__(self, classes):
        super().__init__()
        self.classes = torch.tensor(classes)

    def forward(self, feats, lengths):
        return torch.nn.functional.one_hot(self.classes, 3).float()


def test_accent_mix_by_hand():
    # Three utterances of two bins; the third has four frames, the others two.
    x = torch.tensor(
        [
            [[1.0, 0.0], [3.0, 4.0], [9.0, 9.0], [9.0, 9.0]],
            [[5.0, 5.0], [7.0, 7.0], [9.0, 9.0], [9.0, 9.0]],
            [[10.0, 0.0], [20.0, 0.0], [10.0, 2.0], [20.0, 2.0]],
        ]
    )
    lengths = torch.tensor([2, 2, 4])
    mask = torch.zeros(3, 4, 2, dtype=torch.bool)
    mask[0, 0] = mask[2, 1, 0] = True
    policy = MaskPolicy(fill="accent_mix")
    chances = Chances(torch.tensor([0.9, 0.0, 0.6]), torch.tensor([0.25, 0.0, 0.0]))
    # The first two are heard alike: the only partner of the first is the third, whatever is drawn;
    # 0.6 of two partners is the second one of the third's.
    mixed = change(Heard([0, 0, 1]), x, mask, lengths, policy, chances)
    # First utterance: means 2, 2 and deviations 1, 2; third: means 15, 1, deviations 5, 1.
    # lambda 0.25: means 11.75, 1.25, deviations 4, 1.25; cell (1, 0) is -1 deviation in both bins.
    assert mixed[0, 0].tolist() == pytest.approx([11.75 - 4.0, 1.25 - 1.25])
    # Third: cell 20 is +1 deviation; of the second utterance means 6, 6 and deviations 1, 1.
    assert mixed[2, 1, 0].item() == pytest.approx(7.0)
    assert torch.equal(mixed[~mask], x[~mask])


def test_accent_mix_leaves_a_batch_of_one_accent_alone():
    x, lengths = torch.randn(2, 6, 4), torch.tensor([6, 5])
    mask = torch.ones_like(x, dtype=torch.bool)
    policy = MaskPolicy(fill="accent_mix")
    assert torch.equal(change(Heard([1, 1]), x, mask, lengths, policy, draw_chances(2, policy)), x)


def test_accent_shift_moves_towards_the_other_accent_within_its_bound(classifier, batch):
    feats, lengths = batch
    mask = torch.zeros_like(feats, dtype=torch.bool)
    mask[:, :6, 4:12] = torch.arange(6)[None, :, None] < lengths[:, None, None]
    policy = MaskPolicy(fill="accent_shift", shift_step=0.5)
    chances = Chances(torch.full((4,), 0.2), torch.zeros(4))
    before = classifier(feats, lengths)
    heard = before.argmax(dim=1)
    other = (heard + 1) % 3  # 0.2 of two others is the first
    shifted = change(classifier, feats, mask, lengths, policy, chances)
    assert torch.equal(shifted[~mask], feats[~mask])
    after = classifier(shifted, lengths)
    rows = torch.arange(4)
    gain = (after - before)[rows, other] - (after - before)[rows, heard]
    assert (gain > 0).all()
    for row, n in enumerate(lengths.tolist()):
        deviation = feats[row, :n].numpy().std(axis=0)
        step = (shifted - feats)[row, :n].abs().max(dim=0).values.numpy()
        assert (step <= 0.5 * deviation + 1e-5).all()
        assert step[4:12].max() > 0.1
    assert all(p.grad is None for p in classifier.parameters())


def test_a_bare_true_in_yaml_is_the_target_true():
    assert SaliencySpecAug(classifier="x", target=True).target == "true"


def test_beta_is_that_of_mixstyle():
    torch.manual_seed(0)
    weights = draw_chances(20_000, MaskPolicy(fill="accent_mix", mix_alpha=0.1)).weight
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert weights.mean() == pytest.approx(0.5, abs=0.01)
    assert weights.var() == pytest.approx(1 / (4 * 1.2), abs=0.005)


def test_changed_cells_are_those_that_any_other_fill_would_get(classifier, batch):
    feats, lengths = batch
    masks = {}
    for fill in ("mean", "accent_mix", "accent_shift"):
        specaug = SaliencySpecAug(classifier="unused", fill=fill, apply_prob=1.0)
        specaug.use(classifier)
        torch.manual_seed(3)
        masks[fill] = specaug(feats, lengths)[0] != feats
    assert masks["mean"].any()
    for fill in ("accent_mix", "accent_shift"):
        assert masks[fill].any() and not (masks[fill] & ~masks["mean"]).any()


def test_random_masks_may_be_filled_by_a_change(classifier, batch):
    feats, lengths = batch
    assert needs_classifier({"method": "random", "fill": "accent_mix"})
    assert not needs_classifier({"method": "random", "fill": "mean"})
    specaug = SaliencySpecAug("random", classifier="unused", fill="accent_shift", apply_prob=1.0)
    specaug.use(classifier)
    assert not torch.equal(specaug(feats, lengths)[0], feats)
    with pytest.raises(UserError, match="fill accent_mix needs the experiment folder"):
        SaliencySpecAug("random", fill="accent_mix")


def test_protection_keeps_masks_off_what_changes(classifier):
    torch.manual_seed(0)
    feats = torch.full((8, 64, 16), -4.0)
    feats[:, 24:40] = torch.randn(8, 16, 16) * 4  # all that changes lies here
    lengths = torch.full((8,), 64)
    hidden = {}
    for name, options in {
        "random": {"method": "random"},
        "spared": {"method": "random", "protect": "change", "protect_strength": 4.0},
    }.items():
        specaug = SaliencySpecAug(
            apply_prob=1.0, mask_ratio=0.3, patch_frames=4, patch_bins=4, uniform_mix=0.0, **options
        )
        masks = torch.cat([specaug.mask(feats, lengths) for _ in range(20)])
        hidden[name] = masks[:, 24:40].float().mean() / masks.float().mean()
    assert hidden["random"] == pytest.approx(1.0, abs=0.1)
    assert hidden["spared"] < 0.75 * hidden["random"]
    assert phonetic_change(feats, lengths)[:, :20].max() == 0


def test_either_saliency_masks_or_specaugment(classifier, batch):
    feats, lengths = batch
    stock = {"apply_time_warp": False, "apply_freq_mask": False, "apply_time_mask": True,
             "time_mask_width_range": [2, 3], "num_time_mask": 1}  # fmt: skip
    options = {"method": "random", "apply_prob": 0.5, "specaug": stock, "fill": "floor",
               "min_unmasked_frames": 0}  # fmt: skip
    either = SaliencySpecAug(**options, specaug_for="unmasked")
    both = SaliencySpecAug(**options)
    alone = SaliencySpecAug(**{**options, "specaug": None})
    seen = set()
    for seed in range(30):
        results = []
        for specaug in (either, both, alone):
            torch.manual_seed(seed)
            results.append(specaug(feats, lengths)[0])
        masked = (results[2] != feats).flatten(1).any(dim=1)
        for row, ours in enumerate(masked.tolist()):
            assert torch.equal(results[0][row], results[2 if ours else 1][row])
            seen.add(ours)
    assert seen == {True, False}
    with pytest.raises(UserError, match="unmasked has no say without specaug"):
        SaliencySpecAug("random", specaug_for="unmasked")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mix_alpha": 0}, "mix_alpha: 0 is not above 0"),
        ({"shift_step": -1}, "shift_step: -1 is not a number within"),
        ({"protect": "words"}, "protect: 'words' is not one of none, change, recogniser"),
        ({"fill": "accent"}, "fill: 'accent' is not one of mean, floor, noise, zero, shuffle_time, acc"),
        ({"specaug_for": "some"}, "specaug_for: 'some' is not one of all, unmasked"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        SaliencySpecAug("random", classifier="x", **options)


def test_deviation_is_bounded_below():
    # A bin that never changes is not blown up by another's deviation, nor divided by zero.
    x = torch.zeros(2, 4, 1)
    x[1, :, 0] = torch.tensor([0.0, 2.0, 0.0, 2.0])
    policy = MaskPolicy(fill="accent_mix")
    chances = Chances(torch.zeros(2), torch.zeros(2))
    mask = torch.ones_like(x, dtype=torch.bool)
    mixed = change(Heard([0, 1]), x, mask, torch.tensor([4, 4]), policy, chances)
    assert np.isfinite(mixed.numpy()).all()
    assert mixed[0].flatten().tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("fill", ["accent_mix", "accent_shift"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_features_of_another_precision_are_changed_as_well(classifier, batch, fill, dtype):
    feats, lengths = batch
    specaug = SaliencySpecAug(classifier="unused", fill=fill, apply_prob=1.0)
    specaug.use(classifier)
    changed, _ = specaug(feats.to(dtype), lengths)
    assert changed.dtype == dtype and not torch.equal(changed, feats.to(dtype))


def test_an_utterance_without_another_accent_beside_it_gets_the_specaugment_instead():
    stock = {"apply_time_warp": False, "apply_freq_mask": False, "apply_time_mask": True,
             "time_mask_width_range": [2, 3], "num_time_mask": 1}  # fmt: skip
    specaug = SaliencySpecAug(
        "random", classifier="unused", fill="accent_mix", apply_prob=1.0, min_unmasked_frames=0,
        specaug=stock, specaug_for="unmasked",
    )  # fmt: skip
    specaug.changer.get = lambda x: Heard([1, 1, 1])
    feats, lengths = torch.randn(3, 20, 16), torch.tensor([20, 20, 20])
    augmented, _ = specaug(feats, lengths)
    for row in range(3):
        zeroed = (augmented[row] == 0).all(dim=1)
        assert 2 <= zeroed.sum() <= 3 and torch.equal(augmented[row][~zeroed], feats[row][~zeroed])
