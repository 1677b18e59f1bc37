"""--seeds and --sweep: several trainings of one arm, several settings of one augmentation."""

from __future__ import annotations

import json

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.arms import Arm, load_arms
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import load_options
from espnet_saliency.recipe.stages import define_stages


def arms_of(*options: str) -> tuple[Arm, ...]:
    given = load_options(["--corpus", "mini_accent", *options])
    return load_arms(Layout(given.recipe), given.folder)


def test_seeds_make_runs_of_each_arm():
    arms = arms_of("--arms", "specaug random_specaug", "--seeds", "1 5", "--seed", "5")
    assert [(arm.name, arm.augmentation, arm.seed) for arm in arms] == [
        ("specaug_seed1", "specaug", 1),
        ("specaug", "specaug", 5),  # the folder of --seed itself keeps its plain name
        ("random_specaug_seed1", "random_specaug", 1),
        ("random_specaug", "random_specaug", 5),
    ]
    assert arms[0].config == arms[1].config


def test_each_run_is_trained_with_its_own_seed():
    given = load_options(["--corpus", "mini_accent", "--arms", "specaug", "--seeds", "1 7"])
    commands = [step.commands[0] for step in define_stages(given)[11].steps]
    assert ["--seed 1 " in c for c in commands] == [True, False]
    assert ["--seed 7 " in c for c in commands] == [False, True]
    assert "specaug_seed7" in commands[1] and "specaug_seed" not in commands[0]


def test_a_sweep_varies_the_masking_arms_in_all_combinations():
    arms = arms_of(
        *("--arms", "specaug saliency_specaug"),
        *("--sweep", "aug.mask_ratio=0.1,0.2 aug.fill=mean,noise aug.specaug.num_time_mask=3"),
    )
    assert [arm.name for arm in arms] == ["specaug"] + [
        f"saliency_specaug_mask_ratio{ratio}_fill{fill}_specaug.num_time_mask3"
        for ratio in (0.1, 0.2)
        for fill in ("mean", "noise")
    ]
    conf = arms[2].config["specaug_conf"]
    assert (conf["mask_ratio"], conf["fill"], conf["specaug"]["num_time_mask"]) == (0.1, "noise", 3)
    assert conf["specaug"]["num_freq_mask"] == 2  # the rest as in the arm's file
    assert arms[2].base == "saliency_specaug"
    assert arms[2].swept == {"mask_ratio": 0.1, "fill": "noise", "specaug.num_time_mask": 3}


def test_a_setting_that_has_no_say_in_an_arm_makes_no_variants_of_it():
    sweep = ("--sweep", "aug.temperature=0.0,1.0 aug.mask_ratio=0.1,0.2")
    options = ("--arms", "random saliency random_protected", "--first_recogniser", "exp/x", "--stop_stage", "8")
    arms = arms_of(*options, *sweep)
    names = [arm.name for arm in arms]
    assert names[:2] == ["random_mask_ratio0.1", "random_mask_ratio0.2"]
    # What is spared is a map, which random masks are drawn by too.
    assert [sum(name.startswith(f"{arm}_temp") for name in names) for arm in ("saliency", "random_protected")] == [4, 4]
    assert len(names) == 10


@pytest.mark.parametrize(
    "options, message",
    [
        (["--sweep", "mask_ratio=0.1"], "write aug.<key of specaug_conf>=value,value"),
        (["--sweep", "aug.mask_ratio="], "write aug.<key"),
        (["--sweep", "aug.colour=red"], "specaug_conf.colour: unknown"),
        (["--sweep", "aug.mask_ratio=0.1,7"], r"mask_ratio: 7 is not a number within \[0, 1\]"),
        (["--sweep", "aug.fill=mean,mean"], "a value is given twice"),
        (["--sweep", "aug.apply_prob=1,1.0"], "a value is given twice"),
        (["--sweep", "aug.mask_ratio=[0.1,0.3],[0.2,0.4]"], "single values, no lists: write conf/aug/NAME.yaml"),
        (["--sweep", "aug.fill={a"], "single values, no lists"),
        (["--sweep", "aug.fill='"], "cannot be part of a folder's name"),
        (["--sweep", "aug.mask_ratio.x=1"], r"mask_ratio is \[0.1, 0.3\] and has no keys inside it"),
        (["--sweep", "aug.classifier=other"], "classifier: other, and the .* of this run is .*--classifier other"),
        (["--sweep", "aug.temperature=0.5", "--arms", "random specaug"], "no say in any of the arms random specaug"),
        (["--sweep", "aug.fill=mean aug.fill=noise"], "fill is given twice"),
        (["--sweep", "aug.classifier=a/b"], "'a/b' cannot be part of a folder's name"),
        (["--sweep", "aug.fill=mean", "--arms", "specaug none"], "has no say in any of the arms specaug none"),
        (["--seeds", "1 2 1"], "--seeds 1 2 1: one is named twice"),
        (["--seeds", "1 x"], "--seeds takes a whole number, not 'x'"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        arms_of(*options)


@pytest.mark.slow
def test_one_command_trains_and_compares_seeds_and_settings(tiny):
    options = ["--arms", "specaug saliency", "--seeds", "1 2", "--sweep", "aug.mask_ratio=0.1,0.3"]
    recipe = tiny.with_options("--expdir", str(tiny.folder / "exp-sweep"))
    out = recipe.run("--stage", "1", "--stop_stage", "14", *options)
    assert "train: finished before with the same inputs, skipped" in out  # data is shared
    exp = tiny.folder / "exp-sweep"
    found = json.loads((exp / "report" / "comparison.json").read_text())
    names = ["specaug", "saliency_mask_ratio0.1", "saliency_mask_ratio0.3"]
    assert [arm["name"] for arm in found["arms"]] == names
    assert found["seeds"] == [1, 2]
    (base, *_) = found["arms"]
    assert len(base["experiments"]) == 2
    wer = found["sets"]["test"]["wer"]["arms"]["specaug"]["groups"]["overall"]
    assert wer["rate"] == pytest.approx(sum(wer["seeds"]["rates"]) / 2)
    table = (exp / "report" / "sweep.md").read_text()
    assert "|saliency|0.1|" in table and "|saliency|0.3|" in table
    assert (exp / "report" / "sweep.png").exists()
