"""Maps of what the words need, and the protection that they give."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from espnet2.tasks.asr import ASRTask
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.phonetic import (
    CTCRecogniser,
    ctc_saliency,
    phonetic_change,
    protect,
)

CONFIG = {
    "token_list": ["<blank>", "<unk>", "a", "b", "<sos/eos>"],
    "frontend": "default", "frontend_conf": {"n_mels": 20, "fs": 16000},
    "specaug": None, "specaug_conf": {}, "normalize": "utterance_mvn", "normalize_conf": {},
    "preencoder": None, "preencoder_conf": {}, "postencoder": None, "postencoder_conf": {},
    "encoder": "conformer",
    "encoder_conf": {"output_size": 16, "attention_heads": 2, "linear_units": 16, "num_blocks": 1},
    "decoder": None, "decoder_conf": {}, "model": "espnet", "model_conf": {"ctc_weight": 1.0},
    "ctc_conf": {}, "joint_net_conf": {}, "input_size": None, "init": None,
}  # fmt: skip


def build(**changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ASRTask.build_model(argparse.Namespace(**{**CONFIG, **changes}))


def test_protection_by_hand():
    saliency = torch.tensor([[[0.8, 0.8, 0.8]]])
    phonetic = torch.tensor([[[0.0, 0.5, 1.0]]])
    assert protect(saliency, phonetic, 2.0).flatten().tolist() == pytest.approx([0.8, 0.2, 0.0])
    assert torch.equal(protect(saliency, phonetic, 0.0), saliency)


def test_change_is_where_the_spectrum_changes():
    feats = torch.zeros(1, 60, 20)
    feats[:, 30:, 10:] = 4.0  # a step at frame 30 in the upper half
    maps = phonetic_change(feats, torch.tensor([60]))
    assert maps.shape == feats.shape and maps.max() == 1.0
    assert maps[0, 28:32, 12:].mean() > 0.8
    assert maps[0, :24].abs().max() == maps[0, 36:].abs().max() == 0.0
    assert maps[0, :, :7].abs().max() == 0.0


def test_slope_is_the_regression_over_five_frames():
    # A ramp has the same slope everywhere: one value inside, so its map is flat but for the ends.
    feats = torch.arange(40.0)[None, :, None].expand(1, 40, 8).clone()
    feats[0, 20:] += 3.0 * torch.arange(20.0)[:, None]
    maps = phonetic_change(feats, torch.tensor([40]))
    np.testing.assert_allclose(maps[0, 26:34].numpy(), 1.0, atol=1e-5)  # slope 4
    expected = (1.0 - maps_low(feats)) / (4.0 - maps_low(feats))
    np.testing.assert_allclose(maps[0, 8:14].numpy(), expected, atol=1e-4)  # slope 1


def maps_low(feats) -> float:
    """The lowest root mean square slope, at the first frames, where the ramp's end is repeated."""
    values = feats[0, :, 0].tolist()
    slopes = []
    for t in range(40):
        at = [values[min(max(t + k, 0), 39)] for k in (-2, -1, 1, 2)]
        slopes.append((2 * (at[3] - at[0]) + (at[2] - at[1])) / 10)
    smooth = [np.mean(np.square(slopes[max(0, t - 2) : t + 3])) for t in range(40)]
    return float(np.sqrt(min(smooth)))


def test_an_utterance_gets_the_map_that_it_gets_alone():
    torch.manual_seed(0)
    feats, lengths = torch.randn(3, 80, 20), torch.tensor([80, 50, 31])
    recogniser = CTCRecogniser(build())
    for make in (phonetic_change, lambda f, n: ctc_saliency(recogniser, f, n)):
        together = make(feats, lengths)
        for row, n in enumerate(lengths.tolist()):
            alone = make(feats[row : row + 1, :n], lengths[row : row + 1])
            torch.testing.assert_close(together[row, :n], alone[0], atol=2e-3, rtol=0)
            assert not together[row, n:].any()


def test_ctc_saliency_is_the_gradient_times_the_input():
    torch.manual_seed(0)
    model = build()
    recogniser = CTCRecogniser(model)
    feats, lengths = torch.randn(1, 60, 20), torch.tensor([60])
    state = {key: value.clone() for key, value in model.state_dict().items()}
    maps = ctc_saliency(recogniser, feats, lengths)
    assert 0 <= maps.min() and maps.max() == 1.0
    # Independently: finite differences of the score along one cell, against another cell.
    posteriors, _ = recogniser.log_posteriors(feats, lengths)
    best, token = posteriors.max(dim=-1)
    emits = token != 0
    assert emits.any()

    def score(x):
        return (recogniser.log_posteriors(x, lengths)[0].gather(2, token[:, :, None])[:, :, 0] * emits).sum()

    raw = torch.zeros(60, 20)
    for t, f in ((10, 5), (30, 12)):
        step = torch.zeros_like(feats)
        step[0, t, f] = 1e-2
        slope = (score(feats + step) - score(feats - step)) / 2e-2
        raw[t, f] = (slope * (feats[0, t, f] - feats[0, :, f].mean())).abs()
    leaf = feats.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf), leaf)
    weight = (gradient * (feats - feats.mean(dim=1, keepdim=True))).abs()[0]
    for t, f in ((10, 5), (30, 12)):
        assert raw[t, f] == pytest.approx(float(weight[t, f]), rel=0.05, abs=1e-3)
    smooth = weight[None, None].unfold(2, 5, 1).unfold(3, 5, 1).sum(dim=(-1, -2))[0, 0] / 25
    inner = maps[0, 2:-2, 2:-2]
    assert np.corrcoef(inner.flatten(), smooth.flatten())[0, 1] > 0.9999
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_recogniser_is_loaded_from_its_experiment(tmp_path):
    import yaml

    model = build()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "specaug": "saliency"}))
    with pytest.raises(UserError, match="no trained recogniser there"):
        CTCRecogniser.load(tmp_path)
    torch.save(model.state_dict(), tmp_path / "valid.loss.ave.pth")
    loaded = CTCRecogniser.load(tmp_path)
    feats, lengths = torch.randn(1, 50, 20), torch.tensor([50])
    expected = CTCRecogniser(model).log_posteriors(feats, lengths)[0]
    assert torch.equal(loaded.log_posteriors(feats, lengths)[0], expected)
    assert not loaded.train().training
    (tmp_path / "valid.loss.ave.pth").write_bytes(b"no model")
    with pytest.raises(UserError, match="valid.loss.ave.pth: not"):
        CTCRecogniser.load(tmp_path)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match="config.yaml: missing"):
        CTCRecogniser.load(tmp_path)


def test_a_model_without_ctc_is_refused():
    model = build()
    model.ctc = None
    with pytest.raises(UserError, match="has no CTC head"):
        CTCRecogniser(model)
