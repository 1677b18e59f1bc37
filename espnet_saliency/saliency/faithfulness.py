"""Do the maps show what the classifier relies on? Deletion and insertion on speakers it never heard.

The patches of each utterance are hidden in some order, and the classifier is asked again (deletion
and insertion: Petsiuk, Das and Saenko, "RISE", BMVC 2018). Where a map is faithful, hiding the most
salient patches costs accuracy fast, hiding the least salient costs nothing, and random ones lie
between. `rolled` hides the same shapes half an utterance later: what location alone is worth.
Insertion goes the other way: all is hidden but a share, and the most salient share says most.

A faithful map is worth no more than its classifier: the gap is as wide for one that tells accents
no better than chance, so its balanced accuracy stands beside the curves. And a map that stays the
same when the weights are drawn anew shows the input, not the classifier (Adebayo et al., "Sanity
Checks for Saliency Maps", NeurIPS 2018): the rank correlation of the two should be near zero.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress
from espnet_saliency.saliency.cam import (
    ClassActivation,
    class_activation,
    saliency_map,
    valid_frames,
)
from espnet_saliency.saliency.controls import roll_in_time
from espnet_saliency.saliency.faithfulness_plot import plot
from espnet_saliency.saliency.heldout import batches, read_labelled
from espnet_saliency.saliency.masking import MaskPolicy, draw, fill, place

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
ORDERS = ("salient", "random", "least", "rolled")
INSERTED = ("salient", "random")
"""The orders that insertion is measured for."""
DRAWS = 2000
"""Bootstrap draws."""


def faithfulness(
    classifier: AccentClassifier,
    data: Path,
    folder: Path,
    shares: Sequence[float] = SHARES,
    policy: MaskPolicy = MaskPolicy(),
    limit: int | None = 1000,
    device: str = "cpu",
    seed: int = 0,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure how faithful the maps are on one set; write faithfulness.json and faithfulness.png.

    Args:
        classifier: the accent classifier.
        data: dump folder of a set whose speakers the classifier did not train on.
        folder: where the files go, e.g. exp/saliency_….
        shares: hidden shares of an utterance's cells, in [0, 1].
        policy: size and fill of the patches, as in training; the rest of it has no say here.
        limit: at most this many utterances, evenly spaced.
        device: where the classifier runs.
        seed: of random orders, random weights and the bootstrap.
        method, layer: of the maps, see `cam.class_activation`.

    Returns:
        {"set", "shares", "curves": {order: accuracies}, "intervals": {order: [[low, high], …]}
        (95 %, bootstrap over speakers), "insertion": {"curves", "intervals", "nothing": accuracy
        with all hidden}, "auc": {"deletion" | "insertion": {order: {"value", "low", "high"},
        "salient_gain": the same}}, "untouched" (accuracy), "balanced_accuracy", "chance",
        "random_weights_correlation" (mean rank correlation; None where it is defined nowhere),
        "utterances", "speakers", "left_out", "method", "layer", …}; all rates are shares of
        one. An AUC is the mean accuracy over the shares from 0 to the last (trapezoid).
        `salient_gain` is how much better the salient order does than the random one: lower in
        deletion, higher in insertion; a faithful map's interval lies above 0.

    Raises:
        UserError: no utterance of an accent that the classifier knows; a file that cannot be read;
            an unknown method or layer.
    """
    utterances, left_out = read_labelled(data, classifier, limit)
    policy = dataclasses.replace(
        policy,
        apply_prob=1.0,
        temperature=0.0,
        uniform_mix=0.0,
        min_unmasked_frames=0,
        shift_grid=False,
    )
    classifier = classifier.to(device)
    stranger = random_weights(classifier, seed)
    generator = torch.Generator().manual_seed(seed)
    speakers: list[str] = []
    accents: list[int] = []
    hits: list[np.ndarray] = []  # (2 + curves * shares,) of each utterance
    correlations: list[float] = []
    with Progress(f"faithfulness on {data.name}", len(utterances)) as progress:
        for batch in batches(utterances, classifier, device):
            maps, cam = saliency_map(
                classifier, batch.feats, batch.lengths, method=method, layer=layer
            )
            heard = _ask(
                classifier, batch.feats, batch.lengths, maps, cam.logits, shares, policy, generator
            )
            hits.extend((heard == batch.accents).T.cpu().numpy())
            other = class_activation(
                stranger, batch.feats, batch.lengths, cam.target, method, layer
            )
            correlations += rank_correlations(cam, other)
            speakers += [one.speaker for one in batch.utterances]
            accents += [one.accent for one in batch.utterances]
            progress.advance(len(batch.utterances))

    right = np.array(hits, dtype=float)
    auc = _areas(right, shares)
    rates, low, high = bootstrap(np.column_stack([right, *auc.values()]), speakers, seed)
    curves, intervals = {}, {}
    for number, (direction, order) in enumerate(_CURVES):
        columns = slice(2 + number * len(shares), 2 + (number + 1) * len(shares))
        curves[direction, order] = rates[columns].tolist()
        intervals[direction, order] = np.stack([low[columns], high[columns]], axis=1).tolist()
    areas: dict[str, dict] = {"deletion": {}, "insertion": {}}
    for (direction, order), column in zip(auc, range(right.shape[1], len(rates))):
        areas[direction][order] = {
            "value": float(rates[column]), "low": float(low[column]), "high": float(high[column]),
        }  # fmt: skip
    of_accent = np.array(accents)
    present = sorted(Counter(accents))
    result = {
        "set": data.name,
        "shares": list(shares),
        "curves": {order: curves["deletion", order] for order in ORDERS},
        "intervals": {order: intervals["deletion", order] for order in ORDERS},
        "insertion": {
            "curves": {order: curves["insertion", order] for order in INSERTED},
            "intervals": {order: intervals["insertion", order] for order in INSERTED},
            "nothing": float(rates[1]),
        },
        "auc": areas,
        "untouched": float(rates[0]),
        "untouched_interval": [float(low[0]), float(high[0])],
        "balanced_accuracy": float(np.mean([right[of_accent == a, 0].mean() for a in present])),
        "chance": 1 / len(present),
        "random_weights_correlation": float(np.mean(correlations)) if correlations else None,
        "utterances": len(utterances),
        "speakers": len(set(speakers)),
        "left_out": left_out,
        "patch": [policy.patch_frames, policy.patch_bins],
        "fill": policy.fill,
        "seed": seed,
        "method": method,
        "layer": layer if layer is None or isinstance(layer, str) else list(layer),
        "classifier": classifier.digest,
    }
    with atomic_file(folder / "faithfulness.json") as handle:
        json.dump(result, handle, indent=1, ensure_ascii=False)
        handle.write("\n")
    plot(result, folder / "faithfulness.png")
    return result


_CURVES = [*(("deletion", o) for o in ORDERS), *(("insertion", o) for o in INSERTED)]


def _areas(right: np.ndarray, shares: Sequence[float]) -> dict[tuple[str, str], np.ndarray]:
    """(direction, order) -> area under the curve of each utterance, (utterances,), in [0, 1]."""
    at = np.array([0.0, *shares])
    areas = {}
    for number, (direction, order) in enumerate(_CURVES):
        first = right[:, 0] if direction == "deletion" else right[:, 1]
        points = right[:, 2 + number * len(shares) : 2 + (number + 1) * len(shares)]
        curve = np.column_stack([first, points])
        areas[direction, order] = np.trapezoid(curve, at, axis=1) / (at[-1] or 1.0)
    for direction, sign in (("deletion", -1), ("insertion", 1)):
        gain = areas[direction, "salient"] - areas[direction, "random"]
        areas[direction, "salient_gain"] = sign * gain
    return areas


def _ask(
    classifier: AccentClassifier,
    feats: Tensor,
    lengths: Tensor,
    maps: Tensor,
    logits: Tensor,
    shares: Sequence[float],
    policy: MaskPolicy,
    generator: torch.Generator,
) -> Tensor:
    """(2 + curves * shares, B), what the classifier hears untouched, with all hidden, and so on."""
    size = (feats.size(1), feats.size(2))
    with torch.no_grad():
        draws = draw(feats.size(0), size, policy, generator)
        valid = valid_frames(lengths, size[0])[:, :, None].expand(-1, -1, size[1])

        def heard(mask: Tensor) -> Tensor:
            hidden = fill(feats, mask, lengths, policy.fill, generator)
            return classifier(hidden, lengths).argmax(dim=-1)

        answers = [logits.argmax(dim=-1), heard(valid)]
        by_order = {
            "salient": maps,
            "random": None,
            "least": 1.0 - maps,
            "rolled": roll_in_time(maps, lengths),
        }
        for direction, order in _CURVES:
            for share in shares:
                # The same draws at each share: what is hidden at 5 % is hidden at 10 % as well.
                fixed = draws._replace(share=torch.full_like(draws.share, share))
                mask = place(fixed, by_order[order], lengths, size, policy)
                answers.append(heard(mask if direction == "deletion" else valid & ~mask))
    return torch.stack(answers)


def random_weights(classifier: AccentClassifier, seed: int) -> AccentClassifier:
    """A copy whose weights are drawn anew; torch's random state stays as it is."""
    stranger = copy.deepcopy(classifier)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in stranger.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return stranger


def rank_correlations(first: ClassActivation, second: ClassActivation) -> list[float]:
    """Spearman's correlation of the two maps of each utterance; a flat map has none."""
    from scipy.stats import spearmanr

    correlations = []
    for one, other, length in zip(first.map.cpu(), second.map.cpu(), first.lengths.tolist()):
        one, other = one[:length].flatten().numpy(), other[:length].flatten().numpy()
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            correlations.append(float(spearmanr(one, other).statistic))
    return correlations


def bootstrap(
    right: np.ndarray, speakers: Sequence[str], seed: int, draws: int = DRAWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracies with 95 % percentile intervals; whole speakers are drawn, not utterances.

    Args:
        right: (utterances, conditions), 1 where the classifier was right.
        speakers: of each utterance.
        seed: of the draws.
        draws: how many.

    Returns:
        accuracy, lower and upper end, (conditions,) each.
    """
    names = sorted(set(speakers))
    row = {name: number for number, name in enumerate(names)}
    hits = np.zeros((len(names), right.shape[1]))
    count = np.zeros(len(names))
    for name, one in zip(speakers, right):
        hits[row[name]] += one
        count[row[name]] += 1
    times = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=draws
    )
    drawn = (times @ hits) / (times @ count)[:, None]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return right.mean(axis=0), low, high
