"""ESPnet's ResNets with lengths: the same numbers as theirs, and independence of padding."""

from __future__ import annotations

import copy

import pytest
import torch
from espnet_saliency.accent.espnet_resnet import EspnetResNet
from espnet_saliency.errors import UserError


def make(resnet_type: str) -> EspnetResNet:
    torch.manual_seed(0)
    net = EspnetResNet(80, resnet_type, m_channels=4)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # A shift in every channel, so that padding that is not cleared shows.
            torch.nn.init.normal_(module.running_mean, 0.3, 0.3)
            torch.nn.init.normal_(module.bias, 0.3, 0.3)
    return net.eval()


@pytest.mark.parametrize("resnet_type, channels", [("resnet18", 32), ("resnet50", 128)])
def test_without_padding_it_computes_what_espnet_does(resnet_type, channels):
    net = make(resnet_type)
    x = torch.randn(2, 40, 80)
    turned = copy.deepcopy(net.net)
    for module in turned.modules():
        if isinstance(module, torch.nn.Conv2d):  # their kernels lie on (mel, time)
            module.weight.data = module.weight.data.transpose(2, 3).contiguous()
    with torch.no_grad():
        theirs = turned(x)  # (B, F' * C, T')
        ours, lengths = net.activations(x, torch.tensor([40, 40]))
    assert ours.shape == (2, channels, 5, 10) and lengths.tolist() == [5, 5]
    assert net.output_size() == channels and (ours >= 0).all()
    expected = theirs.view(2, 10, channels, 5)  # mel and channels lie in one axis, mel first
    assert torch.allclose(ours.permute(0, 3, 1, 2), expected, atol=1e-5)


@pytest.mark.parametrize("resnet_type", ["resnet18", "resnet50"])
def test_an_utterance_gets_from_a_padded_batch_what_it_gets_alone(resnet_type):
    net = make(resnet_type)
    frames = [57, 1, 200, 16]
    x = 3 * torch.randn(4, 200, 80)
    for i, n in enumerate(frames):
        x[i, n:] = float("nan")
    with torch.no_grad():
        a, lengths = net.activations(x, torch.tensor(frames))
        for i, n in enumerate(frames):
            alone, cells = net.activations(x[i : i + 1, :n], torch.tensor([n]))
            assert int(lengths[i]) == int(cells) == alone.size(2) == -(-n // 8)
            assert torch.allclose(a[i, :, :cells], alone[0], atol=1e-5, rtol=1e-5)
            assert (a[i, :, cells:] == 0).all()


def test_an_unknown_type_is_refused():
    with pytest.raises(UserError, match="resnet_type 'resnet19' is not one of resnet18"):
        EspnetResNet(80, "resnet19")
