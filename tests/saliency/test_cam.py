"""Class activation maps against numbers by hand and captum."""

from __future__ import annotations

import copy

import pytest
import torch
from captum.attr import LayerGradCam
from espnet_saliency.accent.resnet import AccentResNet
from espnet_saliency.saliency.cam import grad_cam, saliency_map, scale01, upsample


def assert_same_map(one: torch.Tensor, other: torch.Tensor) -> None:
    """To 1e-5 of the greatest value, since a map's values are of the order of 1 / cells."""
    scale = other.max().clamp_min(1e-9)
    torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-5)


class Fixed(torch.nn.Module):
    """A network whose last convolution is given: two channels, two classes."""

    stride = (2, 2)

    def __init__(self, activations, lengths):
        super().__init__()
        self.fixed, self.fixed_lengths = activations, lengths
        self.linear_weight = torch.tensor([[1.0, -2.0], [-1.0, 3.0]])

    def activations(self, feats, lengths):
        return self.fixed, self.fixed_lengths

    def pooled_logits(self, activations, lengths):
        mean = activations.sum(dim=(2, 3)) / (lengths[:, None] * activations.size(3))
        return mean @ self.linear_weight.T


def fixed_network():
    # Utterance 0 has 2 x 2 valid cells, utterance 1 only its first row in time.
    channels = torch.tensor(
        [
            [[[4.0, 0.0], [8.0, 4.0]], [[0.0, 2.0], [1.0, 5.0]]],
            [[[6.0, 2.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]],
        ]
    )
    return Fixed(channels, torch.tensor([2, 1]))


def test_map_by_hand():
    feats, lengths = torch.zeros(2, 4, 4), torch.tensor([4, 2])
    cam = grad_cam(fixed_network(), feats, lengths)
    # Means over valid cells: (4, 2) and (4, 1); logits 1*4 - 2*2 = 0, -4 + 6 = 2; 4 - 2 = 2, -1.
    assert cam.logits.tolist() == [[0.0, 2.0], [2.0, -1.0]]
    assert cam.target.tolist() == [1, 0]
    # Utterance 0, class 1: (-A_0 + 3 A_1) / 4 = (-4, 6; -5, 11) / 4, and its negative part is cut.
    # Utterance 1, class 0: (A_0 - 2 A_1) / 2 = (4, 0) / 2 in the only valid row.
    assert cam.map.tolist() == [[[0.0, 1.5], [0.0, 2.75]], [[2.0, 0.0], [0.0, 0.0]]]
    assert cam.lengths.tolist() == [2, 1]


def test_map_for_a_given_or_chosen_class():
    feats, lengths = torch.zeros(2, 4, 4), torch.tensor([4, 2])
    expected = [[[1.0, 0.0], [1.5, 0.0]], [[2.0, 0.0], [0.0, 0.0]]]  # (A_0 - 2 A_1)+ / cells
    given = grad_cam(fixed_network(), feats, lengths, target=torch.tensor([0, 0]))
    assert given.map.tolist() == expected
    chosen = grad_cam(fixed_network(), feats, lengths, target=lambda logits: logits.argmin(-1) * 0)
    assert chosen.map.tolist() == expected


@pytest.mark.parametrize("target", [0, 2])
def test_closed_form_equals_captum(classifier, batch, target):
    feats, lengths = batch[0][:1], batch[1][:1]
    cam = grad_cam(classifier, feats, lengths, torch.tensor([target]))
    # Captum differentiates from the input on; `second` feeds the in-place ReLU, so A is its output.
    network = copy.deepcopy(classifier).requires_grad_(True)
    network.relu = torch.nn.ReLU()
    reference = captum_map(Last(network), feats, lengths, target)
    assert_same_map(cam.map, reference)
    assert reference.max() > 0


class Last(torch.nn.Module):
    """Gives the last activation a module of its own, where captum can look."""

    def __init__(self, network):
        super().__init__()
        self.network, self.layer = network, torch.nn.Identity()

    def forward(self, feats, lengths):
        activations, lengths = self.network.activations(feats, lengths)
        return self.network.pooled_logits(self.layer(activations), lengths)


def captum_map(network, feats, lengths, target, layer=None):
    attribution = LayerGradCam(network, layer or network.layer).attribute(
        feats.clone().requires_grad_(True),
        target=target,
        additional_forward_args=(lengths,),
        relu_attributions=True,
    )
    return attribution[:, 0].detach()


@pytest.mark.parametrize("name", ["first", "norm", "second"])
def test_any_layer_equals_captum(classifier, batch, name):
    feats, lengths = batch[0][:1], batch[1][:1]
    cam = grad_cam(classifier, feats, lengths, layer=getattr(classifier, name))
    network = copy.deepcopy(classifier)
    network.relu = torch.nn.ReLU()
    reference = captum_map(network, feats, lengths, int(cam.target), getattr(network, name))
    assert_same_map(cam.map, reference)
    assert reference.max() > 0
    assert cam.stride == ((4, 4) if name == "second" else (2, 2))


def test_backward_pass_equals_closed_form(classifier, batch):
    network = Last(classifier)
    network.activations, network.stride = classifier.activations, classifier.stride
    network.pooled_logits = classifier.pooled_logits
    network.linear_weight = classifier.linear_weight
    closed = grad_cam(network, *batch)
    backward = grad_cam(network, *batch, layer=network.layer)
    assert_same_map(backward.map, closed.map)
    assert torch.equal(backward.lengths, closed.lengths)
    assert backward.stride == closed.stride


@pytest.mark.parametrize("name", [None, "first", "second"])
def test_an_utterance_gets_the_map_that_it_gets_alone(classifier, batch, name):
    feats, lengths = batch
    layer = None if name is None else getattr(classifier, name)
    together = grad_cam(classifier, feats, lengths, layer=layer)
    for index, length in enumerate(lengths.tolist()):
        alone = grad_cam(
            classifier, feats[index : index + 1, :length], lengths[index : index + 1], layer=layer
        )
        cells = alone.map.size(1)
        assert cells == together.lengths[index]
        assert_same_map(together.map[index, :cells], alone.map[0])
        assert (together.map[index, cells:] == 0).all()


def test_whole_map_is_batch_invariant(classifier, batch):
    feats, lengths = batch
    together, _ = saliency_map(classifier, feats, lengths)
    for index, length in enumerate(lengths.tolist()):
        alone, _ = saliency_map(
            classifier, feats[index : index + 1, :length], lengths[index : index + 1]
        )
        torch.testing.assert_close(together[index, :length], alone[0], rtol=1e-5, atol=1e-5)
        assert (together[index, length:] == 0).all()
        assert alone.min() == 0.0 and alone.max() == 1.0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("name", [None, "first"])
def test_nothing_is_left_behind(classifier, batch, context, name):
    classifier.requires_grad_(True)  # the harder case: parameters that could collect gradients
    layer = None if name is None else classifier.first
    expected = grad_cam(classifier, *batch, layer=layer).map
    before = copy.deepcopy(classifier.state_dict())
    state = torch.random.get_rng_state()
    with context():
        feats = batch[0] + 0.0
        cam = grad_cam(classifier, feats, batch[1], layer=layer)
        # A target made in inference mode may not enter the graph either.
        named = grad_cam(classifier, feats, batch[1], cam.target + 0, layer)
        weighed = grad_cam(classifier, feats, batch[1], torch.eye(3)[cam.target] + 0, layer)
    assert torch.equal(cam.map, expected)
    assert torch.equal(named.map, expected) and torch.allclose(weighed.map, expected)
    assert not cam.map.requires_grad and not cam.logits.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert all(not module._forward_hooks for module in classifier.modules())
    assert not classifier.training
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_whole_map_is_of_single_precision_too(classifier, batch):
    expected, _ = saliency_map(classifier, *batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = saliency_map(classifier, *batch)
    assert torch.equal(found, expected)


def test_single_precision_under_autocast(classifier, batch):
    expected = grad_cam(classifier, *batch).map
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(grad_cam(classifier, *batch).map, expected)


def test_a_layer_that_has_no_map_is_refused(classifier, batch):
    with pytest.raises(ValueError, match="Linear gave"):
        grad_cam(classifier, *batch, layer=classifier.linear)
    with pytest.raises(ValueError, match="runs once"):
        grad_cam(classifier, *batch, layer=torch.nn.Conv2d(1, 1, 1))
    assert not classifier.linear._forward_hooks


def test_upsampling_by_hand():
    low = torch.tensor([[[0.0, 4.0], [8.0, 4.0], [99.0, 99.0]]])
    full = upsample(low, torch.tensor([2]), torch.tensor([4]), (6, 4), (2, 2), (0.5, 0.5))
    # Centres of the cells at frames 0.5 and 2.5: frames 0..3 lie 0 (clamped), 1/4, 3/4, 1 between.
    # The same in frequency, so the rows at bins (0, 1, 2, 3) are mixed by (0, 1/4, 3/4, 1).
    left, right = torch.tensor([0.0, 2.0, 6.0, 8.0]), torch.tensor([4.0, 4.0, 4.0, 4.0])
    mix = torch.tensor([0.0, 0.25, 0.75, 1.0])
    expected = left[:, None] * (1 - mix) + right[:, None] * mix
    torch.testing.assert_close(full[0, :4], expected)
    assert (full[0, 4:] == 0).all()


def test_upsampling_equals_interpolate_without_padding():
    low = torch.rand(2, 7, 5, generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([7, 7])
    full = upsample(low, lengths, lengths * 4, (28, 40), (4, 8), (1.5, 3.5))
    expected = torch.nn.functional.interpolate(
        low[:, None], size=(28, 40), mode="bilinear", align_corners=False
    )[:, 0]
    torch.testing.assert_close(full, expected)


def test_upsampling_around_the_first_frame_of_each_cell():
    low = torch.tensor([[[0.0], [4.0]]])
    full = upsample(low, torch.tensor([2]), torch.tensor([4]), (4, 1), (2, 1))
    assert full[0, :, 0].tolist() == [0.0, 2.0, 4.0, 4.0]


@pytest.mark.parametrize("stem_stride", [(1, 1), (2, 2), (2, 4), (3, 3)])
def test_a_cell_hears_as_much_before_its_centre_as_behind(stem_stride):
    network = AccentResNet(80, channels=(4, 8, 8), stem_stride=stem_stride).eval()
    feats = torch.randn(1, 160, 160, generator=torch.Generator().manual_seed(0)).requires_grad_()
    activations, _ = network.activations(feats, torch.tensor([160]))
    cell = (activations.size(2) // 2, activations.size(3) // 2)
    (gradient,) = torch.autograd.grad(activations[0, :, cell[0], cell[1]].sum(), feats)
    for axis in (0, 1):
        heard = (gradient[0] != 0).any(dim=1 - axis).nonzero()[:, 0]
        centre = cell[axis] * network.stride[axis]
        assert centre - heard.min() == heard.max() - centre


def test_scaling_over_own_frames():
    maps = torch.tensor([[[1.0, 3.0], [2.0, 5.0]], [[2.0, 4.0], [9.0, -9.0]]])
    scaled = scale01(maps, torch.tensor([2, 1]))
    assert scaled.tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 1.0], [0.0, 0.0]]]


@pytest.mark.parametrize("value", [0.0, 0.3, 1e-12, 1e6])
def test_a_flat_map_scales_to_zero(value):
    assert (scale01(torch.full((1, 5, 3), value), torch.tensor([4])) == 0).all()
