"""Batch normalisation folded into the convolutions ahead of it, for a network that is frozen."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_PAIRS = [("stem", "stem_norm")] + [
    (f"conv{n}", f"{norm}{n}") for n in (1, 2, 3) for norm in ("norm", "bn")
]
"""Names of a convolution and of the normalisation that follows it, in the encoders of this package
and of ESPnet."""


def fold_batch_norm(network: nn.Module) -> None:
    """Fold, in place, every batch normalisation into its convolution (the same function, faster).

    Args:
        network: in evaluation mode, never to be trained again.
    """
    for module in list(network.modules()):
        for conv, norm in _PAIRS:
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                fused = fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm))
                setattr(module, conv, fused)
                setattr(module, norm, nn.Identity().eval())
        # A shortcut: a convolution and its normalisation in a row.
        if isinstance(module, nn.Sequential) and len(module) == 2:
            if isinstance(module[0], nn.Conv2d) and isinstance(module[1], nn.BatchNorm2d):
                module[0] = fuse_conv_bn_eval(module[0], module[1])
                module[1] = nn.Identity().eval()
