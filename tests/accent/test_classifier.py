"""The frozen classifier: what it computes, what it keeps, what it refuses to load."""

from __future__ import annotations

import pickle

import pytest
import torch
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError


@pytest.fixture
def classifier(build) -> AccentClassifier:
    return AccentClassifier(build())


def features(frames):
    torch.manual_seed(1)
    return torch.randn(len(frames), max(frames), 80) * 4 - 8, torch.tensor(frames)


def test_logits_are_those_of_espnets_own_model(build, classifier):
    model = build().eval()
    feats, lengths = features([90, 90])
    normalised, n = model.normalize(feats, lengths)
    hidden, n, _ = model.encoder(normalised, n)
    expected = model.decoder(hidden, n)
    assert torch.allclose(classifier(feats, lengths), expected, atol=1e-5)


def test_pooling_by_hand(classifier):
    with torch.no_grad():
        classifier.linear.weight.copy_(torch.arange(24.0).view(3, 8))
        classifier.linear.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    a = torch.zeros(2, 8, 3, 2)
    a[0, 0] = 6.0
    a[1, 1, :1] = 4.0  # one valid frame of three
    logits = classifier.pooled_logits(a, torch.tensor([3, 1]))
    # Mean over the valid cells, 6 and 4, times columns 0 (0, 8, 16) and 1 (1, 9, 17), plus bias.
    assert logits.tolist() == [[1.0, 50.0, 99.0], [5.0, 38.0, 71.0]]


@pytest.mark.parametrize("normalize", ["masked_utterance_mvn", "utterance_mvn", None])
def test_an_utterance_gets_from_a_padded_batch_what_it_gets_alone(build, normalize):
    conf = {"norm_means": True, "norm_vars": True} if normalize else {}
    classifier = AccentClassifier(build(normalize=normalize, normalize_conf=conf))
    frames = [40, 123, 3, 80]
    feats, lengths = features(frames)
    for i, n in enumerate(frames):
        feats[i, n:] = float("nan") if i % 2 else 50.0
    a, cells = classifier.activations(feats, lengths)
    logits = classifier(feats, lengths)
    for i, n in enumerate(frames):
        alone, alone_cells = classifier.activations(feats[i : i + 1, :n], lengths[i : i + 1])
        valid = int(cells[i])
        assert valid == int(alone_cells)
        assert torch.allclose(a[i, :, :valid], alone[0], atol=1e-5, rtol=1e-5)
        assert (a[i, :, valid:] == 0).all()
        alone_logits = classifier(feats[i : i + 1, :n], lengths[i : i + 1])
        assert torch.allclose(logits[i], alone_logits[0], atol=1e-5, rtol=1e-5)


def test_frozen_in_evaluation_mode_and_float32_whatever_surrounds_it(build):
    feats, lengths = features([60, 30])
    classifier = AccentClassifier(build(encoder_conf={"channels": [4, 8], "dropout": 0.5}))
    holder = torch.nn.ModuleList([classifier])
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    expected = classifier(feats, lengths)
    holder.train()
    assert not any(module.training for module in classifier.modules())
    assert not any(p.requires_grad for p in classifier.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = classifier(feats.bfloat16().float(), lengths)
        a, _ = classifier.activations(feats, lengths)
        same = classifier(feats, lengths)
    assert logits.dtype == a.dtype == same.dtype == torch.float32
    assert torch.equal(same, expected)
    assert all(torch.equal(before[k], v) for k, v in classifier.state_dict().items())


def test_the_caller_keeps_its_tensor(classifier):
    feats, lengths = features([60, 30])
    before = feats.clone()
    classifier(feats, lengths)
    assert torch.equal(feats, before)


def test_global_mvn_with_its_statistics(build, tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    data = rng.normal(-8, 4, (500, 80))
    stats = tmp_path / "feats_stats.npz"
    np.savez(stats, count=500, sum=data.sum(0), sum_square=(data**2).sum(0))
    conf = {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(stats)}}
    classifier = AccentClassifier(build(**conf))
    feats, lengths = features([40, 20])
    before = feats.clone()
    both = classifier(feats, lengths)
    assert torch.equal(feats, before)
    assert torch.allclose(both[1], classifier(feats[1:, :20], lengths[1:])[0], atol=1e-5)


def test_loads_from_a_folder_or_a_file(build, experiment, classifier, tmp_path):
    folder = experiment(tmp_path / "exp", build())
    loaded = AccentClassifier.load(folder)
    feats, lengths = features([50])
    assert loaded.accents == ("a", "b", "c")
    assert loaded.stride == (4, 4) and loaded.linear_weight.shape == (3, 8)
    assert loaded.features.hop_length == 160
    # Loaded, its batch normalisation is folded into the convolutions.
    torch.testing.assert_close(loaded(feats, lengths), classifier(feats, lengths), atol=1e-5, rtol=0)
    again = AccentClassifier.load(folder / "valid.acc.best.pth")
    assert again.digest == loaded.digest and len(loaded.digest) == 64


def test_the_averaged_model_goes_before_the_best_one(build, experiment, tmp_path):
    folder = experiment(tmp_path / "exp", build())
    best = AccentClassifier.load(folder)
    other = build()
    with torch.no_grad():
        other.decoder.linear_out.bias.fill_(7.0)
    torch.save(other.state_dict(), folder / "valid.acc.ave.pth")
    loaded = AccentClassifier.load(folder)
    assert loaded.linear.bias.tolist() == [7.0] * 3
    assert loaded.digest != best.digest


def test_the_digest_follows_the_network_and_not_its_place(build, experiment, config, tmp_path):
    model = build()
    one = AccentClassifier.load(experiment(tmp_path / "one", model)).digest
    two = experiment(tmp_path / "two", model, ngpu=4, output_dir="elsewhere")
    assert AccentClassifier.load(two).digest == one
    renamed = experiment(tmp_path / "three", model, token_list=["a", "b", "d", "<unk>"])
    assert AccentClassifier.load(renamed).digest != one


def refused(path, *words):
    with pytest.raises(UserError) as error:
        AccentClassifier.load(path)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_missing_parts_are_named(build, experiment, tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "no such classifier")
    folder = experiment(tmp_path / "exp", build(), name="3epoch.pth")
    refused(folder, "valid.acc.ave.pth", "valid.acc.best.pth")
    (folder / "config.yaml").unlink()
    refused(folder / "3epoch.pth", "config.yaml", "missing")


def test_a_configuration_of_something_else_is_refused(build, experiment, tmp_path):
    folder = experiment(tmp_path / "exp", build())
    config_file = folder / "config.yaml"
    whole = config_file.read_text()
    config_file.write_text("a: [1,")
    refused(folder, "config.yaml", "not readable as YAML")
    config_file.write_text("encoder: accent_resnet\n")
    refused(folder, "config.yaml", "token_list")
    config_file.write_text("!!python/object/apply:os.system ['true']\n")
    refused(folder, "config.yaml", "not readable as YAML")
    config_file.write_text(whole.replace("encoder: accent_resnet", "encoder: no_such_encoder"))
    refused(folder, "config.yaml", "no_such_encoder")
    config_file.write_text(whole.replace("stem_stride:", "stem_strides:"))
    refused(folder, "config.yaml", "stem_strides")


def test_other_networks_are_refused(build, experiment, tmp_path):
    transformer = {"encoder": "transformer", "encoder_conf": {"output_size": 8, "num_blocks": 1}}
    folder = experiment(tmp_path / "transformer", build(**transformer), **transformer)
    refused(folder, "transformer", "TransformerEncoder", "accent_resnet")
    pooling = {"decoder_conf": {"pooling": "max"}}
    refused(experiment(tmp_path / "max", build(**pooling), **pooling), "pools by max")
    stats = {"normalize": "global_mvn", "normalize_conf": {"stats_file": "gone/stats.npz"}}
    folder = experiment(tmp_path / "global", build(), **stats)
    refused(folder, "global_mvn", "gone/stats.npz")
    wide = {"encoder_conf": {"channels": [4, 16], "stem_stride": [2, 2]}}
    refused(experiment(tmp_path / "wide", build(), **wide), "weights do not fit", "size mismatch")


class Innocent:
    def __reduce__(self):
        return (print, ("run",))


def test_a_file_that_could_run_code_is_not_loaded(build, experiment, tmp_path, capsys):
    folder = experiment(tmp_path / "exp", build())
    file = folder / "valid.acc.best.pth"
    torch.save({"weights": Innocent()}, file)
    refused(folder, "valid.acc.best.pth", "could run code")
    file.write_bytes(pickle.dumps(Innocent()))
    refused(folder, "valid.acc.best.pth")
    assert "run" not in capsys.readouterr().out
    file.write_bytes(b"")
    refused(folder, "valid.acc.best.pth")
    torch.save({"model": {"x": torch.zeros(1)}, "epoch": 3}, file)
    refused(folder, "not a model's weights")
