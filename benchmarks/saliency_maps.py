"""Time of a class activation map: ours beside captum and pytorch-grad-cam, on one network and layer.

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

import torch
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from espnet_saliency.accent.fusion import fold_batch_norm  # noqa: E402
from espnet_saliency.accent.resnet import AccentResNet  # noqa: E402
from espnet_saliency.saliency.cam import class_activation  # noqa: E402

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
        self.linear = nn.Linear(self.encoder.output_size(), 8)
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
    for size in SIZES:
        compare(size, feats, lengths, options.rounds)


def compare(size: str, feats: torch.Tensor, lengths: torch.Tensor, rounds: int) -> None:
    theirs = Network(size)
    ours = copy.deepcopy(theirs).requires_grad_(False)
    fold_batch_norm(ours.encoder)  # as AccentClassifier.load does, and the next line as well
    ours.encoder.to(memory_format=torch.channels_last)
    target = theirs(feats, lengths).argmax(dim=1)
    x = feats[:, None]

    def captum():
        return LayerGradCam(theirs, theirs.last).attribute(x, target=target, relu_attributions=True)

    def library(method):
        def run():
            with method(theirs, [theirs.last]) as cam:
                return cam(x, [ClassifierOutputTarget(int(c)) for c in target])

        return run

    runs = {"ours: grad_cam": lambda: class_activation(ours, feats, lengths, target).map}
    for name in ("grad_cam_plus_plus", "layer_cam"):
        runs[f"ours: {name}"] = lambda n=name: class_activation(ours, feats, lengths, target, n).map
    runs["captum LayerGradCam"] = captum
    for method in (GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM):
        runs[f"pytorch-grad-cam {method.__name__}"] = library(method)

    mine, other = runs["ours: grad_cam"](), captum()[:, 0].detach()
    scale = other.amax()
    assert torch.allclose(mine / scale, other / scale, atol=1e-5), "ours and captum's maps differ"

    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = random.Random(0)
    for _ in range(rounds + 2):
        # In another order each time: whoever follows the longest finds the caches cold.
        for name in order.sample(list(runs), len(runs)):
            start = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - start)
    for name, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(seconds["ours: grad_cam"][2:], times[2:]))
        quarter = len(ratios) // 4
        print(
            f"| {size} | {name} | {1000 * median(times[2:]):.1f} | {median(ratios):.2f} | "
            f"{ratios[quarter]:.2f} to {ratios[-quarter - 1]:.2f} |"
        )


if __name__ == "__main__":
    main()
