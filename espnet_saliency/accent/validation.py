"""Validation of the classifier by balanced accuracy: the best epoch is best for all accents.

ESPnet keeps the epochs whose `acc` on the validation set is highest. Where nine tenths of that set
are of one accent, a classifier that always says so is hard to beat. Here each utterance counts in
inverse proportion to how many its accent has, and the mean over the set is the mean recall.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor, nn


class BalancedAccuracy:
    """ESPnet's metric `acc`: in training as it was, in validation with a weight for each class.

    A batch's value is no accuracy and may exceed 1; the mean over all utterances of the set is the
    balanced accuracy, since ESPnet weighs batches by their size.

    Args:
        model: whose mode says whether a batch is of training or of validation.
        plain: the metric that it replaces.
        weights: (n_classes,), weight of a right answer, from `class_weights`.
    """

    def __init__(
        self, model: nn.Module, plain: Callable[[Tensor, Tensor], Tensor], weights: Tensor
    ):
        self._model = model
        self._plain = plain
        self.weights = weights

    def __call__(self, predictions: Tensor, target: Tensor) -> Tensor:
        """Args: predictions (B, n_classes), posteriors or logits; target (B,), indices."""
        if self._model.training:
            return self._plain(predictions, target)
        right = predictions.argmax(dim=-1) == target
        return (self.weights.to(predictions)[target] * right).mean()


def class_weights(labels: Sequence[str], classes: Sequence[str]) -> Tensor:
    """N / (K n) for each class: N labels, K classes among them, n of this class; 0 where n is 0.

    Args:
        labels: the accent of each utterance of the validation set.
        classes: all accents, in the order of the classifier's outputs.

    Returns:
        (n_classes,) weights whose mean over the labels is 1.
    """
    counts = Counter(labels)
    present = sum(1 for name in classes if counts[name])
    return torch.tensor(
        [len(labels) / (present * counts[name]) if counts[name] else 0.0 for name in classes]
    )


def balance_validation(model: nn.Module, data: Sequence[Sequence[str]]) -> None:
    """Have ESPnet's cls model report the balanced accuracy of its validation set as `acc`.

    Args:
        model: ESPnetClassificationModel of one class an utterance.
        data: --valid_data_path_and_name_and_type: (path, name, type) of each stream. Without a
            `label` file that is there (the model is loaded, not trained), nothing changes.
    """
    files = [Path(path) for path, name, *_ in data if name == "label"]
    if not files or not files[0].is_file() or "acc" not in model.metric_functions:
        return
    lines = files[0].read_text(encoding="utf-8").splitlines()
    labels = [line.split()[1] for line in lines if len(line.split()) == 2]
    classes = model.token_list[: model.vocab_size]
    weights = class_weights([label for label in labels if label in classes], classes)
    metrics = model.metric_functions
    model.metric_functions = {**metrics, "acc": BalancedAccuracy(model, metrics["acc"], weights)}
