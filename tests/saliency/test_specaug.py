"""The augmentation as ESPnet meets it: a module, its options, its state, its place in a model."""

from __future__ import annotations

import copy
import io
import pickle
import zlib
from pathlib import Path

import pytest
import torch
import yaml
from espnet2.asr.specaug.specaug import SpecAug
from espnet2.torch_utils.initialize import initialize
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import saliency_map
from espnet_saliency.saliency.controls import energy, least, of_the_next, roll_in_time
from espnet_saliency.saliency.filling import FILLS, fill
from espnet_saliency.saliency.masking import draw, freeze, place
from espnet_saliency.saliency.specaug import METHODS, SaliencySpecAug, needs_classifier
from espnet_saliency.saliency.targets import TARGETS, contrast, sample

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
        if options.get("target") == "contrast":
            options.setdefault("reference_accent", "c")
        augmentation = SaliencySpecAug(method=method, classifier="exp/accent", **options)
        classifier = make_classifier()
        classifier.accents = ("a", "b", "c")
        augmentation.use(classifier)
        return augmentation

    return make


def run(augmentation, feats, lengths):
    """One batch as ESPnet gives it, with utterance ids and the accents 0, 1, 2, 0, …"""
    accent = torch.arange(len(feats)) % 3
    augmentation.receive([f"speaker-{n}" for n in range(len(feats))], {"accent": accent})
    return augmentation(feats, lengths)


def test_probability_zero_is_the_identity(make, batch):
    for method in METHODS:
        augmented, lengths = run(make(method, apply_prob=0.0), *batch)
        assert torch.equal(augmented, batch[0]) and torch.equal(lengths, batch[1])


@pytest.mark.parametrize("method", METHODS)
def test_probability_one_masks_every_utterance_and_no_padding(make, batch, method):
    feats, lengths = batch
    torch.manual_seed(0)
    augmentation = make(method, apply_prob=1.0, mask_ratio=0.5, min_unmasked_frames=1)
    augmented, _ = run(augmentation, *batch)
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
    classifier = augmentation.classifier.get(feats)
    against = contrast(2) if target == "contrast" else None
    maps, cam = saliency_map(classifier, feats, lengths, against)
    torch.manual_seed(0)
    augmentation.receive(["a"] * len(feats), {"accent": cam.target[:, None]})
    mask = augmentation.mask(feats, lengths)
    torch.manual_seed(0)
    random = control.mask(feats, lengths)
    assert maps[mask].mean() > 1.2 * maps[random].mean()


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
        augmented, lengths = run(augmentation, feats, torch.full((3,), frames))
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


@pytest.mark.parametrize("options", [{}, {"method": "energy", "temperature": 0.0}, {"weight_by": "rank"}])
def test_autocast_does_not_change_the_masks(make, batch, options):
    augmentation = make(apply_prob=1.0, **options)
    for seed in range(20):
        torch.manual_seed(seed)
        expected, _ = augmentation(*batch)
        torch.manual_seed(seed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            augmented, _ = augmentation(*batch)
        assert torch.equal(augmented, expected)


def test_features_that_are_not_numbers_are_refused(make, batch):
    feats, lengths = batch[0].clone(), batch[1]
    feats[1, 40] = float("nan")  # padding of an utterance of 37 frames: nobody's business
    for options in ({"fill": fill} for fill in FILLS):
        for more in ({}, {"protect": "change"}, {"method": "energy"}):
            augmented, _ = make(apply_prob=1.0, min_unmasked_frames=0, **options, **more)(feats, lengths)
            assert augmented[1, :37].isfinite().all()
    for value in (float("nan"), float("inf"), -float("inf")):
        feats[1, 20, 3] = value
        for method in METHODS:
            with pytest.raises(UserError, match=r"features of speaker-1 \(37 frames\)"):
                run(make(method), feats, lengths)
        with pytest.raises(UserError, match=r"utterance 2 of a batch of 4 \(37 frames\)"):
            make()(feats, lengths)


def test_another_number_of_mel_bins_is_refused(make):
    with pytest.raises(UserError, match="16 mel bins, the recogniser 40"):
        make(apply_prob=1.0)(torch.zeros(1, 20, 40), torch.tensor([20]))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"method": "gradcam"}, ["method", "gradcam", *METHODS]),
        ({"target": "loudest"}, ["target", "loudest", *TARGETS]),
        ({"fill": "loud"}, ["fill", "loud", "mean"]),
        ({"apply_prob": 1.5}, ["apply_prob", "1.5"]),
        ({"classifier": None}, ["classifier", "grad_cam"]),
        ({"classifier": None, "method": "rolled"}, ["classifier", "rolled"]),
        ({"mask_ratio": [0.2, 1.2]}, ["mask_ratio", "1.2", "[0, 1]"]),
        ({"min_confidence": 1.5}, ["min_confidence", "1.5", "[0, 1]"]),
        ({"map_method": "grad_cam"}, ["map_method", "grad_cam", "rolled", "shuffled", "least"]),
        ({"map_method": "random", "method": "least"}, ["map_method", "random", "grad_cam"]),
        ({"target": "contrast"}, ["reference_accent", "contrast"]),
        ({"layer": 3}, ["layer", "3", "a list of names"]),
        ({"layer": []}, ["layer", "[]", "a list of names"]),
        ({"layer": ["a", "a"]}, ["layer", "twice"]),
        (
            {"stored_maps": "exp/maps", "min_confidence": 0.5, "classifier": None},
            ["min_confidence", "stored_maps"],
        ),
        ({"stored_maps": "exp/maps"}, ["classifier", "exp/accent", "exp/maps", "remove one"]),
        ({"method": "random", "layer": "first"}, ["layer", "first", "random"]),
        ({"method": "energy", "stored_maps": "exp/maps"}, ["stored_maps", "exp/maps", "energy"]),
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
    controls = ["rolled", "shuffled", "least", "frozen", "energy"]
    assert sorted(arm) == sorted(
        ["none", "specaug", "specaug_light", "saliency", "saliency_specaug", "random", "random_specaug"]
        + [f"{control}_specaug" for control in controls]
        + ["saliency_or_specaug", "random_or_specaug", "accent_mix_specaug", "accent_shift_specaug"]
        + ["accent_mix", "random_mix", "random_mix_specaug", "random_shift_specaug"]
        + ["saliency_protected", "random_protected"]
    )
    for name in ("saliency", "random"):
        protection = {"protect": "recogniser", "protect_strength": 4.0}
        assert arm[f"{name}_protected"] == {**arm[name], **protection}
        expected = {**arm[f"{name}_specaug"], "specaug_for": "unmasked"}
        assert arm[f"{name}_or_specaug"] == expected
    for name, own in (("accent_mix", "mix_alpha"), ("accent_shift", "shift_step")):
        changed = dict(arm[f"{name}_specaug"])
        assert changed.pop(own) > 0
        assert changed == {**arm["saliency_specaug"], "fill": name}
    for name in ("mix", "mix_specaug", "shift_specaug"):
        change = {k: v for k, v in arm[f"accent_{name}"].items() if k != "target"}
        assert arm[f"random_{name}"] == {**change, "method": "random"}
    alone = {k: v for k, v in arm["accent_mix_specaug"].items() if k != "specaug"}
    assert arm["accent_mix"] == {**alone, "mask_ratio": 0.3, "apply_prob": 1.0}
    for name in ("saliency", "random"):
        assert arm[f"{name}_specaug"] == {**arm[name], "specaug": arm["specaug"]}
    for control in ["random", *controls]:
        expected = {**arm["saliency_specaug"], "method": control}
        target = expected.pop("target")
        assert target == "predicted"
        if control in ("rolled", "shuffled", "least"):
            expected["target"] = target
        assert arm[f"{control}_specaug"] == expected
    assert "classifier" not in arm["saliency"]


@pytest.mark.parametrize(
    "name",
    [
        *("saliency", "saliency_specaug", "random", "random_specaug", "rolled_specaug"),
        *("shuffled_specaug", "least_specaug", "frozen_specaug", "energy_specaug"),
    ],
)
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


CONTROLS = {"rolled": roll_in_time, "shuffled": of_the_next, "least": least}


@pytest.mark.parametrize("method", [*CONTROLS, "energy", "random"])
def test_controls_take_the_same_path_with_another_map(make, batch, method):
    feats, lengths = batch
    augmentation = make(method, apply_prob=0.7)
    classifier = make().classifier.get(feats)
    for seed in range(5):
        torch.manual_seed(seed)
        mask = augmentation.mask(feats, lengths)
        torch.manual_seed(seed)
        draws = draw(4, (50, 16), augmentation.policy)
        active = draws.active
        if method == "random":
            maps = None
        elif method == "energy":
            maps = energy(feats, lengths)
        else:
            maps = torch.zeros_like(feats)
            found, _ = saliency_map(classifier, feats[active], lengths[active])
            maps[active] = CONTROLS[method](found, lengths[active])
        assert torch.equal(mask, place(draws, maps, lengths, (50, 16), augmentation.policy))


def test_frozen_masks_follow_the_utterance_and_the_seed_alone(make, batch):
    feats, lengths = batch
    options = dict(apply_prob=1.0, mask_ratio=0.3)

    def masks(order, torch_seed, seed=0):
        augmentation = make("frozen", seed=seed, **options)
        torch.manual_seed(torch_seed)
        augmentation.receive([f"utterance-{n}" for n in order], {})
        return augmentation.mask(feats[order], lengths[order])[torch.tensor(order).argsort()]

    first = masks([0, 1, 2, 3], 0)
    assert torch.equal(first, masks([2, 0, 3, 1], 1)) and first[0].any() and first[1].any()
    assert not torch.equal(first, masks([0, 1, 2, 3], 0, seed=1))
    # Of its id by CRC-32, not by Python's hash, which is another one in each process.
    policy = make("frozen", **options).policy
    keys = [zlib.crc32(f"0 utterance-{n}".encode()) for n in range(4)]
    draws = freeze(draw(4, (50, 16), policy), keys, lengths, (50, 16), policy)
    assert torch.equal(first, place(draws, None, lengths, (50, 16), policy))
    with pytest.raises(UserError, match="frozen needs the utterance ids"):
        make("frozen")(*batch)


def test_the_true_target_is_the_stream(make, batch):
    feats, lengths = batch
    augmentation = make(target="true", apply_prob=1.0)
    assert augmentation.needed_streams == ("accent",)
    assert make().needed_streams == make("random", target="true").needed_streams == ()
    accents = torch.tensor([2, -1, 1, 0])
    classifier = augmentation.classifier.get(feats)
    maps, _ = saliency_map(classifier, feats, lengths, accents.clamp_min(0))
    maps[1] = 0.0  # unknown: random masks
    for stream in (accents, accents[:, None]):
        torch.manual_seed(0)
        augmentation.receive(["a", "b", "c", "d"], {"accent": stream})
        mask = augmentation.mask(feats, lengths)
        torch.manual_seed(0)
        draws = draw(4, (50, 16), augmentation.policy)
        assert torch.equal(mask, place(draws, maps, lengths, (50, 16), augmentation.policy))
    torch.manual_seed(0)
    random = make("random", apply_prob=1.0).mask(feats, lengths)
    assert torch.equal(mask[1], random[1]) and not torch.equal(mask[0], random[0])


def test_streams_that_are_missing_stale_or_out_of_range(make, batch):
    feats, lengths = batch
    augmentation = make(target="true", apply_prob=1.0)
    for received in (None, {}):
        if received is not None:
            augmentation.receive(["a", "b", "c", "d"], received)
        with pytest.raises(UserError, match="target: true needs the data stream accent") as caught:
            augmentation(feats, lengths)
        assert "FILE,accent,text_int" in str(caught.value) and "\n" not in str(caught.value)
    run(augmentation, feats, lengths)
    with pytest.raises(UserError, match="needs the data stream accent"):
        augmentation(feats, lengths)  # those of the last batch are not used again
    augmentation.receive(["a", "b"], {"accent": torch.tensor([0, 1])})
    with pytest.raises(UserError, match="batch of 2 came before features of a batch of 4"):
        augmentation(feats, lengths)
    for wrong in (3, -2):
        augmentation.receive(["a", "b", "c", "d"], {"accent": torch.tensor([0, 0, wrong, 0])})
        with pytest.raises(UserError, match=f"accent: c has {wrong}, .* 0 to 2"):
            augmentation(feats, lengths)


BOTH = ["first", "second"]


def expected_mask(augmentation, feats, lengths, **what):
    """The mask of an utterance that takes part for certain, from a map made here."""
    classifier = augmentation.classifier.get(feats)
    draws = draw(len(feats), (50, 16), augmentation.policy)
    if what.get("target") == "sample":
        what["target"] = sample(torch.rand(len(feats)))
    maps, _ = saliency_map(classifier, feats, lengths, **what)
    return place(draws, maps, lengths, (50, 16), augmentation.policy)


@pytest.mark.parametrize(
    "options, what",
    [
        ({"method": "layer_cam", "layer": "first"}, {"method": "layer_cam", "layer": "first"}),
        ({"method": "hires_cam", "layer": BOTH}, {"method": "hires_cam", "layer": BOTH}),
        ({"method": "grad_cam_plus_plus"}, {"method": "grad_cam_plus_plus"}),
        ({"target": "sample"}, {"target": "sample"}),
        ({"target": "contrast", "reference_accent": "c"}, {"target": contrast(2)}),
    ],
)
def test_the_map_is_of_the_method_layer_and_target_asked_for(make, batch, options, what):
    feats, lengths = (tensor[:2].repeat_interleave(10, 0) for tensor in batch)
    augmentation = make(apply_prob=1.0, **options)
    torch.manual_seed(1)
    mask = augmentation.mask(feats, lengths)
    torch.manual_seed(1)
    assert torch.equal(mask, expected_mask(augmentation, feats, lengths, **what))
    torch.manual_seed(1)
    assert not torch.equal(mask, expected_mask(augmentation, feats, lengths))


def test_controls_start_from_the_map_that_is_asked_for(make, batch):
    feats, lengths = batch
    augmentation = make("least", map_method="layer_cam", layer="first", apply_prob=1.0)
    torch.manual_seed(0)
    mask = augmentation.mask(feats, lengths)
    torch.manual_seed(0)
    draws = draw(4, (50, 16), augmentation.policy)
    classifier = augmentation.classifier.get(feats)
    maps, _ = saliency_map(classifier, feats, lengths, method="layer_cam", layer="first")
    maps = least(maps, lengths)
    assert torch.equal(mask, place(draws, maps, lengths, (50, 16), augmentation.policy))


def test_a_reference_accent_that_the_classifier_lacks_is_refused(make):
    with pytest.raises(UserError, match="reference_accent: 'z' is not an accent .*: a, b, c"):
        make(target="contrast", reference_accent="z")


def test_below_the_confidence_gate_masks_are_random(make, batch):
    feats, lengths = batch
    network = make().classifier.get(feats)
    posterior = network(feats, lengths).softmax(dim=-1)
    best = posterior.amax(dim=1)
    gate = float(best.sort().values[1:3].mean())  # two utterances above, two below
    torch.manual_seed(0)
    open_gate = make(apply_prob=1.0).mask(feats, lengths)
    torch.manual_seed(0)
    random = make("random", apply_prob=1.0).mask(feats, lengths)
    for method, always in (("grad_cam", open_gate), ("least", None), ("shuffled", None)):
        torch.manual_seed(0)
        mask = make(method, apply_prob=1.0, min_confidence=gate).mask(feats, lengths)
        assert torch.equal(mask[best < gate], random[best < gate])
        if always is not None:
            assert torch.equal(mask[best >= gate], always[best >= gate])
    assert not torch.equal(open_gate[best < gate], random[best < gate])
    # The gate looks at the target class: of an accent that the classifier does not hear, at that.
    unlikely = posterior.argmin(dim=1)
    closed = make(target="true", apply_prob=1.0, min_confidence=0.4)
    closed.receive(["a", "b", "c", "d"], {"accent": unlikely})
    torch.manual_seed(0)
    assert torch.equal(closed.mask(feats, lengths), random)


def test_the_share_warms_up_over_training_batches(make):
    feats, lengths = torch.randn(1, 40, 16), torch.tensor([40])
    options = dict(
        apply_prob=1.0, mask_ratio=0.5, warmup_batches=4, patch_frames=1, patch_bins=1,
        min_unmasked_frames=0,
    )  # fmt: skip

    def masked(augmentation):
        return int((augmentation(feats, lengths)[0] != feats).sum())

    augmentation = make(**options)
    assert [masked(augmentation) for _ in range(6)] == [0, 80, 160, 240, 320, 320]
    resumed = make(**options)
    resumed.resume(2)
    assert [masked(resumed) for _ in range(3)] == [160, 240, 320]
    assert resumed.batches == 5 and not resumed.state_dict()
    resumed.eval()
    masked(resumed)
    assert resumed.batches == 5


def test_which_methods_need_a_classifier():
    assert needs_classifier({}) and needs_classifier({"method": "shuffled"})
    assert not any(needs_classifier({"method": name}) for name in ("random", "frozen", "energy"))
    assert not needs_classifier({"method": "grad_cam", "stored_maps": "exp/maps"})


def test_a_layer_that_the_classifier_lacks_is_refused(make, make_classifier):
    with pytest.raises(UserError, match="layer: exp/accent has no layer 'third'; .*first.*second"):
        make(layer="third")
    with pytest.raises(UserError, match="no layer 'third'"):
        make(layer=["first", "third"])


def test_stored_maps_need_their_stream_and_no_classifier(batch):
    augmentation = SaliencySpecAug(stored_maps="exp/maps", apply_prob=1.0)
    assert augmentation.classifier is None
    assert augmentation.needed_streams == ("saliency", "saliency_lengths")
    augmentation.receive(["a", "b", "c", "d"], {})
    with pytest.raises(UserError, match="stored_maps needs the data stream saliency") as caught:
        augmentation(*batch)
    assert "FILE,saliency,kaldi_ark" in str(caught.value)
