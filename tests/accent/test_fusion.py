"""Folding batch normalisation changes the speed and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from espnet_saliency.accent import classifier
from espnet_saliency.accent.espnet_resnet import EspnetResNet
from espnet_saliency.accent.fusion import fold_batch_norm
from espnet_saliency.accent.resnet import AccentResNet


@pytest.mark.parametrize(
    "make",
    [
        lambda: AccentResNet(80, (4, 8), blocks=2),
        lambda: EspnetResNet(80, "resnet18", 4),
        lambda: EspnetResNet(80, "resnet50", 2),
    ],
)
def test_the_folded_network_is_the_same_function(make):
    torch.manual_seed(0)
    net = make()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.3, 0.3)
    net.eval().requires_grad_(False)
    folded = copy.deepcopy(net)
    fold_batch_norm(folded)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    x, lengths = torch.randn(3, 90, 80), torch.tensor([90, 41, 1])
    (expected, cells), (found, same) = net.activations(x, lengths), folded.activations(x, lengths)
    assert torch.equal(cells, same)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=1e-4)


def test_the_digest_is_that_of_the_file(build, experiment, tmp_path):
    folder = experiment(tmp_path / "exp", build())
    loaded = classifier.AccentClassifier.load(folder)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in loaded.modules())
    config = classifier._read_config(folder / "config.yaml")
    weights = torch.load(folder / "valid.acc.best.pth", weights_only=True)
    assert any("norm1" in name for name in weights)
    assert loaded.digest == classifier._digest(config, weights)
