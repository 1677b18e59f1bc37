"""Do two classifiers show the same? Agreement of their maps on speakers that neither has heard.

A map that changes with the seed of the classifier's training says more about that training than
about the accent. Two numbers for each utterance: Spearman's correlation of the two low-resolution
maps, and how much of the most salient fifth of one is in the most salient fifth of the other
(intersection over union; two random fifths have 1/9). What the correlation is with a classifier of
random weights stands beside them (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress
from espnet_saliency.saliency.cam import ClassActivation, class_activation
from espnet_saliency.saliency.faithfulness import random_weights, rank_correlations
from espnet_saliency.saliency.heldout import batches, read_labelled

TOP = 0.2
"""The most salient share whose overlap is measured."""


def stability(
    first: AccentClassifier,
    second: AccentClassifier,
    data: Path,
    folder: Path,
    limit: int | None = 500,
    device: str = "cpu",
    seed: int = 0,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare the maps of two classifiers, each for the true accent; write stability.json.

    Args:
        first, second: classifiers of the same accents and features, e.g. of two seeds.
        data: dump folder of a set whose speakers neither trained on.
        folder: where stability.json goes.
        limit: at most this many utterances, evenly spaced.
        device: where the classifiers run.
        seed: of the random weights.
        method, layer: of the maps, see `cam.class_activation`.

    Returns:
        {"correlation", "random_weights_correlation" (means over utterances; None where they are
        defined for none), "overlap" (mean intersection over union of the top fifths), "chance_overlap",
        "agreement" (share of utterances that both give the same accent), "utterances", "method",
        "layer", "classifiers" (their digests)}.

    Raises:
        UserError: the classifiers know other accents or hear other features; an unknown method or
            layer.
    """
    if first.accents != second.accents:
        raise UserError(
            f"the two classifiers know other accents: {', '.join(first.accents)} and "
            f"{', '.join(second.accents)}: train both on the same data"
        )
    differences = first.features.difference(second.features)
    if differences:
        raise UserError(f"the two classifiers hear other features: {'; '.join(differences)}")
    utterances, _ = read_labelled(data, first, limit)
    first, second = first.to(device), second.to(device)
    stranger = random_weights(first, seed)
    same, strange, overlaps, agreed = [], [], [], 0
    with Progress(f"stability of maps on {data.name}", len(utterances)) as progress:
        for batch in batches(utterances, first, device):
            maps = [
                class_activation(c, batch.feats, batch.lengths, batch.accents, method, layer)
                for c in (first, second, stranger)
            ]
            same += rank_correlations(maps[0], maps[1])
            strange += rank_correlations(maps[0], maps[2])
            overlaps += top_overlaps(maps[0], maps[1])
            named = [m.logits.argmax(dim=-1) for m in maps[:2]]
            agreed += int((named[0] == named[1]).sum())
            progress.advance(len(batch.utterances))
    result = {
        "set": data.name,
        "correlation": float(np.mean(same)) if same else None,
        "random_weights_correlation": float(np.mean(strange)) if strange else None,
        "overlap": float(np.mean(overlaps)),
        "chance_overlap": TOP / (2 - TOP),
        "agreement": agreed / len(utterances),
        "utterances": len(utterances),
        "method": method,
        "layer": layer if layer is None or isinstance(layer, str) else list(layer),
        "classifiers": [first.digest, second.digest],
    }
    with atomic_file(folder / "stability.json") as handle:
        json.dump(result, handle, indent=1)
        handle.write("\n")
    return result


def top_overlaps(first: ClassActivation, second: ClassActivation) -> list[float]:
    """Intersection over union of the most salient fifths of the two maps of each utterance."""
    overlaps = []
    for one, other, length in zip(first.map.cpu(), second.map.cpu(), first.lengths.tolist()):
        one, other = one[:length].flatten(), other[:length].flatten()
        count = max(1, round(TOP * len(one)))
        tops = [set(m.argsort(descending=True, stable=True)[:count].tolist()) for m in (one, other)]
        overlaps.append(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))
    return overlaps
