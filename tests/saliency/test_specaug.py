"""The augmentation as ESPnet meets it: a module, its options, its state, its place in a model."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.torch_utils.initialize import initialize
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import saliency_map
from espnet_saliency.saliency.masking import fill
from espnet_saliency.saliency.specaug import METHODS, TARGETS, SaliencySpecAug

SPECAUG = dict(
    apply_time_warp=True,
    time_warp_window=5,
    freq_mask_width_range=[0, 6],
    num_freq_mask=2,
    time_mask_width_ratio_range=[0.0, 0.2],
    num_time_mask=2,
)
AUG = Path(__file__).parents[2] / "conf" / "aug"


@pytest.fixture
def make(make_classifier):
    def make(method: str = "grad_cam", **options) -> SaliencySpecAug:
        options = {"patch_frames": 4, "patch_bins": 4, **options}
        augmentation = SaliencySpecAug(method=method, classifier="exp/accent", **options)
        augmentation.use(make_classifier())
        return augmentation

    return make


def test_probability_zero_is_the_identity(make, batch):
    for method in METHODS:
        augmented, lengths = make(method, apply_prob=0.0)(*batch)
        assert torch.equal(augmented, batch[0]) and torch.equal(lengths, batch[1])


@pytest.mark.parametrize("method", METHODS)
def test_probability_one_masks_every_utterance_and_no_padding(make, batch, method):
    feats, lengths = batch
    torch.manual_seed(0)
    augmented, _ = make(method, apply_prob=1.0, mask_ratio=0.5, min_unmasked_frames=1)(*batch)
    changed = augmented != feats
    for index, length in enumerate(lengths.tolist()):
        assert not changed[index, length:].any()
        assert 0.3 < float(changed[index, :length].float().mean()) < 0.7
    values = feats[0].mean(dim=0).expand(50, 16)[changed[0]]
    torch.testing.assert_close(augmented[0][changed[0]], values)


@pytest.mark.parametrize("specaug", [None, SPECAUG])
@pytest.mark.parametrize("apply_prob", [0.0, 1.0])
def test_the_callers_tensor_is_unchanged(make, batch, specaug, apply_prob):
    feats, lengths = batch
    before = feats.clone(), lengths.clone()
    augmented, _ = make(apply_prob=apply_prob, specaug=specaug)(feats, lengths)
    assert torch.equal(feats, before[0]) and torch.equal(lengths, before[1])
    assert torch.equal(augmented, feats) == (specaug is None and apply_prob == 0.0)


def test_a_seed_fixes_the_masks_wherever_the_classifier_comes_from(make, batch):
    def masks(augmentation, seed):
        torch.manual_seed(seed)
        return [augmentation(*batch)[0] for _ in range(3)]

    first, again, other = masks(make(), 3), masks(make(), 3), masks(make(), 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not all(torch.equal(a, b) for a, b in zip(first, other))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("target", TARGETS)
def test_masks_hide_what_the_classifier_hears(make, batch, target):
    feats, lengths = (tensor[:2].repeat_interleave(60, 0) for tensor in batch)
    augmentation = make(target=target, apply_prob=1.0, uniform_mix=0.0, temperature=0.3)
    control = make("random", apply_prob=1.0)
    torch.manual_seed(0)
    mask = augmentation.mask(feats, lengths)
    torch.manual_seed(0)
    random = control.mask(feats, lengths)
    classifier = augmentation.classifier.get(feats)
    maps, _ = saliency_map(classifier, feats, lengths)
    assert maps[mask].mean() > 1.2 * maps[random].mean()


def test_the_sampled_target_follows_the_posterior(make):
    choose = make(target="sample")._choose(20000, torch.arange(20000))
    probabilities = torch.tensor([0.2, 0.5, 0.3])
    chosen = choose(probabilities.log().expand(20000, 3))
    share = torch.bincount(chosen, minlength=3) / 20000
    assert share.tolist() == pytest.approx(probabilities.tolist(), abs=0.015)


def test_only_participants_cost_a_pass(make, batch):
    feats, lengths = batch
    augmentation = make(apply_prob=0.5)
    calls = augmentation.classifier.get(feats).calls
    torch.manual_seed(0)
    changed = [
        (augmentation(feats, lengths)[0] != feats).flatten(1).any(dim=1).sum() for _ in range(30)
    ]
    sizes = [shape[0] for shape in calls]
    assert 0 < len(sizes) <= 30 and min(sizes) >= 1 and 0.3 < sum(sizes) / 120 < 0.7
    # The utterance of 3 frames takes part too, but is too short to lose any.
    assert sum(changed) <= sum(sizes) and 0 in changed


def test_without_lengths_every_frame_is_valid(make, batch):
    feats = batch[0]
    augmentation = make(apply_prob=1.0)
    torch.manual_seed(0)
    with_none, lengths = augmentation(feats, None)
    assert lengths is None
    torch.manual_seed(0)
    assert torch.equal(with_none, augmentation(feats, torch.full((4,), 50))[0])


def test_specaugment_follows_with_its_own_settings(make, batch):
    feats, lengths = batch
    augmentation = make(apply_prob=1.0, specaug=SPECAUG)
    torch.manual_seed(0)
    augmented, _ = augmentation(feats, lengths)
    torch.manual_seed(0)
    masked = fill(feats, augmentation.mask(feats, lengths), lengths, "mean")
    expected, _ = SpecAug(**SPECAUG)(masked, lengths)
    assert torch.equal(augmented, expected)


@pytest.mark.parametrize("frames", range(1, 11))
def test_short_utterances_survive(make, frames):
    feats = torch.randn(3, frames, 16)
    for method in METHODS:
        augmentation = make(method, apply_prob=1.0, mask_ratio=1.0, min_unmasked_frames=2)
        augmented, lengths = augmentation(feats, torch.full((3,), frames))
        assert augmented.shape == feats.shape and torch.isfinite(augmented).all()
        untouched = (augmented == feats).all(dim=2).sum(dim=1)
        assert (untouched >= min(frames, 2)).all()


class Recogniser(torch.nn.Module):
    def __init__(self, specaug):
        super().__init__()
        self.specaug, self.layer = specaug, torch.nn.Linear(16, 4)

    def forward(self, feats, lengths):
        return self.layer(self.specaug(feats, lengths)[0])


def test_training_leaves_the_classifier_alone(make, batch):
    model = Recogniser(make(apply_prob=1.0))
    classifier = model.specaug.classifier.get(batch[0])
    before = copy.deepcopy(classifier.state_dict())
    initialize(model, "xavier_uniform")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model.train()
        model(*batch).square().mean().backward()
        optimiser.step()
    assert not classifier.training
    assert all(parameter.grad is None for parameter in classifier.parameters())
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert sorted(model.state_dict()) == ["layer.bias", "layer.weight"]
    assert len(list(model.parameters())) == 2
    assert classifier not in list(model.modules())


def test_features_that_require_gradients(make, batch):
    feats = batch[0].clone().requires_grad_()
    for specaug in (None, SPECAUG):
        augmented, _ = make(apply_prob=1.0, specaug=specaug)(feats, batch[1])
        augmented.sum().backward()
    assert (feats.grad == 0).any() and (feats.grad != 0).any()


def test_autocast_does_not_change_the_masks(make, batch):
    augmentation = make(apply_prob=1.0)
    torch.manual_seed(0)
    expected, _ = augmentation(*batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        augmented, _ = augmentation(*batch)
    assert torch.equal(augmented, expected)


def test_features_that_are_not_numbers_are_refused(make, batch):
    feats, lengths = batch[0].clone(), batch[1]
    feats[1, 40] = float("nan")  # padding of an utterance of 37 frames: nobody's business
    assert make(apply_prob=1.0, min_unmasked_frames=0)(feats, lengths)[0].shape == feats.shape
    for value in (float("nan"), float("inf"), -float("inf")):
        feats[1, 20, 3] = value
        for method in METHODS:
            with pytest.raises(UserError, match=r"utterance 2 of a batch of 4 \(37 frames\)"):
                make(method)(feats, lengths)


def test_another_number_of_mel_bins_is_refused(make):
    with pytest.raises(UserError, match="16 mel bins, the recogniser 40"):
        make(apply_prob=1.0)(torch.zeros(1, 20, 40), torch.tensor([20]))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"method": "gradcam"}, ["method", "gradcam", *METHODS]),
        ({"target": "true"}, ["target", "true", *TARGETS]),
        ({"fill": "loud"}, ["fill", "loud", "mean"]),
        ({"apply_prob": 1.5}, ["apply_prob", "1.5"]),
        ({"classifier": None}, ["classifier", "grad_cam"]),
        ({"mask_rate": 0.1}, ["mask_rate", "unknown", "mask_ratio"]),
        ({"specaug": {"freq_width": 3}}, ["specaug_conf.specaug", "freq_width"]),
        ({"specaug": {"time_warp_window": 5}}, ["specaug_conf.specaug", "time_mask_width"]),
    ],
)
def test_options_are_checked_at_construction(options, words):
    with pytest.raises(UserError) as caught:
        SaliencySpecAug(**{"classifier": "exp/accent", **options})
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_it_says_of_itself(make):
    text = repr(make(specaug=SPECAUG))
    assert "method=grad_cam" in text and "classifier=exp/accent" in text
    assert "mask_ratio=(0.1, 0.3)" in text and "(specaug): SpecAug(" in text


def test_a_missing_classifier_is_an_error_only_when_it_is_needed(batch, tmp_path):
    augmentation = SaliencySpecAug(classifier=str(tmp_path / "nowhere"), apply_prob=1.0)
    augmentation.bind(FeatureSettings(n_mels=16))
    with pytest.raises(UserError, match="nowhere"):
        augmentation(*batch)


@pytest.mark.parametrize("name", ["none", "specaug", "saliency", "random"])
def test_arms_hold_nothing_but_the_augmentation(name):
    conf = yaml.safe_load((AUG / f"{name}.yaml").read_text())
    assert sorted(conf) == ["specaug", "specaug_conf"]


def test_arms_differ_in_one_thing_at_a_time():
    arm = {path.stem: yaml.safe_load(path.read_text())["specaug_conf"] for path in AUG.glob("*")}
    assert sorted(arm) == [
        "none", "random", "random_specaug", "saliency", "saliency_specaug", "specaug",
    ]  # fmt: skip
    for name in ("saliency", "random"):
        assert arm[f"{name}_specaug"] == {**arm[name], "specaug": arm["specaug"]}
    saliency = {**arm["saliency"], "method": "random"}
    assert saliency.pop("target") == "predicted"
    assert arm["random"] == saliency
    assert "classifier" not in arm["saliency"]


@pytest.mark.parametrize("name", ["saliency", "saliency_specaug", "random", "random_specaug"])
def test_arms_can_be_built(name):
    conf = yaml.safe_load((AUG / f"{name}.yaml").read_text())["specaug_conf"]
    augmentation = SaliencySpecAug(**{"classifier": "exp/accent", **conf})
    stock = augmentation.specaug
    assert (stock is not None) == name.endswith("specaug")
    # The defaults of the code are those of the arms.
    assert augmentation.policy == SaliencySpecAug("random").policy


def test_copies_and_pickles(make, batch):
    augmentation = make(specaug=SPECAUG)
    for twin in (copy.deepcopy(augmentation), pickle.loads(pickle.dumps(augmentation))):
        assert twin.policy == augmentation.policy
        twin.use(augmentation.classifier.get(batch[0]))
        torch.manual_seed(0)
        expected = augmentation(*batch)[0]
        torch.manual_seed(0)
        assert torch.equal(twin(*batch)[0], expected)
    stream = io.BytesIO()
    torch.save(augmentation.state_dict(), stream)
    assert len(stream.getvalue()) < 2000
    small = len(pickle.dumps(SaliencySpecAug("random", specaug=SPECAUG)))
    assert len(pickle.dumps(augmentation)) < small + 1000  # the path, not the network
