"""Stored maps of what gives an accent away: made once for a training set, not at each batch.

They are kept at the resolution of the classifier's layer (`archive`), and read by ESPnet as the
data stream `saliency`.

A map of zeros says nothing, and its utterance gets random masks: where the true accent is not known
or the classifier is in doubt (`min_confidence`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.archive import (
    FORMAT,
    Archive,
    LowMaps,
    read_utterances,
    write_archive,
)
from espnet_saliency.saliency.cam import class_activation, scale01
from espnet_saliency.saliency.heldout import Batch
from espnet_saliency.saliency.map_settings import MapSettings
from espnet_saliency.saliency.targets import contrast

__all__ = ["FORMAT", "MapArchive", "low_maps", "write_maps"]


def write_maps(
    path: Path,
    data: Path,
    folder: Path,
    settings: MapSettings = MapSettings(),
    device: str = "cpu",
    nj: int = 1,
) -> dict[str, Any]:
    """Store the maps of a dump folder's utterances; what an earlier run has finished is kept.

    Args:
        path: the accent classifier's experiment folder.
        data: dump folder with wav.scp, utt2num_samples and, for the true accents, utt2accent.
        folder: where they go.
        settings: what maps.
        device: where the classifier runs.
        nj: processes (one, on a GPU).

    Returns:
        The content of maps.json: settings, "digest" of the classifier, "features", "accents",
        "stride", "count", "without_map" (utterances whose map is zero by choice) and "format".

    Raises:
        UserError: the classifier or an audio file cannot be read; a target that cannot be stored.
    """
    if not settings.storable:
        raise UserError(
            f"target {settings.target} is drawn anew each time: its maps cannot be stored"
        )
    classifier = AccentClassifier.load(path)
    number = {accent: n for n, accent in enumerate(classifier.accents)}
    utterances = read_utterances(data, number)
    return write_archive(_AccentMaps(classifier, settings), utterances, data, folder, device, nj)


class _AccentMaps:
    """Makes the maps of an accent classifier (`archive.Maker`)."""

    title, made_by = "maps", "classifier"

    def __init__(self, classifier: AccentClassifier, settings: MapSettings):
        self.network, self.settings = classifier, settings
        self.about = {
            "kind": MapArchive.kind,
            **dataclasses.asdict(settings),
            "digest": classifier.digest,
            "accents": list(classifier.accents),
        }

    def __call__(self, batch: Batch) -> LowMaps:
        low, trusted = low_maps(
            self.network, batch.feats, batch.lengths, batch.accents, self.settings
        )
        return LowMaps(low.map, low.lengths, int((~trusted).sum()))

    def measure(self, device: str) -> dict[str, Any]:
        # Of a blank long enough to tell: a short utterance fits several strides.
        network, settings = self.network.to(device), self.settings
        blank = torch.zeros(1, 1024, network.features.n_mels, device=device)
        lengths = torch.tensor([blank.size(1)], device=device)
        cam = class_activation(
            network, blank, lengths, method=settings.method, layer=settings.layer
        )
        return {"stride": list(cam.stride)}


def low_maps(
    classifier: AccentClassifier,
    feats: Tensor,
    lengths: Tensor,
    accents: Tensor,
    settings: MapSettings,
):
    """Maps of a batch at the layer's resolution, in [0, 1].

    Args:
        classifier: the accent classifier.
        feats: (B, T, F), log-mel, not normalised.
        lengths: (B,), valid frames.
        accents: (B,), true accents, -1 where unknown.
        settings: what maps.

    Returns:
        `cam.ClassActivation` with the scaled map; (B,) bool, false where it is zero by choice.
    """
    target = None
    if settings.target == "true":
        target = accents.clamp_min(0)
    elif settings.target == "contrast":
        if settings.reference_accent not in classifier.accents:
            raise UserError(
                f"specaug_conf.reference_accent: {settings.reference_accent!r} is not one of "
                f"{', '.join(classifier.accents)}"
            )
        target = contrast(classifier.accents.index(settings.reference_accent))
    with torch.no_grad():
        cam = class_activation(classifier, feats, lengths, target, settings.method, settings.layer)
        trusted = torch.ones_like(lengths, dtype=torch.bool)
        if settings.target == "true":
            trusted &= accents >= 0
        if settings.min_confidence > 0:
            posterior = cam.logits.softmax(dim=-1).gather(1, cam.target[:, None])[:, 0]
            trusted &= posterior >= settings.min_confidence
        low = scale01(cam.map, cam.lengths) * trusted[:, None, None]
    return cam._replace(map=low), trusted


class MapArchive(Archive):
    """Stored maps of an accent classifier."""

    kind, stream, made_by = "accent", "saliency", "classifier"

    def __init__(self, folder: Path, about: dict[str, Any]):
        super().__init__(folder, about)
        self.method: str = about["method"]
        layer = about["layer"]
        layer = tuple(layer) if isinstance(layer, list) else layer
        self.layer: str | tuple[str, ...] | None = layer
        self.target: str = about["target"]
        self.reference_accent: str | None = about["reference_accent"]
        self.accents = tuple(about["accents"])

    def check(self, digest: str) -> None:
        """Refuse maps of another classifier than the one with this digest."""
        if digest != self.digest:
            raise UserError(
                f"{self.folder}: maps of another classifier (digest {self.digest[:12]}, asked for "
                f"{digest[:12]}): make them anew with stage 9"
            )
