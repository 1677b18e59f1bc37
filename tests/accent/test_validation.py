"""The classifier's best epoch is that of the best balanced accuracy."""

from __future__ import annotations

import argparse

import pytest
import torch
from espnet_saliency.accent.validation import BalancedAccuracy, balance_validation, class_weights
from sklearn.metrics import balanced_accuracy_score


def test_weights_by_hand():
    # Four labels of two classes: 4 / (2 * 3) and 4 / (2 * 1); nobody speaks c.
    weights = class_weights(["a", "a", "b", "a"], ["a", "b", "c"])
    assert weights.tolist() == pytest.approx([2 / 3, 2, 0])


def test_mean_over_a_set_in_batches_is_the_balanced_accuracy(build):
    model = build().eval()
    generator = torch.Generator().manual_seed(1)
    labels = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), 101, True, generator=generator)
    scores = torch.randn(101, 3, generator=generator)
    weights = class_weights(["abc"[i] for i in labels], ["a", "b", "c"])
    metric = BalancedAccuracy(model, model.metric_functions["acc"], weights)
    batches = zip(scores.split(16), labels.split(16))
    mean = sum(float(metric(*batch)) * len(batch[1]) for batch in batches) / 101
    assert mean == pytest.approx(balanced_accuracy_score(labels, scores.argmax(dim=1)), abs=1e-6)
    # In training it is the share of right answers.
    model.train()
    right = (scores.argmax(dim=1) == labels).float().mean()
    assert float(metric(scores, labels)) == pytest.approx(float(right))


def test_built_for_training_it_validates_so_and_loaded_it_does_not_ask_for_labels(config, tmp_path):
    from espnet2.tasks.cls import CLSTask
    from espnet_saliency import plugin

    plugin.register(["cls"])
    label = tmp_path / "label"
    label.write_text("u1 a\nu2 a\nu3 c\n")
    data = [["wav.scp", "speech", "sound"], [str(label), "label", "text"]]

    def built(**changes):
        args = argparse.Namespace(**config(**changes), valid_data_path_and_name_and_type=data)
        return CLSTask.build_model(args).metric_functions["acc"]

    assert built().weights.tolist() == pytest.approx([3 / 4, 0, 3 / 2])
    other = built(encoder="transformer", encoder_conf={"output_size": 8})
    assert not isinstance(other, BalancedAccuracy)
    label.unlink()
    assert not isinstance(built(), BalancedAccuracy)


def test_without_data_nothing_changes(build):
    model = build()
    metrics = model.metric_functions
    balance_validation(model, ())
    assert model.metric_functions is metrics
