"""Stored maps in the recipe: made in stage 9, read by ESPnet's training, or left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.arms import load_arms
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.maps import stream_arguments
from espnet_saliency.recipe.options import ROOT, load_options
from espnet_saliency.recipe.recipe import Recipe


def arms_of(*options: str):
    given = load_options(["--corpus", "mini_accent", *options])
    return Layout(given.recipe), load_arms(Layout(given.recipe), given.folder)


def test_an_arm_reads_stored_maps_and_needs_no_classifier():
    layout, (specaug, saliency, random) = arms_of()
    assert saliency.maps is not None and specaug.maps is None and random.maps is None
    conf = saliency.config["specaug_conf"]
    assert conf["stored_maps"] == str(layout.maps(saliency.maps)) and "classifier" not in conf
    assert not saliency.needs_classifier
    assert layout.maps(saliency.maps).name == "maps_grad_cam_predicted"


@pytest.mark.parametrize(
    "sweep, stored, classifier",
    [
        ("aug.target=sample", None, True),  # drawn anew each time
        ("aug.method=rolled", "maps_grad_cam_predicted", False),  # the control of the same map
        ("aug.method=layer_cam", "maps_layer_cam_predicted", False),
        ("aug.min_confidence=0.5", "maps_grad_cam_predicted_confidence0.5", False),
        ("aug.min_confidence=5e-1", "maps_grad_cam_predicted_confidence0.5", False),  # YAML reads text
        ("aug.fill=accent_mix", "maps_grad_cam_predicted", True),  # the fill asks the classifier
        ("aug.method=frozen", None, False),
    ],
)
def test_what_is_stored(sweep, stored, classifier):
    layout, (arm,) = arms_of("--arms", "saliency", "--sweep", sweep)
    assert (arm.maps and layout.maps(arm.maps).name) == stored
    assert arm.needs_classifier == classifier
    assert "min_confidence" not in arm.config["specaug_conf"]


def test_online_where_the_training_changes_the_audio(tmp_path):
    config = yaml.safe_load((ROOT / "conf" / "small" / "train_asr_conformer.yaml").read_text())
    (tmp_path / "noisy.yaml").write_text(yaml.safe_dump({**config, "noise_scp": "noise.scp"}))
    _, (arm,) = arms_of("--arms", "saliency", "--asr_config", str(tmp_path / "noisy.yaml"))
    assert arm.maps is None and arm.needs_classifier


def test_an_arm_may_name_maps_of_its_own(tmp_path):
    conf = tmp_path / "conf" / "aug" / "mine.yaml"
    conf.parent.mkdir(parents=True)
    conf.write_text("specaug: saliency\nspecaug_conf: {stored_maps: /maps}\n")
    given = load_options(["--corpus", "mini_accent", "--arms", "mine"])
    (arm,) = load_arms(Layout(given.recipe), tmp_path)
    assert arm.maps is None and not arm.needs_classifier
    recipe = Recipe(given, Layout(given.recipe), (arm,))
    assert stream_arguments(recipe, arm)[:2] == [
        "--train_data_path_and_name_and_type", "/maps/maps.scp,saliency,kaldi_ark"
    ]  # fmt: skip
    conf.write_text("specaug: saliency\nspecaug_conf: [1]\n")
    with pytest.raises(UserError, match=r"mine.yaml: specaug_conf: \[1\] is no mapping"):
        load_arms(Layout(given.recipe), tmp_path)


def test_online_where_it_is_asked_for():
    _, (arm,) = arms_of("--arms", "saliency", "--stored_maps", "false")
    assert arm.maps is None and arm.needs_classifier
    assert "stored_maps" not in arm.config["specaug_conf"]


@pytest.mark.slow
def test_a_training_reads_the_maps_as_a_stream(tiny):
    (folder,) = tiny.folder.glob("exp/saliency_*/maps_grad_cam_predicted")
    train = tiny.folder / "dump" / "raw" / "train"
    assert list(read_table(folder / "maps.scp")) == list(read_table(train / "wav.scp"))
    (experiment,) = tiny.folder.glob("exp/asr_*_saliency_specaug_*")
    config = yaml.safe_load((experiment / "config.yaml").read_text())
    assert [str(folder / "maps.scp"), "saliency", "kaldi_ark"] in config["train_data_path_and_name_and_type"]
    assert config["specaug_conf"]["stored_maps"] == str(folder)
    assert "classifier" not in config["specaug_conf"]


@pytest.mark.slow
def test_true_accents_are_a_stream_of_their_own(tiny):
    recipe = tiny.with_options("--expdir", str(tiny.folder / "exp-true"))
    options = ["--arms", "saliency", "--sweep", "aug.target=true", "--stored_maps", "false"]
    (classifier,) = tiny.folder.glob("exp/accent_*_raw")
    recipe.run("--stop_stage", "11", "--classifier", str(classifier), *options)
    (experiment,) = tiny.folder.glob("exp-true/asr_*saliency_targettrue*")
    accents = json.loads((classifier / "eval" / "results.json").read_text())
    table = read_table(experiment / "utt2accent_number")
    names = yaml.safe_load((classifier / "config.yaml").read_text())["token_list"]
    of = read_table(tiny.folder / "dump" / "raw" / "train" / "utt2accent")
    assert accents and {names[int(n)] for n in table.values()} == set(of.values())
    assert all(names[int(n)] == of[utt_id] for utt_id, n in table.items())


@pytest.mark.slow
def test_utterances_without_a_map_stop_the_training_before_it_starts(tiny):
    (folder,) = tiny.folder.glob("exp/saliency_*/maps_grad_cam_predicted")
    table = folder / "maps.scp"
    before = table.read_text()
    table.write_text("".join(before.splitlines(keepends=True)[2:]))
    ids = [line.split()[0] for line in before.splitlines()[:2]]
    try:
        error = tiny.run(
            *("--stage", "11", "--stop_stage", "11", "--arms", "saliency"), status=2
        )
    finally:
        table.write_text(before)
    assert error.count("\n") == 1
    assert f"2 utterances of train have no map ({ids[0]}, {ids[1]}): make the maps anew" in error
    assert not list(Path(tiny.folder).glob("exp/asr_*_saliency_raw_*/train.log"))
