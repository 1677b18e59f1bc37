"""Class activation maps: where in time and frequency a classifier hears the accent.

Grad-CAM (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017) weighs each channel k of a convolution's output A by the mean of the
gradient of the target's score y^c, and keeps what speaks for the target:

    alpha_k = 1/Z sum_ij dy^c / dA^k_ij      (eq. 1)        L = ReLU(sum_k alpha_k A^k)      (eq. 2)

Here i runs over the valid cells of one utterance in time and j over frequency, so that Z = T' F' of
that utterance: an utterance gets the same map in a padded batch as alone.

Where the network ends in A -> mean over the valid cells -> linear layer w, the gradient is the same
at each valid cell, dy^c / dA^k_ij = w_ck / Z, and so alpha_k = w_ck / Z: no backward pass is
needed. Any other layer takes one backward pass that stops at that layer.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Protocol, Sequence

import torch
from torch import Tensor

Choose = Callable[[Tensor], Tensor]
"""From the logits (B, n) to the class (B,) that each utterance's map is made for."""


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
    """(B,), the class that each map is for."""


def grad_cam(
    classifier: PooledClassifier,
    feats: Tensor,
    lengths: Tensor,
    target: Tensor | Choose | None = None,
    layer: torch.nn.Module | None = None,
) -> ClassActivation:
    """Grad-CAM of a batch of utterances.

    The classifier is left as it was: no hook stays, no `.grad` is written, its mode and the random
    state are not touched. It works inside `torch.no_grad` and `torch.inference_mode` too.

    Args:
        classifier: a frozen network in eval mode.
        feats: (B, T, F), log-mel, not normalised.
        lengths: (B,), valid frames.
        target: (B,) class indices, or a function that picks them from the logits; the predicted
            class where it is None.
        layer: a convolution inside `classifier` whose output is (B, C, T', F') and whose strides
            are powers of two. None is the last one, in closed form.

    Raises:
        ValueError: `layer` does not run exactly once in a forward pass, or has another output.
    """
    feats = feats.detach().float()
    with torch.autocast(feats.device.type, enabled=False):  # the map is made in single precision
        if layer is None:
            return _closed_form(classifier, feats, lengths, target)
        return _by_gradient(classifier, feats, lengths, target, layer)


def _closed_form(classifier, feats, lengths, target) -> ClassActivation:
    with torch.no_grad():
        activations, cell_lengths = classifier.activations(feats, lengths)
        logits = classifier.pooled_logits(activations, cell_lengths)
        target = _target(logits, target)
        cells = cell_lengths.clamp_min(1) * activations.size(3)
        alpha = classifier.linear_weight[target] / cells[:, None]
        cam = torch.einsum("bc,bctf->btf", alpha, activations).relu_()
    return ClassActivation(cam, cell_lengths, classifier.stride, logits, target)


def _by_gradient(classifier, feats, lengths, target, layer) -> ClassActivation:
    seen: list[Tensor] = []

    def cut(module, inputs, output):
        # The graph begins here: what lies before the layer is neither stored nor differentiated.
        seen.append(output.detach().clone().requires_grad_())
        return seen[-1].clone()  # a leaf would refuse an in-place ReLU behind it

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
                f"Grad-CAM needs a layer that runs once and gives (B, C, T', F'); "
                f"{type(layer).__name__} gave {shapes}"
            )
        (activations,) = seen
        target = _target(logits.detach(), target)
        score = logits.gather(1, target[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, activations)

    with torch.no_grad():
        stride = (
            _stride(feats.size(1), activations.size(2)),
            _stride(feats.size(2), activations.size(3)),
        )
        cell_lengths = torch.div(lengths + stride[0] - 1, stride[0], rounding_mode="floor")
        valid = valid_frames(cell_lengths, activations.size(2))
        cells = cell_lengths.clamp_min(1) * activations.size(3)
        # Cleared padding may still have a gradient: where cells are zero, not where they are none.
        padding = ~valid[:, None, :, None]
        alpha = gradient.masked_fill(padding, 0.0).sum(dim=(2, 3)) / cells[:, None]
        cam = torch.einsum("bc,bctf->btf", alpha, activations.detach()).relu_()
        cam.masked_fill_(padding[:, 0], 0.0)
    return ClassActivation(cam, cell_lengths, stride, logits.detach(), target)


def _target(logits: Tensor, target: Tensor | Choose | None) -> Tensor:
    if target is None:
        return logits.argmax(dim=-1)
    return target(logits) if callable(target) else target.to(logits.device)


def _stride(size: int, cells: int) -> int:
    """The power of two of which `cells` = ceil(size / stride); where several fit, cells is 1."""
    stride = 1
    while -(-size // stride) > cells:
        stride *= 2
    if -(-size // stride) != cells:
        raise ValueError(f"{cells} cells over {size} inputs: the stride is no power of two")
    return stride


def valid_frames(lengths: Tensor, size: int) -> Tensor:
    """(B,) -> (B, size), true at the frames of each utterance and false in its padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def upsample(
    low: Tensor,
    low_lengths: Tensor,
    lengths: Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    centre: Sequence[float] = (0.0, 0.0),
) -> Tensor:
    """Bring maps to the resolution of the features, linearly in time and frequency.

    Cell i lies at frame `centre + i * stride`. Beyond the first and last centres of an utterance
    its nearest cell is repeated, so neither padding nor other utterances have a say in its map.

    Args:
        low: (B, T', F').
        low_lengths: (B,), valid cells in time.
        lengths: (B,), valid frames.
        size: (T, F) of the result.
        stride: frames and mel bins that a cell stands for.
        centre: frame and mel bin that cell 0 is centred on. It is 0 for convolutions whose kernels
            are padded by half their width, however they stride: cell i hears as much before frame
            i * stride as after it. (stride - 1) / 2, which image libraries take for granted (as
            `torch.nn.functional.interpolate`), would lay a map half a cell too late and too high.

    Returns:
        (B, T, F), zero in padding.
    """
    time, frequency = size
    lengths, low_lengths = lengths.to(low.device), low_lengths.to(low.device)
    last = (low_lengths - 1).clamp_min(0)[:, None]
    at = (torch.arange(time, device=low.device) - centre[0]) / stride[0]
    at = torch.minimum(at.clamp_min(0.0), last)  # (B, T), in cells
    before = at.long()
    after = torch.minimum(before + 1, last)

    def row(index: Tensor) -> Tensor:
        return low.gather(1, index[:, :, None].expand(-1, -1, low.size(2)))

    in_time = torch.lerp(row(before), row(after), (at - before).to(low.dtype)[:, :, None])
    in_time = in_time.masked_fill(~valid_frames(lengths, time)[:, :, None], 0.0)
    bands = _interpolation(low.size(2), frequency, stride[1], centre[1]).to(low)
    return in_time @ bands


def _interpolation(cells: int, size: int, stride: int, centre: float) -> Tensor:
    """(cells, size): column f holds the weights of the cells around position f."""
    at = ((torch.arange(size) - centre) / stride).clamp(0.0, cells - 1)
    distance = (at[None, :] - torch.arange(cells)[:, None]).abs()
    return (1.0 - distance).clamp_min(0.0)


def scale01(maps: Tensor, lengths: Tensor) -> Tensor:
    """Scale each map to [0, 1] over its utterance's own frames.

    Args:
        maps: (B, T, F).
        lengths: (B,), valid frames.

    Returns:
        (B, T, F), zero in padding; a map that is the same everywhere becomes zero.
    """
    valid = valid_frames(lengths.to(maps.device), maps.size(1))[:, :, None]
    low = maps.masked_fill(~valid, torch.inf).amin(dim=(1, 2), keepdim=True)
    high = maps.masked_fill(~valid, -torch.inf).amax(dim=(1, 2), keepdim=True)
    spread = high - low
    flat = spread <= torch.finfo(maps.dtype).eps * high.abs()
    scaled = (maps - low) / spread.masked_fill(flat, 1.0)
    return scaled.masked_fill(flat | ~valid, 0.0)


def saliency_map(
    classifier: PooledClassifier,
    feats: Tensor,
    lengths: Tensor,
    target: Tensor | Choose | None = None,
) -> tuple[Tensor, ClassActivation]:
    """Grad-CAM of the last convolution, scaled to [0, 1] and upsampled to the features.

    Returns:
        (B, T, F) in [0, 1], zero in padding; and the map that it was made of.
    """
    cam = grad_cam(classifier, feats, lengths, target)
    # Scaled first, where there is little to scale: cells are centred on frames and bins, so that
    # the lowest and highest values are the same before and after.
    low = scale01(cam.map, cam.lengths)
    return upsample(low, cam.lengths, lengths, tuple(feats.shape[1:]), cam.stride), cam
