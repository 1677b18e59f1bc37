"""The augmentation with real classifiers, in a recogniser as ESPnet builds and trains it."""

from __future__ import annotations

import argparse
import copy
import hashlib

import pytest
import torch
import yaml
from captum.attr import LayerGradCam
from espnet2.tasks.asr import ASRTask
from espnet_saliency import plugin
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import grad_cam
from espnet_saliency.saliency.specaug import SaliencySpecAug

FRONTEND = {"n_fft": 512, "win_length": 400, "hop_length": 160}


@pytest.fixture
def real(experiment) -> AccentClassifier:
    return AccentClassifier.load(experiment)


@pytest.fixture
def log_mel() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    feats = torch.randn(4, 90, 80, generator=generator) * 2.0 - 8.0
    return feats, torch.tensor([90, 61, 17, 2])


def assert_same_map(one: torch.Tensor, other: torch.Tensor) -> None:
    """To 1e-5 of the greatest value, since a map's values are of the order of 1 / cells."""
    scale = other.max().clamp_min(1e-9)
    torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-5)


class LastBlock(torch.nn.Module):
    """Gives captum a module whose output is the last activation."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier, self.layer = classifier, torch.nn.Identity()

    def forward(self, feats, lengths):
        activations, lengths = self.classifier.activations(feats, lengths)
        return self.classifier.pooled_logits(self.layer(activations), lengths)


@pytest.mark.parametrize("target", [0, 1])
def test_real_map_equals_captum(real, log_mel, target):
    feats, lengths = log_mel[0][:1], log_mel[1][:1]
    cam = grad_cam(real, feats, lengths, torch.tensor([target]))
    network = LastBlock(real)
    reference = LayerGradCam(network, network.layer).attribute(
        feats.clone().requires_grad_(True),
        target=target,
        additional_forward_args=(lengths,),
        relu_attributions=True,
    )
    assert_same_map(cam.map, reference[:, 0].detach())
    assert reference.max() > 0


def test_real_inner_layer_equals_captum(real, log_mel):
    feats, lengths = log_mel[0][:1], log_mel[1][:1]
    layer = real.encoder.stages[0][0].conv2
    cam = grad_cam(real, feats, lengths, layer=layer)
    reference = LayerGradCam(real, layer).attribute(
        feats.clone().requires_grad_(True),
        target=int(cam.target),
        additional_forward_args=(lengths,),
        relu_attributions=True,
    )
    assert_same_map(cam.map, reference[:, 0].detach())
    assert reference.max() > 0
    assert cam.stride == (2, 2)


@pytest.mark.parametrize("inner", [False, True])
def test_real_map_is_batch_invariant(real, log_mel, inner):
    feats, lengths = log_mel
    layer = real.encoder.stages[0][0].conv2 if inner else None
    together = grad_cam(real, feats, lengths, layer=layer)
    for index, length in enumerate(lengths.tolist()):
        alone = grad_cam(
            real, feats[index : index + 1, :length], lengths[index : index + 1], layer=layer
        )
        cells = int(together.lengths[index])
        assert alone.map.size(1) == cells
        assert_same_map(together.map[index, :cells], alone.map[0])
        assert (together.map[index, cells:] == 0).all()


def build_recogniser(specaug_conf: dict, frontend: dict = FRONTEND, tmp_path=None, **options):
    plugin.register(["asr"])
    config = {
        "frontend_conf": frontend,
        "specaug": "saliency",
        "specaug_conf": specaug_conf,
        "normalize": "utterance_mvn",
        "encoder": "conformer",
        "encoder_conf": {
            "output_size": 16, "attention_heads": 2, "linear_units": 32, "num_blocks": 1,
            "input_layer": "conv2d", "cnn_module_kernel": 7,
        },
        "model_conf": {"ctc_weight": 1.0},
        "init": "xavier_uniform",
        **options,
    }  # fmt: skip
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config))
    arguments = ASRTask.get_parser().parse_args(["--config", str(path)])
    arguments.token_list = ["<blank>", "<unk>", "a", "b", "<sos/eos>"]
    return ASRTask.build_model(argparse.Namespace(**vars(arguments)))


def audio_batch():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([16000, 12000, 9000])
    return dict(
        speech=0.1 * torch.randn(3, 16000, generator=generator),
        speech_lengths=lengths,
        text=torch.tensor([[2, 3, 2], [3, 2, -1], [2, -1, -1]]),
        text_lengths=torch.tensor([3, 2, 1]),
    )


def digest(module: torch.nn.Module) -> str:
    content = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        content.update(name.encode() + tensor.numpy().tobytes())
    return content.hexdigest()


def test_training_a_recogniser_leaves_the_classifier_as_it_was(experiment, tmp_path):
    conf = {"classifier": str(experiment), "apply_prob": 1.0}
    torch.manual_seed(0)
    model = build_recogniser(conf, tmp_path=tmp_path)
    assert isinstance(model.specaug, SaliencySpecAug)
    classifier = model.specaug.classifier._network
    assert classifier is not None  # bind has loaded it
    before = digest(classifier)
    assert before == digest(AccentClassifier.load(experiment))  # `init` has not reached it
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        model.train()
        loss, _, _ = model(**audio_batch())
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)
    assert digest(classifier) == before
    assert not any(module.training for module in classifier.modules())
    assert all(parameter.grad is None for parameter in classifier.parameters())
    keys = set(model.state_dict())
    assert not any("specaug" in key or "classifier" in key for key in keys)
    plain = build_recogniser({"method": "random"}, tmp_path=tmp_path)
    assert keys == set(plain.state_dict())
    assert len(list(model.parameters())) == len(list(plain.parameters()))


def test_a_recogniser_is_built_and_runs_without_the_classifier(tmp_path):
    missing = {"classifier": str(tmp_path / "gone"), "apply_prob": 1.0}
    model = build_recogniser(missing, tmp_path=tmp_path).eval()
    batch = audio_batch()
    with torch.no_grad():
        encoded, _ = model.encode(batch["speech"], batch["speech_lengths"])
    assert torch.isfinite(encoded).all()
    with pytest.raises(UserError, match="gone"):
        model.train()(**batch)


def test_a_classifier_of_other_features_is_refused_when_the_recogniser_is_built(
    make_experiment, tmp_path
):
    frontend = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 128, "n_mels": 40}
    folder = make_experiment(tmp_path / "other", frontend_conf=frontend)
    with pytest.raises(UserError) as caught:
        build_recogniser({"classifier": str(folder)}, tmp_path=tmp_path)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message
    assert "hop_length: classifier 128, recogniser 160" in message
    assert "n_mels: classifier 40, recogniser 80" in message


def test_a_classifier_that_is_handed_over_is_checked_too(real, make_experiment, tmp_path):
    augmentation = SaliencySpecAug(classifier="given")
    augmentation.bind(real.features)
    augmentation.use(real)
    other = make_experiment(tmp_path / "other", frontend_conf={**FRONTEND, "n_mels": 40})
    with pytest.raises(UserError, match="n_mels: classifier 40, recogniser 80"):
        augmentation.use(AccentClassifier.load(other))
    late = SaliencySpecAug(classifier="given")
    late.use(AccentClassifier.load(other))
    with pytest.raises(UserError, match="n_mels: classifier 40, recogniser 80"):
        late.bind(real.features)


def test_loading_draws_no_random_numbers(experiment, log_mel):
    feats, lengths = log_mel
    loaded = SaliencySpecAug(classifier=str(experiment), apply_prob=1.0)
    loaded.use(AccentClassifier.load(experiment))
    torch.manual_seed(0)
    expected = [loaded(feats, lengths)[0] for _ in range(2)]
    lazy = SaliencySpecAug(classifier=str(experiment), apply_prob=1.0)
    torch.manual_seed(0)
    assert all(torch.equal(lazy(feats, lengths)[0], one) for one in expected)
    for twin in (copy.deepcopy(lazy), copy.deepcopy(loaded)):
        torch.manual_seed(0)
        assert all(torch.equal(twin(feats, lengths)[0], one) for one in expected)


def test_a_classifier_with_broken_weights_is_refused(experiment, log_mel, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "config.yaml").write_text((experiment / "config.yaml").read_text())
    weights = torch.load(experiment / "valid.acc.best.pth", weights_only=True)
    weights["decoder.linear_out.bias"][0] = float("nan")
    torch.save(weights, folder / "valid.acc.best.pth")
    with pytest.raises(UserError, match="broken: NaN or infinity in linear.bias"):
        SaliencySpecAug(classifier=str(folder), apply_prob=1.0)(*log_mel)


def test_utterances_of_one_to_ten_frames_with_the_real_classifier(experiment):
    lengths = torch.arange(1, 11)
    feats = torch.randn(10, 10, 80, generator=torch.Generator().manual_seed(0)) - 8.0
    augmentation = SaliencySpecAug(classifier=str(experiment), apply_prob=1.0, mask_ratio=1.0)
    augmented, _ = augmentation(feats, lengths)
    assert torch.isfinite(augmented).all()
    untouched = (augmented == feats).all(dim=2)
    for index in range(10):
        frames = index + 1
        assert untouched[index, frames:].all()
        assert untouched[index, :frames].sum() == min(frames, 5)
