"""Class activation maps: where in time and frequency a classifier hears the accent.

All weigh the output A of a convolution by the gradient G = dy / dA of the target's score y, and
keep what speaks for the target. With i over the valid cells of one utterance in time, j over
frequency, and Z of them:

    grad_cam               ReLU(sum_k alpha_k A^k),  alpha_k = 1/Z sum_ij G^k_ij
                           Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2
    grad_cam_plus_plus     the same with  alpha_k = sum_ij ReLU(G^k_ij) / (2 + G^k_ij sum_ab A^k_ab)
                           Chattopadhay et al., "Grad-CAM++", WACV 2018, eq. 9, 10 and 19, where
                           both sides of the fraction have been divided by (G^k_ij)^2
    hires_cam              ReLU(sum_k G^k A^k), cell by cell
                           Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020, eq. 4
    layer_cam              ReLU(sum_k ReLU(G^k) A^k), cell by cell
                           Jiang et al., "LayerCAM", IEEE TIP 30, 2021, eq. 6 and 7

Only valid cells count, so that an utterance gets the same map in a padded batch as alone.

Where the network ends in A -> mean over the valid cells -> linear layer w, the gradient is the same
at each valid cell, G^k_ij = w_ck / Z: no backward pass is needed, and hires_cam is grad_cam. Any
other layer takes one backward pass that stops at that layer.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Protocol, Sequence

import torch
from torch import Tensor

from espnet_saliency.accent.resnet import ResidualBlock
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.maps import scale01, upsample, valid_frames
from espnet_saliency.saliency.targets import Choose, predicted

__all__ = [
    "METHODS", "ClassActivation", "PooledClassifier", "class_activation", "grad_cam", "layers_of",
    "saliency_map", "scale01", "upsample", "valid_frames",
]  # fmt: skip

METHODS = ("grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam")

Layer = str | torch.nn.Module
"""A convolution inside the classifier, or its name there."""


class PooledClassifier(Protocol):
    """What a map needs of a classifier; `accent.classifier.AccentClassifier` has it."""

    stride: tuple[int, int]
    """Frames and mel bins that one cell of the last convolution stands for."""
    linear_weight: Tensor
    """(n, C), the weight of the linear layer behind the mean."""

    def activations(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) -> last convolution (B, C, T', F'), zero in padding, and its lengths."""

    def pooled_logits(self, activations: Tensor, lengths: Tensor) -> Tensor:
        """Mean over the valid cells, then the linear layer: (B, n)."""

    def __call__(self, feats: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) -> logits (B, n)."""


class ClassActivation(NamedTuple):
    """The maps of a batch, at the resolution of the layer."""

    map: Tensor
    """(B, T', F'), >= 0, zero in padding; not scaled."""
    lengths: Tensor
    """(B,), valid frames of each map."""
    stride: tuple[int, int]
    """Frames and mel bins that one cell stands for."""
    logits: Tensor
    """(B, n)."""
    target: Tensor
    """(B,), the class that each map is for (of weights over the classes, the highest)."""


def class_activation(
    classifier: PooledClassifier,
    feats: Tensor,
    lengths: Tensor,
    target: Tensor | Choose | None = None,
    method: str = "grad_cam",
    layer: Layer | Sequence[Layer] | None = None,
) -> ClassActivation:
    """The maps of a batch of utterances.

    The classifier is left as it was: no hook stays, no `.grad` is written, its mode and the random
    state are not touched. It works inside `torch.no_grad` and `torch.inference_mode` too.

    Args:
        classifier: a frozen network in eval mode.
        feats: (B, T, F), log-mel, not normalised.
        lengths: (B,), valid frames.
        target: (B,) class indices or (B, n) weights of the classes, or a function that makes either
            from the logits (see `targets`); the predicted class where it is None.
        method: one of METHODS; see the module's docstring.
        layer: a convolution inside `classifier` whose output is (B, C, T', F'), or its name (see
            `layers_of`). None is the last one, in closed form. Of several, the maps are scaled to
            [0, 1], brought to the finest of their resolutions and averaged, as pytorch-grad-cam
            does (the LayerCAM paper takes the greatest after a tanh); each takes a pass of its own.

    Raises:
        UserError: an unknown method; a layer that is not there or is no convolution.
        ValueError: `layer` does not run exactly once in a forward pass, or its stride times a power
            of two is not the last layer's.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r} is not one of {', '.join(METHODS)}")
    feats = feats.detach().float()
    with torch.autocast(feats.device.type, enabled=False):  # the map is made in single precision
        if layer is None:
            return _closed_form(classifier, feats, lengths, target, method)
        if isinstance(layer, (str, torch.nn.Module)):
            module = _find_layer(classifier, layer)
            return _by_gradient(classifier, feats, lengths, target, method, module)
        modules = [_find_layer(classifier, one) for one in layer]
        parts = [_by_gradient(classifier, feats, lengths, target, method, m) for m in modules]
    return _fuse(parts)


def grad_cam(
    classifier: PooledClassifier,
    feats: Tensor,
    lengths: Tensor,
    target: Tensor | Choose | None = None,
    layer: Layer | Sequence[Layer] | None = None,
) -> ClassActivation:
    """`class_activation` with the method grad_cam."""
    return class_activation(classifier, feats, lengths, target, "grad_cam", layer)


def layers_of(classifier: torch.nn.Module) -> list[str]:
    """Names of the convolutions, and of `accent_resnet`'s blocks, that maps can be taken from."""
    return [
        name
        for name, module in classifier.named_modules()
        if isinstance(module, (torch.nn.Conv2d, ResidualBlock))
    ]


def _find_layer(classifier, layer: Layer) -> torch.nn.Module:
    if isinstance(layer, torch.nn.Module):
        return layer
    known = layers_of(classifier)
    if layer not in known:
        raise UserError(f"layer: the classifier has no layer {layer!r}; it has {', '.join(known)}")
    return classifier.get_submodule(layer)


def _closed_form(classifier, feats, lengths, target, method) -> ClassActivation:
    with torch.no_grad():
        activations, cell_lengths = classifier.activations(feats, lengths)
        logits = classifier.pooled_logits(activations, cell_lengths)
        target = _target(logits, target)
        cells = cell_lengths.clamp_min(1) * activations.size(3)
        weight = classifier.linear_weight
        weight = target @ weight if target.dim() > 1 else weight[target]
        alpha = weight / cells[:, None]  # the gradient at each valid cell
        if method == "layer_cam":
            alpha = alpha.relu()
        elif method == "grad_cam_plus_plus":
            alpha = cells[:, None] * alpha.relu() / (2 + alpha.relu() * activations.sum(dim=(2, 3)))
        cam = torch.einsum("bc,bctf->btf", alpha, activations).relu_()
    return ClassActivation(cam, cell_lengths, classifier.stride, logits, _class(target))


def _by_gradient(classifier, feats, lengths, target, method, layer) -> ClassActivation:
    seen: list[Tensor] = []

    def cut(module, inputs, output):
        # A block may give its lengths as well.
        maps, *rest = output if isinstance(output, tuple) else (output,)
        # The graph begins here: what lies before the layer is neither stored nor differentiated.
        seen.append(maps.detach().clone().requires_grad_())
        leaf = seen[-1].clone()  # a leaf would refuse an in-place ReLU behind it
        return (leaf, *rest) if rest else leaf

    # A tensor made in inference mode may not enter a graph; a clone made outside of it may.
    with torch.inference_mode(False), torch.enable_grad():
        handle = layer.register_forward_hook(cut)
        try:
            logits = classifier(feats.clone(), lengths.clone())
        finally:
            handle.remove()
        if len(seen) != 1 or seen[0].dim() != 4:
            shapes = [tuple(output.shape) for output in seen]
            raise ValueError(
                f"a map needs a layer that runs once and gives (B, C, T', F'); "
                f"{type(layer).__name__} gave {shapes}"
            )
        (activations,) = seen
        target = _target(logits.detach(), target).clone()
        score = logits * target if target.dim() > 1 else logits.gather(1, target[:, None])
        (gradient,) = torch.autograd.grad(score.sum(), activations)

    with torch.no_grad():
        stride = (
            _stride(feats.size(1), activations.size(2), classifier.stride[0]),
            _stride(feats.size(2), activations.size(3), classifier.stride[1]),
        )
        cell_lengths = torch.div(lengths + stride[0] - 1, stride[0], rounding_mode="floor")
        valid = valid_frames(cell_lengths, activations.size(2))
        # Cleared padding may still have a gradient: where cells are zero, not where they are none.
        padding = ~valid[:, None, :, None]
        gradient = gradient.masked_fill(padding, 0.0)
        activations = activations.detach().masked_fill(padding, 0.0)
        cells = cell_lengths.clamp_min(1) * activations.size(3)
        cam = _WEIGH[method](activations, gradient, cells).relu_()
    return ClassActivation(cam, cell_lengths, stride, logits.detach(), _class(target))


def _grad_cam(activations: Tensor, gradient: Tensor, cells: Tensor) -> Tensor:
    """(B, C, T', F') twice, (B,) -> (B, T', F'), before the ReLU; so the three that follow."""
    alpha = gradient.sum(dim=(2, 3)) / cells[:, None]
    return torch.einsum("bc,bctf->btf", alpha, activations)


def _grad_cam_plus_plus(activations: Tensor, gradient: Tensor, cells: Tensor) -> Tensor:
    total = activations.sum(dim=(2, 3), keepdim=True)
    positive = gradient.relu()
    # Below a layer without a ReLU the sum may be negative; the paper's activations are not.
    alpha = (positive / (2 + positive * total.clamp_min(0.0))).sum(dim=(2, 3))
    return torch.einsum("bc,bctf->btf", alpha, activations)


def _hires_cam(activations: Tensor, gradient: Tensor, cells: Tensor) -> Tensor:
    return (gradient * activations).sum(dim=1)


def _layer_cam(activations: Tensor, gradient: Tensor, cells: Tensor) -> Tensor:
    return (gradient.relu() * activations).sum(dim=1)


_WEIGH: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = dict(
    zip(METHODS, (_grad_cam, _grad_cam_plus_plus, _hires_cam, _layer_cam), strict=True)
)


def _fuse(parts: Sequence[ClassActivation]) -> ClassActivation:
    finest = min(parts, key=lambda part: part.stride)
    size = (finest.map.size(1), finest.map.size(2))
    maps = []
    for part in parts:
        ratio = tuple(max(1, coarse // fine) for coarse, fine in zip(part.stride, finest.stride))
        low = scale01(part.map, part.lengths)
        maps.append(upsample(low, part.lengths, finest.lengths, size, ratio))
    return finest._replace(map=torch.stack(maps).mean(dim=0))


def _target(logits: Tensor, target: Tensor | Choose | None) -> Tensor:
    if target is None:
        return predicted(logits)
    return target(logits) if callable(target) else target.to(logits.device)


def _class(target: Tensor) -> Tensor:
    return target.argmax(dim=-1) if target.dim() > 1 else target


def _stride(size: int, cells: int, last: int) -> int:
    """The stride of which `cells` = ceil(size / stride); where several fit, cells is 1.

    `last` is the last layer's, and from layer to layer a stride stays or doubles.
    """
    stride = last
    while stride % 2 == 0 and -(-size // stride) < cells:
        stride //= 2
    if -(-size // stride) != cells:
        raise ValueError(f"{cells} cells over {size} inputs: not the last layer's {last} halved")
    return stride


def saliency_map(
    classifier: PooledClassifier,
    feats: Tensor,
    lengths: Tensor,
    target: Tensor | Choose | None = None,
    method: str = "grad_cam",
    layer: Layer | Sequence[Layer] | None = None,
) -> tuple[Tensor, ClassActivation]:
    """`class_activation`, scaled to [0, 1] and upsampled to the features.

    Returns:
        (B, T, F) in [0, 1], zero in padding; and the map that it was made of.
    """
    cam = class_activation(classifier, feats, lengths, target, method, layer)
    # Scaled first, where there is little to scale: cells are centred on frames and bins, so that
    # the lowest and highest values are the same before and after.
    low = scale01(cam.map, cam.lengths)
    with torch.autocast(feats.device.type, enabled=False):
        return upsample(low, cam.lengths, lengths, tuple(feats.shape[1:]), cam.stride), cam
