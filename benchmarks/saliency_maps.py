"""Time of a class activation map: ours, captum's, pytorch-grad-cam's, of one network and layer.

    OMP_NUM_THREADS=1 python benchmarks/saliency_maps.py

All run in turn in one process on the same batch; the values are compared before they are timed.
captum and pytorch-grad-cam come with the tests' requirements.
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from espnet_saliency.accent.fusion import fold_batch_norm  # noqa: E402
from espnet_saliency.accent.resnet import AccentResNet  # noqa: E402
from espnet_saliency.saliency.cam import METHODS, class_activation  # noqa: E402

LIBRARY = dict(zip(METHODS, (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM), strict=True))

SIZES = {
    "small": {"channels": [16, 32], "stem_stride": [4, 4]},
    "full": {"channels": [16, 32, 64], "stem_stride": [2, 2]},
}


class Last(nn.Module):
    """The last block's output, as a layer of its own for the libraries to hook."""

    def forward(self, x):
        return x


class Network(nn.Module):
    """The classifier's network behind its frontend; called with (B, 1, T, F) by the libraries."""

    def __init__(self, size: str):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = AccentResNet(80, **SIZES[size]).eval()
        self.last = Last()
        for module in self.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after a training
                nn.init.normal_(module.running_mean, 0.0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
        self.linear = nn.Linear(self.encoder.output_size(), 8)
        # pytorch-grad-cam adds 1e-6 to its fractions: gradients must not be as small.
        self.linear.weight.data *= 1e5
        self.stride = self.encoder.stride
        self.eval()

    @property
    def linear_weight(self):
        return self.linear.weight

    def activations(self, feats, lengths):
        return self.encoder.activations(feats, lengths)

    def pooled_logits(self, activations, lengths):
        cells = lengths * activations.size(3)
        return self.linear(activations.sum(dim=(2, 3)) / cells[:, None])

    def forward(self, feats, lengths=None):
        if lengths is None:
            feats = feats[:, 0]
            lengths = torch.full((len(feats),), feats.size(1))
        activations, lengths = self.activations(feats, lengths)
        return self.pooled_logits(self.last(activations), lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--frames", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    feats = torch.randn(options.batch, options.frames, 80, generator=generator)
    lengths = torch.full((options.batch,), options.frames)
    print("| classifier | map | ms | ratio of ours to it | quartiles |")
    print("| --- | --- | ---: | ---: | ---: |")
    for size in options.sizes:
        compare(size, feats, lengths, options.rounds)


def compare(size: str, feats: torch.Tensor, lengths: torch.Tensor, rounds: int) -> None:
    theirs = Network(size)
    plain = copy.deepcopy(theirs).requires_grad_(False)
    ours = copy.deepcopy(plain)
    fold_batch_norm(ours.encoder)  # as AccentClassifier.load does, and the next line as well
    ours.encoder.to(memory_format=torch.channels_last)
    # As little for pytorch-grad-cam to differentiate as it works with: the last convolution.
    frozen = copy.deepcopy(plain)
    frozen.encoder.stages[-1][-1].conv2.requires_grad_(True)
    target = theirs(feats, lengths).argmax(dim=1)
    x = feats[:, None]

    def own(network, method):
        return lambda: class_activation(network, feats, lengths, target, method).map

    def captum(network):
        attribution = LayerGradCam(network, network.last)
        return lambda: attribution.attribute(x, target=target, relu_attributions=True)

    def library(network, method):
        def run():
            with LIBRARY[method](network, [network.last]) as cam:
                return cam(x, [ClassifierOutputTarget(int(c)) for c in target])

        return run

    runs = {f"ours: {method}": own(ours, method) for method in METHODS}
    runs["ours: grad_cam, network as trained"] = own(plain, "grad_cam")
    runs["captum LayerGradCam"] = captum(theirs)
    for method, cam in LIBRARY.items():
        runs[f"pytorch-grad-cam {cam.__name__}"] = library(theirs, method)
    runs["pytorch-grad-cam GradCAM, all but the last convolution frozen"] = library(
        frozen, "grad_cam"
    )

    assert_equal("captum", runs["ours: grad_cam"](), runs["captum LayerGradCam"]()[:, 0])
    for method, cam in LIBRARY.items():
        mine = runs[f"ours: {method}"]().numpy()
        # Theirs come scaled to [0, 1] and to the size of the features; ours go the same way.
        scaled = scale_cam_image(scale_cam_image(mine, tuple(x.shape[:1:-1])))
        assert_equal(cam.__name__, scaled, runs[f"pytorch-grad-cam {cam.__name__}"]())

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(rounds + 2):
        # In another order each time: whoever follows the longest finds the caches cold.
        for name in order.sample(list(runs), len(runs)):
            # Of the processor, in one thread: what else the machine does is not counted.
            start = time.process_time()
            runs[name]()
            seconds[name].append(time.process_time() - start)
    for name, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(seconds["ours: grad_cam"][2:], times[2:]))
        quarter = len(ratios) // 4
        print(
            f"| {size} | {name} | {1000 * median(times[2:]):.1f} | {median(ratios):.2f} | "
            f"{ratios[quarter]:.2f} to {ratios[-quarter - 1]:.2f} |"
        )


def assert_equal(name: str, mine, other) -> None:
    """To 1e-5 of the greatest value."""
    mine, other = (np.asarray(torch.as_tensor(maps).detach()) for maps in (mine, other))
    apart = np.abs(mine - other).max() / np.abs(other).max()
    assert apart <= 1e-5, f"ours and {name}'s maps differ by {apart:.1e} of the largest"


if __name__ == "__main__":
    main()
