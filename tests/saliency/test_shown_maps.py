"""What is shown of the maps is of the method and the layer that an arm masks by."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.options import load_options
from espnet_saliency.recipe.stages import define_stages
from espnet_saliency.recipe.stages_accent import compare_classifiers, explain_classifier
from espnet_saliency.saliency import picture
from espnet_saliency.saliency.cam import class_activation, saliency_map
from espnet_saliency.saliency.faithfulness import faithfulness, random_weights
from espnet_saliency.saliency.heldout import batches, log_mel, read_audio, read_labelled
from espnet_saliency.saliency.map_settings import MapSettings, map_name
from espnet_saliency.saliency.masking import MaskPolicy
from espnet_saliency.saliency.stability import stability

STEM = dict(method="layer_cam", layer="encoder.stem")
BOTH = dict(method="layer_cam", layer=("encoder.stem", "encoder.stages.1.0"))


def features_of(classifier, path):
    feats, lengths = log_mel(classifier, [read_audio(path, 16000)])
    return feats[:, : lengths[0]]


def accuracies_by_hand(classifier, data, counts, **maps):
    """Of the utterances with their `counts` most salient bands of 8 mel bins hidden."""
    hits = []
    for one in read_labelled(data, classifier)[0]:
        feats = features_of(classifier, one.path)
        lengths = torch.tensor([feats.size(1)])
        saliency, _ = saliency_map(classifier, feats, lengths, **maps)
        bands = saliency[0].mean(dim=0).view(10, 8).mean(dim=1).argsort(descending=True)
        for count in counts:
            hidden = feats.clone().view(-1, 10, 8)
            hidden[:, bands[:count]] = feats.view(-1, 10, 8).mean(dim=0)[bands[:count]]
            heard = classifier(hidden.view(feats.shape), lengths).argmax()
            hits.append(float(heard == one.accent))
    return np.array(hits).reshape(-1, len(counts)).mean(axis=0)


def test_faithfulness_is_that_of_the_maps_asked_for(glide_classifier, glides, tmp_path):
    policy = MaskPolicy(patch_frames=121, patch_bins=8)
    measure = partial(
        faithfulness, glide_classifier, glides, shares=(0.1, 0.2, 0.3), policy=policy
    )
    found, usual = measure(tmp_path / "a", **STEM), measure(tmp_path / "b")
    by_hand = accuracies_by_hand(glide_classifier, glides, (1, 2, 3), **STEM)
    assert found["curves"]["salient"] == pytest.approx(by_hand)
    assert found["curves"]["salient"] != usual["curves"]["salient"]
    assert found["curves"]["random"] == usual["curves"]["random"]
    assert found["random_weights_correlation"] != usual["random_weights_correlation"]
    assert (found["method"], usual["method"], usual["layer"]) == ("layer_cam", "grad_cam", None)
    assert json.loads((tmp_path / "a" / "faithfulness.json").read_text()) == found


def test_stability_is_that_of_the_maps_asked_for(glide_classifier, glides, tmp_path):
    other = random_weights(glide_classifier, 3)
    found = stability(glide_classifier, other, glides, tmp_path, limit=8, **STEM)
    assert (found["method"], found["layer"]) == ("layer_cam", "encoder.stem")
    correlations = []
    for batch in batches(read_labelled(glides, glide_classifier, 8)[0], glide_classifier):
        one, two = (
            class_activation(c, batch.feats, batch.lengths, batch.accents, **STEM).map.flatten(1)
            for c in (glide_classifier, other)
        )
        correlations += [spearmanr(*maps).statistic for maps in zip(one, two)]
    assert found["correlation"] == pytest.approx(np.mean(correlations))
    usual = stability(glide_classifier, other, glides, tmp_path, limit=8)
    assert abs(found["correlation"] - usual["correlation"]) > 0.01


def test_pictures_are_of_the_maps_asked_for(glide_classifier, glides, tmp_path):
    feats = features_of(glide_classifier, glides / "rising0-0.flac")
    shown = picture.explain(glide_classifier, feats[0], **BOTH).saliency
    lengths = torch.tensor([feats.size(1)])
    maps = saliency_map(glide_classifier, feats, lengths, **BOTH)[0][0].numpy()
    np.testing.assert_array_equal(shown, maps)
    assert np.abs(shown - picture.explain(glide_classifier, feats[0]).saliency).max() > 0.1

    utterances, _ = read_labelled(glides, glide_classifier, 6)
    averages = picture.accent_averages(glide_classifier, utterances, **STEM)
    of_rising = [
        saliency_map(glide_classifier, features_of(glide_classifier, one.path), lengths,
                     torch.tensor([1]), **STEM)[0][0].mean(dim=0).numpy()
        for one in utterances if one.accent == 1
    ]  # fmt: skip
    expected = np.mean(of_rising, axis=0)
    np.testing.assert_allclose(averages["rising"].mean(axis=0), expected, atol=1e-5)

    for one in picture.draw_pictures(glide_classifier, glides, tmp_path, limit=6, **STEM):
        assert one["caption"].endswith(", layer_cam of encoder.stem")


def test_names_of_maps():
    assert map_name("grad_cam", None) == ""
    assert map_name("hires_cam", None) == "hires_cam"
    assert map_name("grad_cam", "encoder.stem") == "grad_cam of encoder.stem"
    assert map_name(**BOTH) == "layer_cam of encoder.stem + encoder.stages.1.0"


def test_what_is_unusual_of_the_maps_of_an_augmentation():
    methods = ("grad_cam", "layer_cam")
    assert MapSettings.from_conf({"method": "grad_cam", "target": "true"}, methods).unusual == {}
    assert MapSettings.from_conf({"method": "rolled"}, methods).unusual == {}
    conf = {"method": "rolled", "map_method": "layer_cam", "layer": ["a", "b"]}
    found = MapSettings.from_conf(conf, methods).unusual
    assert found == {"method": "layer_cam", "layer": ("a", "b")}


def inputs_of(*options: str, step: str = "saliency") -> dict:
    stages = define_stages(load_options(["--corpus", "mini_accent", "--seed", "4", *options]))
    return next(one.inputs for one in stages[9].steps if one.name == step)


@pytest.mark.parametrize(
    "arms, sweep, shown",
    [
        ("specaug saliency rolled_specaug random", "", {}),
        ("specaug random", "", {}),
        ("saliency", "method=layer_cam", {"method": "layer_cam"}),
        ("specaug random saliency", "layer=encoder.stem", {"layer": "encoder.stem"}),
        ("rolled_specaug", "map_method=hires_cam", {"method": "hires_cam"}),
        ("saliency", "method=random,hires_cam,layer_cam", {"method": "hires_cam"}),
    ],
)
def test_stage_9_looks_at_the_maps_of_the_first_arm_that_has_some(arms, sweep, shown):
    options = ["--arms", arms, *(["--sweep", f"aug.{sweep}"] if sweep else [])]
    assert inputs_of(*options) == {"seed": 4, **shown}
    options += ["--stability", "true"]
    assert inputs_of(*options, step="stability") == {"seed": 4, **shown}


def test_stage_9_says_what_the_maps_were(experiment, glides, tmp_path, capsys):
    explain_classifier(experiment, [glides], tmp_path, "cpu", 0, **STEM)
    assert "the most salient (layer_cam of encoder.stem) " in capsys.readouterr().out
    found = json.loads((tmp_path / "faithfulness.json").read_text())
    assert (found["method"], found["layer"]) == ("layer_cam", "encoder.stem")
    pictures = json.loads((tmp_path / "pictures.json").read_text())
    assert all(one["caption"].endswith(", layer_cam of encoder.stem") for one in pictures)
    compare_classifiers(experiment, experiment, [glides], tmp_path, "cpu", 0, **BOTH)
    said = "the maps (layer_cam of encoder.stem + encoder.stages.1.0) of two seeds"
    assert said in capsys.readouterr().out
    found = json.loads((tmp_path / "stability.json").read_text())
    assert found["layer"] == ["encoder.stem", "encoder.stages.1.0"]


def test_a_layer_that_is_not_there_is_refused(glide_classifier, glides, tmp_path):
    for measure in (faithfulness, picture.draw_pictures):
        with pytest.raises(UserError, match="no layer 'encoder.x'; it has encoder.stem, "):
            measure(glide_classifier, glides, tmp_path, limit=2, layer="encoder.x")
