"""What a policy accepts, and the schedule of the share."""

from __future__ import annotations

import math

import pytest
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.policy import MaskPolicy


@pytest.mark.parametrize(
    "options, words",
    [
        ({"patch_frames": 0}, ["patch_frames", "0", ">= 1"]),
        ({"patch_bins": 2.5}, ["patch_bins", "2.5", ">= 1"]),
        ({"min_unmasked_frames": -1}, ["min_unmasked_frames", "-1", ">= 0"]),
        ({"mask_ratio": (0.4, 0.2)}, ["mask_ratio", "0.4", "0.2"]),
        ({"mask_ratio": 1.2}, ["mask_ratio", "1.2", "[0, 1]"]),
        ({"mask_ratio": (0.1, 0.2, 0.3)}, ["mask_ratio", "0.3"]),
        ({"apply_prob": "often"}, ["apply_prob", "often", "[0, 1]"]),
        ({"apply_prob": float("nan")}, ["apply_prob", "nan", "[0, 1]"]),
        ({"apply_prob": None}, ["apply_prob", "None"]),
        ({"temperature": -1.0}, ["temperature", "-1.0", ">= 0"]),
        ({"uniform_mix": 2}, ["uniform_mix", "2", "[0, 1]"]),
        ({"shift_grid": "yes"}, ["shift_grid", "yes"]),
        ({"fill": "silence"}, ["fill", "silence", "mean", "floor", "noise", "shuffle_time"]),
        ({"weight_by": "share"}, ["weight_by", "share", "value", "rank"]),
        ({"axis": "mel"}, ["axis", "mel", "both", "time", "frequency"]),
        ({"warmup_batches": -5}, ["warmup_batches", "-5", ">= 0"]),
        ({"warmup_batches": 0.5}, ["warmup_batches", "0.5", ">= 0"]),
        ({"seed": -1}, ["seed", "-1", ">= 0"]),
    ],
)
def test_a_policy_out_of_range_is_refused(options, words):
    with pytest.raises(UserError) as caught:
        MaskPolicy(**options)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_numbers_as_yaml_writes_them():
    policy = MaskPolicy(mask_ratio=[0.1, 1], temperature="inf", apply_prob="1e-1")
    assert policy.mask_ratio == (0.1, 1.0)
    assert policy.temperature == math.inf and policy.apply_prob == 0.1


def test_the_share_warms_up_linearly():
    policy = MaskPolicy(warmup_batches=4)
    assert [policy.warmed_up(batches) for batches in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert MaskPolicy().warmed_up(0) == 1.0
