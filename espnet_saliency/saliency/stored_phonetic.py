"""Stored maps of what the words need: the CTC saliency of a first recogniser (`phonetic`).

One backward pass an utterance is too much to pay at each step of a training, so they are made once
(`archive`) and read by ESPnet as the data stream `phonetic`. A cell is the mean of the map over
BLOCK frames and mel bins (fewer at the ends), scaled to [0, 1] over its utterance; read back, it
lies in the middle of its block.

A map of zeros protects nothing: of an utterance in which the recogniser finds no words, or that is
too short for its encoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from espnet_saliency.saliency.archive import Archive, LowMaps, read_utterances, write_archive
from espnet_saliency.saliency.cam import scale01
from espnet_saliency.saliency.heldout import Batch
from espnet_saliency.saliency.phonetic import CTCRecogniser, ctc_saliency

BLOCK = 4
"""Frames and mel bins of a cell: 40 ms, within the 50 ms that the map is smoothed over anyway."""


def write_phonetic_maps(
    path: Path,
    data: Path,
    folder: Path,
    device: str = "cpu",
    nj: int = 1,
    stats: Path | None = None,
) -> dict[str, Any]:
    """Store the phonetic maps of a dump folder; what an earlier run has finished is kept.

    Args:
        path: the first recogniser's experiment folder, or a .pth file beside its config.yaml.
        data: dump folder with wav.scp and utt2num_samples.
        folder: where they go.
        device: where the recogniser runs.
        nj: processes (one, on a GPU).
        stats: see `CTCRecogniser.load`.

    Returns:
        The content of maps.json: "digest" of the recogniser, "features", "stride", "centre",
        "count", "without_map" (utterances that nothing protects), "kind" and "format".

    Raises:
        UserError: the recogniser or an audio file cannot be read; the recogniser has no CTC head.
    """
    maker = _PhoneticMaps(CTCRecogniser.load(path, stats))
    return write_archive(maker, read_utterances(data), data, folder, device, nj)


def pooled(maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over blocks, scaled to [0, 1].

    Args:
        maps: (B, T, F) in [0, 1], zero in padding.
        lengths: (B,), valid frames.

    Returns:
        (B, T', F') with T' = T / BLOCK and F' = F / BLOCK rounded up, and lengths (B,).
    """
    valid = torch.arange(maps.size(1), device=maps.device) < lengths[:, None]
    counted = valid[:, :, None].to(maps.dtype).expand_as(maps)
    both = torch.stack([maps * counted, counted], dim=1)
    shares = avg_pool2d(both, BLOCK, ceil_mode=True)
    cells = torch.div(lengths + BLOCK - 1, BLOCK, rounding_mode="floor")
    return scale01(shares[:, 0] / shares[:, 1].clamp_min(1e-6), cells), cells


class _PhoneticMaps:
    """Makes the maps of a first recogniser (`archive.Maker`)."""

    title, made_by = "phonetic maps", "first recogniser"

    def __init__(self, recogniser: CTCRecogniser):
        self.network = recogniser
        self.about = {"kind": PhoneticArchive.kind, "digest": recogniser.digest}

    def __call__(self, batch: Batch) -> LowMaps:
        maps, cells = pooled(ctc_saliency(self.network, batch.feats, batch.lengths), batch.lengths)
        return LowMaps(maps, cells, int((maps.amax(dim=(1, 2)) == 0).sum()))

    def measure(self, device: str) -> dict[str, Any]:
        middle = (BLOCK - 1) / 2
        return {"stride": [BLOCK, BLOCK], "centre": [middle, middle]}


class PhoneticArchive(Archive):
    """Stored maps of a first recogniser."""

    kind, stream, made_by = "phonetic", "phonetic", "first recogniser"
