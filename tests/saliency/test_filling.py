"""What masked cells are filled with, worked out by hand."""

from __future__ import annotations

import pytest
import torch
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.filling import FILLS, fill


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_shuffled_in_time_each_cell_gets_another_frame_of_its_bin():
    # With two frames the other one is certain; one frame has no other; 50 stands in padding.
    x = torch.full((2, 3, 2), 50.0)
    x[0, :2] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    x[1, :1] = torch.tensor([[5.0, 6.0]])
    mask = torch.zeros(2, 3, 2, dtype=torch.bool)
    mask[0, 0] = mask[0, 1, 0] = mask[1, 0, 0] = True
    filled = fill(x, mask, torch.tensor([2, 1]), "shuffle_time", seeded())
    assert filled[0].tolist() == [[3.0, 4.0], [1.0, 4.0], [50.0, 50.0]]
    assert torch.equal(filled[1], x[1])


def test_shuffled_in_time_every_other_frame_is_as_likely():
    x = torch.arange(4.0)[None, :, None].expand(1, 4, 20000) + 10.0 * torch.arange(20000)
    everywhere = torch.ones_like(x, dtype=torch.bool)
    filled = fill(x, everywhere, torch.tensor([4]), "shuffle_time", seeded())
    frame = (filled - 10.0 * torch.arange(20000))[0].long()  # (4, 20000), where each came from
    for own in range(4):
        share = torch.bincount(frame[own], minlength=4) / 20000
        expected = [0.0 if other == own else 1 / 3 for other in range(4)]
        assert share.tolist() == pytest.approx(expected, abs=0.014)
    assert not torch.equal(frame[0, :-1], frame[0, 1:])  # each bin by itself


def test_an_unknown_fill_is_refused():
    x = torch.zeros(1, 2, 2)
    with pytest.raises(UserError, match="fill: 'silence' is not one of mean, floor"):
        fill(x, x > 0, torch.tensor([2]), "silence")
