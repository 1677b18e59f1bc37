"""The encoder: shapes, hand-computed convolution arithmetic, and independence of padding."""

from __future__ import annotations

import pytest
import torch
from espnet_saliency.accent.resnet import AccentResNet, ceil_div, mask_padding
from espnet_saliency.errors import UserError


def make(**options) -> AccentResNet:
    torch.manual_seed(0)
    net = AccentResNet(80, **options)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # A shift in every channel, so that padding that is not cleared shows.
            torch.nn.init.normal_(module.running_mean, 0.3, 0.3)
            torch.nn.init.normal_(module.bias, 0.5, 0.5)
    return net.eval()


def test_lengths_are_divided_rounding_up():
    assert ceil_div(torch.tensor([1, 2, 3, 8, 9]), 2).tolist() == [1, 1, 2, 4, 5]
    assert ceil_div(torch.tensor([1, 4, 5]), 4).tolist() == [1, 1, 2]


def test_mask_padding_clears_even_nan():
    x = torch.full((2, 3, 2), float("nan"))
    x[0, :2] = 1.0
    x[1, :1] = 2.0
    y = mask_padding(x, torch.tensor([2, 1]))
    assert y[:, :, 0].tolist() == [[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "options, stride",
    [
        ({}, (8, 8)),
        ({"channels": (4, 8), "stem_stride": (4, 2)}, (8, 4)),
        ({"channels": (4,), "stem_stride": (1, 1)}, (1, 1)),
        ({"channels": (4, 8), "blocks": 2}, (4, 4)),
    ],
)
@pytest.mark.parametrize("frames", [1, 2, 7, 64, 101])
def test_shapes_follow_the_strides(options, stride, frames):
    net = make(**options)
    channels = options.get("channels", (16, 32, 64))[-1]
    a, lengths = net.activations(torch.randn(2, frames, 80), torch.tensor([frames, 1]))
    assert net.stride == stride
    assert a.shape == (2, channels, -(-frames // stride[0]), -(-80 // stride[1]))
    assert lengths.tolist() == [-(-frames // stride[0]), 1]
    assert (a >= 0).all() and a.max() > 0


def test_an_utterance_gets_from_a_padded_batch_what_it_gets_alone():
    net = make(blocks=2)
    frames = [57, 1, 200, 16, 9]
    x = 10 * torch.randn(5, 200, 80)
    for i, n in enumerate(frames):
        x[i, n:] = float("nan") if i % 2 else 1000.0
    a, lengths = net.activations(x, torch.tensor(frames))
    y, _, _ = net(x, torch.tensor(frames))
    for i, n in enumerate(frames):
        alone, alone_length = net.activations(x[i : i + 1, :n], torch.tensor([n]))
        cells = int(lengths[i])
        assert cells == alone_length.item() == alone.size(2)
        assert torch.allclose(a[i, :, :cells], alone[0], atol=1e-5, rtol=1e-5)
        assert (a[i, :, cells:] == 0).all()
        alone_y, _, _ = net(x[i : i + 1, :n], torch.tensor([n]))
        assert torch.allclose(y[i, :cells], alone_y[0], atol=1e-5, rtol=1e-5)


def test_forward_is_the_mean_over_mel():
    net = make(channels=(4, 8))
    x, lengths = torch.randn(2, 30, 80), torch.tensor([30, 20])
    a, cells = net.activations(x, lengths)
    y, y_lengths, states = net(x, lengths)
    assert y.shape == (2, a.size(2), net.output_size()) and states is None
    assert y_lengths.tolist() == cells.tolist()
    assert torch.allclose(y[1, 3], a[1, :, 3, :].sum(dim=1) / a.size(3), atol=1e-6)


def test_a_residual_network_of_zero_convolutions_passes_its_stem_through():
    net = AccentResNet(4, channels=(1,), stem_stride=(1, 1)).eval()
    with torch.no_grad():
        net.stem.weight.zero_()
        net.stem.weight[0, 0, 1, 1] = 1.0  # identity
        for convolution in (net.stages[0][0].conv1, net.stages[0][0].conv2):
            convolution.weight.zero_()
    x = torch.tensor([[[1.0, -2.0, 3.0, 0.5], [0.0, 4.0, -1.0, 2.0]]])
    a, _ = net.activations(x, torch.tensor([2]))
    # Batch normalisation of fresh statistics divides by sqrt(1 + 1e-5).
    assert torch.allclose(a[0, 0], x[0].clamp(min=0), atol=1e-4)


def test_dropout_acts_in_training_only():
    net = make(channels=(8, 8), dropout=0.5)
    x, lengths = torch.randn(1, 32, 80), torch.tensor([32])
    assert torch.equal(net.activations(x, lengths)[0], net.activations(x, lengths)[0])
    net.dropout.train()
    assert not torch.equal(net.activations(x, lengths)[0], net.activations(x, lengths)[0])


def test_the_caller_keeps_its_tensor():
    net = make(channels=(4,))
    x = torch.randn(2, 20, 80)
    before = x.clone()
    net(x, torch.tensor([20, 5]))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"channels": []}, "channels"),
        ({"channels": [8, 0]}, "channels"),
        ({"blocks": 0}, "blocks"),
        ({"stem_stride": [2]}, "stem_stride"),
        ({"stem_stride": [0, 2]}, "stem_stride"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_arguments_out_of_range_are_refused(options, named):
    with pytest.raises(UserError, match=f"accent_resnet: {named}"):
        AccentResNet(80, **options)
