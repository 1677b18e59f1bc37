"""The methods against pytorch-grad-cam and captum, layers and their fusion, and targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import METHODS, class_activation, layers_of, saliency_map
from espnet_saliency.saliency.maps import scale01, upsample
from espnet_saliency.saliency.targets import contrast, predicted, sample
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

THEIRS = dict(zip(METHODS, (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM)))


class Plain(torch.nn.Module):
    """Two strided convolutions, mean and linear, for utterances of one length."""

    stride = (4, 4)

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.first = torch.nn.Conv2d(1, 6, 3, stride=2, padding=1)
            self.middle = torch.nn.ReLU()
            self.second = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.last = torch.nn.ReLU()
            self.linear = torch.nn.Linear(8, 3)
            # pytorch-grad-cam adds 1e-6 to its fractions: gradients must not be as small.
            self.linear.weight.data *= 1e6
        self.double().eval().requires_grad_(False)

    @property
    def linear_weight(self):
        return self.linear.weight

    def activations(self, feats, lengths):
        x = self.middle(self.first(feats[:, None].double()))
        return self.last(self.second(x)), (lengths + 3) // 4

    def pooled_logits(self, activations, lengths):
        return self.linear(activations.mean(dim=(2, 3)))

    def forward(self, feats, lengths=None):
        if lengths is None:  # as the libraries call it, with (B, 1, T, F)
            feats = feats[:, 0]
            lengths = torch.full((len(feats),), feats.size(1))
        return self.pooled_logits(*self.activations(feats, lengths))


@pytest.fixture
def net():
    return Plain()


@pytest.fixture
def feats():
    return torch.randn(3, 32, 16, generator=torch.Generator().manual_seed(2))


LENGTHS = torch.tensor([32, 32, 32])


def theirs(method, net, layer, feats, classes) -> np.ndarray:
    """pytorch-grad-cam's map before it is scaled to the size of the input."""
    cam = THEIRS[method](net, [layer])
    x = feats[:, None].double().requires_grad_()
    targets = [ClassifierOutputTarget(c) for c in classes]
    cam.activations_and_grads(x)
    cam.outputs = cam.activations_and_grads(x)
    sum(target(output) for target, output in zip(targets, cam.outputs)).backward()
    (activations,) = cam.activations_and_grads.activations
    (gradients,) = cam.activations_and_grads.gradients
    raw = cam.get_cam_image(x, layer, targets, activations.numpy(), gradients.numpy(), False)
    return np.maximum(raw, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["middle", "last", None])
def test_against_pytorch_grad_cam(net, feats, method, layer):
    ours = class_activation(net, feats, LENGTHS, method=method, layer=layer and getattr(net, layer))
    other = Plain().requires_grad_(True)
    expected = theirs(method, other, getattr(other, layer or "last"), feats, ours.target.tolist())
    assert expected.max() > 0
    largest = expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(ours.map.numpy() / largest, expected / largest, atol=1e-5)


@pytest.mark.parametrize("layer", ["middle", "last"])
def test_grad_cam_against_captum(net, feats, layer):
    ours = class_activation(net, feats, LENGTHS, layer=getattr(net, layer))
    other = Plain().requires_grad_(True)
    x = feats[:, None].double()
    expected = LayerGradCam(other, getattr(other, layer)).attribute(
        x, target=ours.target, relu_attributions=True
    )[:, 0]
    assert expected.max() > 0
    atol = 1e-5 * expected.max().item()
    torch.testing.assert_close(ours.map, expected.detach(), atol=atol, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_closed_form_is_the_gradient(classifier, batch, method):
    feats, lengths = batch
    closed = class_activation(classifier, feats, lengths, method=method)
    # The same layer by its gradient: the cells behind the last ReLU, whose padding is cleared.
    hooked = torch.nn.Identity()
    inner = classifier.pooled_logits
    classifier.hooked = hooked
    classifier.pooled_logits = lambda a, n: inner(hooked(a), n)
    by_gradient = class_activation(classifier, feats, lengths, method=method, layer=hooked)
    assert not hooked._forward_hooks
    torch.testing.assert_close(by_gradient.map, closed.map, atol=1e-6, rtol=1e-4)
    assert torch.equal(by_gradient.lengths, closed.lengths)


@pytest.mark.parametrize("method", METHODS)
def test_an_utterance_gets_the_map_that_it_gets_alone(classifier, batch, method):
    feats, lengths = batch
    together = class_activation(classifier, feats, lengths, method=method, layer=classifier.first)
    for row, n in enumerate(lengths.tolist()):
        alone = class_activation(
            classifier,
            feats[row : row + 1, :n],
            lengths[row : row + 1],
            together.target[row : row + 1],
            method,
            classifier.first,
        )
        cells = int(together.lengths[row])
        torch.testing.assert_close(together.map[row, :cells], alone.map[0], atol=1e-6, rtol=1e-4)
        assert not together.map[row, cells:].any()


def test_layers_by_name_and_what_there_is(experiment):
    classifier = AccentClassifier.load(experiment)
    names = layers_of(classifier)
    assert "encoder.stages.0.0" in names and "encoder.stages.1.0.conv2" in names
    feats, lengths = torch.randn(2, 60, 80), torch.tensor([60, 41])
    first = class_activation(classifier, feats, lengths, layer="encoder.stages.0.0")
    assert first.stride == (2, 2) and first.map.shape == (2, 30, 40)
    last = class_activation(classifier, feats, lengths, layer="encoder.stages.1.0")
    closed = class_activation(classifier, feats, lengths)
    torch.testing.assert_close(last.map, closed.map, atol=1e-6, rtol=1e-4)
    message = "no layer 'block9'; it has encoder.stem, encoder.stages.0.0"
    with pytest.raises(UserError, match=message):
        class_activation(classifier, feats, lengths, layer="block9")
    with pytest.raises(UserError, match="method 'cam' is not one of grad_cam, grad_cam_plus_plus"):
        class_activation(classifier, feats, lengths, method="cam")


@pytest.mark.parametrize(
    "network",
    [
        {"encoder_conf": {"channels": [8, 16], "stem_stride": [3, 1]}},
        {"encoder": "espnet_resnet", "encoder_conf": {"resnet_type": "resnet18", "m_channels": 4}},
    ],
)
def test_each_layer_that_is_named_has_a_map(make_experiment, tmp_path, network):
    classifier = AccentClassifier.load(make_experiment(tmp_path / "exp", **network))
    feats, lengths = torch.randn(2, 60, 80), torch.tensor([60, 1])
    strides = set()
    for name in layers_of(classifier):
        cam = class_activation(classifier, feats, lengths, layer=name)
        strides.add(cam.stride)
        cells = tuple(-(-size // stride) for size, stride in zip((60, 80), cam.stride))
        assert cam.map.shape == (2, *cells), name
        assert cam.lengths.tolist() == [cells[0], 1]
    first = (3, 1) if "encoder" not in network else (1, 1)
    assert min(strides) == first and max(strides) == classifier.stride


def test_fused_layers_are_the_mean_of_their_scaled_maps(experiment):
    classifier = AccentClassifier.load(experiment)
    feats, lengths = torch.randn(2, 60, 80), torch.tensor([60, 41])
    names = ["encoder.stages.1.0", "encoder.stages.0.0"]
    coarse, fine = (class_activation(classifier, feats, lengths, layer=name) for name in names)
    fused = class_activation(classifier, feats, lengths, layer=names)
    assert fused.stride == (2, 2)
    low = scale01(coarse.map, coarse.lengths)
    raised = upsample(low, coarse.lengths, fine.lengths, (30, 40), (2, 2))
    expected = (raised + scale01(fine.map, fine.lengths)) / 2
    torch.testing.assert_close(fused.map, expected)
    maps, _ = saliency_map(classifier, feats, lengths, layer=names)
    assert maps.shape == feats.shape and maps.max() == pytest.approx(1.0)


def test_contrast_is_the_difference_of_two_scores(net, feats):
    logits = net(feats, LENGTHS)
    weights = contrast(0)(logits)
    assert weights[:, 0].tolist() == [-1.0, -1.0, -1.0]
    rivals = logits[:, 1:].argmax(dim=1) + 1  # never the reference itself
    assert weights.argmax(dim=1).tolist() == rivals.tolist()
    assert weights.sum(dim=1).tolist() == [0.0, 0.0, 0.0]
    ours = class_activation(net, feats, LENGTHS, contrast(0))
    assert torch.equal(ours.target, rivals)
    a, _ = net.activations(feats, LENGTHS)
    difference = net.linear_weight[rivals] - net.linear_weight[0]
    expected = (difference[:, :, None, None] / a[0, 0].numel() * a).sum(dim=1).relu()
    torch.testing.assert_close(ours.map, expected)
    by_gradient = class_activation(net, feats, LENGTHS, contrast(0), layer=net.last)
    torch.testing.assert_close(by_gradient.map, expected)


def test_targets_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    assert predicted(logits).tolist() == [0, 2]
    assert sample(torch.tensor([0.49, 0.15]))(logits).tolist() == [0, 1]
    assert sample(torch.tensor([0.79, 0.99999]))(logits).tolist() == [1, 2]


def test_nothing_is_left_behind(classifier, batch):
    def layer_cam():
        return class_activation(classifier, *batch, method="layer_cam", layer=classifier.first).map

    state = torch.random.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer_cam()
    torch.testing.assert_close(inside, layer_cam())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not classifier.first._forward_hooks and not classifier.training
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())


class Weighed(torch.nn.Module):
    """A recogniser of one layer, whose input is weighed by the classifier's map."""

    def __init__(self, classifier, layer):
        super().__init__()
        self.classifier, self.layer = classifier, layer
        self.output = torch.nn.Linear(80, 1)

    def forward(self, feats, lengths):
        maps, _ = saliency_map(
            self.classifier, feats, lengths, method="hires_cam", layer=self.layer
        )
        return self.output(feats * maps).sum()


@pytest.fixture
def gloo(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("layer", [None, "encoder.stages.0.0"])
def test_inside_a_distributed_training(experiment, gloo, layer):
    classifier = AccentClassifier.load(experiment)
    feats, lengths = torch.randn(2, 60, 80), torch.tensor([60, 41])
    maps, _ = saliency_map(classifier, feats, lengths, method="hires_cam", layer=layer)
    assert maps.max() == pytest.approx(1.0)
    # The harder case: the classifier lies within what is trained, and train() reaches it.
    network = torch.nn.parallel.DistributedDataParallel(Weighed(classifier, layer)).train()
    for _ in range(2):  # DDP would complain, the second time, of a gradient that it has missed
        network.zero_grad()
        network(feats, lengths).backward()
        gradient = network.module.output.weight.grad[0]
        torch.testing.assert_close(gradient, (feats * maps).sum(dim=(0, 1)), rtol=1e-4, atol=1e-4)
    assert not any(module.training for module in classifier.modules())
    assert all(p.grad is None for p in classifier.parameters())
    assert all(not module._forward_hooks for module in classifier.modules())
