"""Utterance normalisation beside padding."""

from __future__ import annotations

import torch
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet_saliency.accent.normalize import MaskedUtteranceMVN


def test_by_hand():
    x = torch.tensor([[[1.0, 5.0], [3.0, 5.0], [99.0, 99.0]]])
    y, n = MaskedUtteranceMVN()(x, torch.tensor([2]))
    # Bin 1: mean 2, deviation 1. Bin 2 never changes: 0 / floor.
    assert y[0].tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]] and n.tolist() == [2]
    y, _ = MaskedUtteranceMVN(norm_vars=False)(x, torch.tensor([2]))
    assert y[0].tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    y, _ = MaskedUtteranceMVN(norm_means=False, eps=10.0)(x, torch.tensor([2]))
    assert torch.allclose(y[0, :2], x[0, :2] / 10)


def test_alone_it_is_espnets_and_a_batch_does_not_change_that():
    x = torch.randn(3, 50, 80) * 4 - 8
    lengths = [50, 31, 2]
    y, _ = MaskedUtteranceMVN()(x, torch.tensor(lengths))
    for i, n in enumerate(lengths):
        alone, _ = UtteranceMVN(norm_vars=True)(x[i : i + 1, :n].clone(), torch.tensor([n]))
        if n > 2:  # two frames can lie closer than the floor of the deviation
            assert torch.allclose(y[i, :n], alone[0], atol=1e-5)
        assert (y[i, n:] == 0).all()


def test_the_caller_keeps_its_tensor():
    x = torch.randn(2, 10, 4)
    before = x.clone()
    MaskedUtteranceMVN()(x, torch.tensor([10, 3]))
    assert torch.equal(x, before)
    whole, _ = MaskedUtteranceMVN()(x, torch.tensor([10, 10]))
    assert torch.equal(MaskedUtteranceMVN()(x)[0], whole)
