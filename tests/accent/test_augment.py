"""Crops and SpecAugment of the classifier's input."""

from __future__ import annotations

import pytest
import torch
from espnet_saliency.accent.augment import CropSpecAug, random_crop
from espnet_saliency.errors import UserError

SPECAUG = {
    "apply_time_warp": False,
    "freq_mask_width_range": [4, 5],
    "num_freq_mask": 1,
    "time_mask_width_range": [6, 7],
    "num_time_mask": 1,
}


def ramp(batch: int, frames: int, bins: int = 8) -> torch.Tensor:
    """Each frame says which utterance and frame it is."""
    x = torch.arange(frames, dtype=torch.float32)[None, :, None].expand(batch, frames, bins)
    return (x + 1000 * torch.arange(1, batch + 1)[:, None, None]).clone()


def test_a_crop_is_a_run_of_the_utterance_own_frames():
    x, lengths = ramp(3, 100), torch.tensor([100, 40, 10])
    torch.manual_seed(3)
    starts = set()
    for _ in range(200):
        y, n = random_crop(x, lengths, 30)
        assert y.shape == (3, 30, 8) and n.tolist() == [30, 30, 10]
        for i, length in enumerate(lengths.tolist()):
            run = y[i, : n[i], 0] - 1000 * (i + 1)
            assert torch.equal(run, run[0] + torch.arange(int(n[i])))
            assert 0 <= run[0] and run[-1] < length
            starts.add((i, int(run[0])))
    # All 11 starts of 30 frames in 40 turn up, the first and the last too.
    assert {s for i, s in starts if i == 1} == set(range(11))
    assert {s for i, s in starts if i == 2} == {0}


def test_a_crop_longer_than_the_batch_changes_nothing():
    x, lengths = ramp(2, 20), torch.tensor([20, 12])
    x[1, 12:] = 0.0
    y, n = CropSpecAug(crop_frames=50)(x, lengths)
    assert torch.equal(y, x) and torch.equal(n, lengths)
    y, n = CropSpecAug(crop_frames=None)(x, lengths)
    assert torch.equal(y, x) and torch.equal(n, lengths)


def test_what_specaugment_hides_becomes_the_mean_and_padding_stays_zero():
    x = torch.randn(4, 60, 20) * 3 - 8
    lengths = torch.tensor([60, 50, 40, 30])
    torch.manual_seed(0)
    y, n = CropSpecAug(crop_frames=None, specaug=SPECAUG)(x, lengths)
    for i, length in enumerate(lengths.tolist()):
        mean = x[i, :length].mean(dim=0)
        hidden = torch.isclose(y[i, :length], mean.expand(length, 20), atol=1e-5)
        kept = torch.isclose(y[i, :length], x[i, :length], atol=1e-5)
        assert (hidden | kept).all()
        assert (hidden.all(dim=0)).sum() == 4
        assert (y[i, length:] == 0).all()
    assert torch.equal(n, lengths)


def test_torch_seed_decides_and_the_caller_keeps_its_tensor():
    augment = CropSpecAug(crop_frames=25, specaug=SPECAUG)
    x, lengths = torch.randn(3, 60, 20), torch.tensor([60, 30, 12])
    before = x.clone()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(x, lengths)[0])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert torch.equal(x, before) and lengths.tolist() == [60, 30, 12]


@pytest.mark.parametrize("frames", [1, 2, 10])
def test_very_short_utterances_pass(frames):
    y, n = CropSpecAug(crop_frames=25, specaug=SPECAUG)(
        torch.randn(1, frames, 20), torch.tensor([frames])
    )
    assert y.shape == (1, frames, 20) and n.tolist() == [frames] and torch.isfinite(y).all()


def test_without_lengths_all_frames_count():
    y, n = CropSpecAug(crop_frames=5)(torch.randn(2, 9, 20))
    assert y.shape == (2, 5, 20) and n.tolist() == [5, 5]


def test_a_crop_of_nothing_is_refused():
    with pytest.raises(UserError, match="crop_frames must be positive, not 0"):
        CropSpecAug(crop_frames=0)
