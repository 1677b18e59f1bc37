"""Agreement of the maps of two classifiers."""

from __future__ import annotations

import json

import pytest
import torch
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import ClassActivation
from espnet_saliency.saliency.faithfulness import random_weights
from espnet_saliency.saliency.stability import stability, top_overlaps


def activation(*maps, lengths):
    return ClassActivation(torch.tensor(maps), torch.tensor(lengths), (1, 1), None, None)


def test_overlap_by_hand():
    # Ten cells: the top fifth is two of them. They share one of three; then both; padding is out.
    first = activation(
        [[9.0, 8.0, 0, 0, 0], [0, 0, 0, 0, 0.0]], [[9.0, 0, 0, 0, 0], [5, 5, 5, 5, 5.0]], lengths=[2, 1]
    )
    second = activation(
        [[9.0, 0, 8.0, 0, 0], [0, 0, 0, 0, 0.0]], [[7.0, 0, 0, 0, 0], [0, 0, 0, 0, 0.0]], lengths=[2, 1]
    )
    assert top_overlaps(first, second) == pytest.approx([1 / 3, 1.0])


def test_a_classifier_agrees_with_itself_and_not_with_random_weights(glide_classifier, glides, tmp_path):
    same = stability(glide_classifier, glide_classifier, glides, tmp_path)
    assert same["correlation"] == pytest.approx(1.0) and same["overlap"] == 1.0
    assert same["agreement"] == 1.0 and same["utterances"] == 48
    assert same["chance_overlap"] == pytest.approx(1 / 9)
    assert json.loads((tmp_path / "stability.json").read_text()) == same
    other = stability(glide_classifier, random_weights(glide_classifier, 3), glides, tmp_path)
    assert other["correlation"] < 0.6 and other["overlap"] < 0.6


def test_other_accents_or_features_are_refused(glide_classifier, make_experiment, glides, tmp_path):
    from espnet_saliency.accent.classifier import AccentClassifier

    other = AccentClassifier.load(
        make_experiment(tmp_path / "a", token_list=["low", "high", "<unk>"])
    )
    with pytest.raises(UserError, match="other accents: falling, rising and low, high"):
        stability(glide_classifier, other, glides, tmp_path)
