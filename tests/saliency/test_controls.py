"""Control maps by hand."""

from __future__ import annotations

import torch
from espnet_saliency.saliency.controls import energy, least, of_the_next, roll_in_time


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def test_rolled_by_half_of_each_utterance():
    maps = torch.stack([column(1, 2, 3, 4, 5), column(1, 2, 3, 0, 0)])
    rolled = roll_in_time(maps, torch.tensor([5, 3]))
    assert rolled[..., 0].tolist() == [[4, 5, 1, 2, 3], [3, 1, 2, 0, 0]]


def test_the_map_of_the_next_is_stretched_to_ones_own_length():
    rows = ((1, 2, 3, 4, 5, 6), (7, 8, 9, 0, 0, 0), (5, 6, 0, 0, 0, 0))
    maps = torch.stack([column(*row) for row in rows])
    swapped = of_the_next(maps, torch.tensor([6, 3, 2]))
    # Frame t of 6 looks at (t + 0.5) 3 / 6; of 3 at (t + 0.5) 2 / 3; of 2 at (t + 0.5) 6 / 2.
    assert swapped[..., 0].tolist() == [
        [7, 7, 8, 8, 9, 9],
        [5, 6, 6, 0, 0, 0],
        [2, 5, 0, 0, 0, 0],
    ]
    alone = of_the_next(maps[:1], torch.tensor([6]))
    assert alone[0, :, 0].tolist() == [4, 5, 6, 1, 2, 3]


def test_least_and_energy_leave_padding_alone():
    maps = torch.stack([column(0.0, 0.25, 1.0), column(0.5, 0.0, 0.0)])
    lengths = torch.tensor([3, 1])
    assert least(maps, lengths)[..., 0].tolist() == [[1.0, 0.75, 0.0], [0.5, 0.0, 0.0]]
    feats = torch.tensor([[[-8.0, -4.0], [-6.0, 0.0], [90.0, 90.0]]])
    loud = energy(feats, torch.tensor([2]))
    assert loud.tolist() == [[[0.0, 0.5], [0.25, 1.0], [0.0, 0.0]]]
