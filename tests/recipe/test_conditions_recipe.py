"""Conditions as options and as steps: names, what is made anew, what follows in the stages."""

from __future__ import annotations

import dataclasses

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.conditions import decoded_sets
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import load_options
from espnet_saliency.recipe.stages import define_stages
from espnet_saliency.recipe.steps import check_order
from espnet_saliency.recipe.titles import TITLES

CONDITIONS = "noise_10 clean reverb babble_0"
MADE = ["test_noise_10", "test_reverb", "test_babble_0"]


@pytest.fixture
def load(tmp_path):
    """load(option, value, …) -> Options with two arms, all below tmp_path; one test set if none is named."""

    def make(*more):
        places = [w for n in ("data", "dump", "exp") for w in (f"--{n}dir", str(tmp_path / n))]
        sets = [] if "--test_sets" in more else ["--test_sets", "test"]
        return load_options([*places, *sets, "--arms", "none specaug", *more])

    return make


def test_sets_come_clean_first(load):
    sets = decoded_sets(("test", "test_unseen"), CONDITIONS.split())
    assert [one.name for one in sets] == [
        "test", *MADE, *(name.replace("test", "test_unseen") for name in ["test", *MADE])
    ]  # fmt: skip


def test_without_conditions_there_are_the_test_sets(load):
    assert [one.name for one in Layout(load().recipe).decoded_sets] == ["test"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--conditions", "clean fog"], "condition 'fog' is not known"),
        (["--conditions", "clean noise_x"], "'x' is no number"),
        (["--conditions", "clean noise_10 noise_10.0"], "one is named twice"),
        (["--conditions", "noise_10"], "clean is missing"),
        (["--conditions", ""], "clean is missing"),
        (["--conditions", "clean reverb", "--test_sets", "test test_reverb"], "as another set is"),
        (["--conditions", "clean noise_5", "--noise_dir", "/nowhere/musan"], "--noise_dir /nowhere/musan: no such"),
        (["--conditions", "clean reverb", "--rir_dir", "/nowhere/rirs"], "--rir_dir /nowhere/rirs: no such folder"),
        (["--conditions", "clean reverb", "--rir_dir", "."], ": no audio in it (.flac"),
        (["--noise_dir", "."], ": has no say, as --conditions clean has no noise; add e.g. noise_10"),
        (["--conditions", "clean babble_10", "--rir_dir", "."], "has no reverb; add e.g. reverb, or leave it out"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert captured.out == "" and list(tmp_path.iterdir()) == []


def test_steps_of_all_stages(load):
    stages = define_stages(load("--conditions", CONDITIONS))
    made = {step.name: step for step in stages[3].steps}
    assert list(made)[-4:] == ["test", *MADE]
    for name in MADE:
        assert made[name].needs == (made["test"],)
        assert made[name].folder.parts[-3:] == ("dump", "raw", name)
    for number in (12, 13):
        names = {step.name for step in stages[number].steps}
        assert {f"{arm}-{name}" for arm in ("none", "specaug") for name in ("test", *MADE)} <= names
    decodes = {step.name: step for step in stages[12].steps}
    assert made["test_reverb"] in decodes["none-test_reverb"].needs
    assert decodes["none-test_reverb"].folder.name == "test_reverb"
    (report,) = (step for step in stages[14].steps if step.name == "report")
    needed = {step.name for step in report.needs}
    assert {"none-test_babble_0", "specaug-test_noise_10"} <= needed


def test_babble_of_unseen_accents_may_borrow_talkers_of_the_seen_ones(load):
    stages = define_stages(load("--conditions", "clean babble_0 noise_10", "--test_sets", "test test_unseen"))
    made = {step.name: step for step in stages[3].steps}
    assert made["test_unseen_babble_0"].needs == (made["test_unseen"], made["test"])
    assert made["test_babble_0"].needs == (made["test"],)
    assert made["test_unseen_noise_10"].needs == (made["test_unseen"],)


def test_only_what_decides_a_condition_makes_it_anew(load, tmp_path):
    def fingerprints(*more):
        stages = define_stages(load("--conditions", CONDITIONS, *more))
        return {step.name: step.fingerprint for step in stages[3].steps}

    before = fingerprints()
    (tmp_path / "noises").mkdir()
    (tmp_path / "noises" / "a.wav").write_bytes(b"one")

    def changed(*more, since=before):
        return {name for name, value in fingerprints(*more).items() if value != since[name]}

    noises = ["--noise_dir", str(tmp_path / "noises")]
    assert changed(*noises) == {"test_noise_10"}
    assert changed("--rir_dir", str(tmp_path / "noises")) == {"test_reverb"}
    # Other files in the folder make other noise.
    first = fingerprints(*noises)
    assert changed(*noises, since=first) == set()
    (tmp_path / "noises" / "a.wav").write_bytes(b"another")
    assert changed(*noises, since=first) == {"test_noise_10"}
    (tmp_path / "noises" / "a.wav").rename(tmp_path / "noises" / "b.wav")
    assert changed(*noises, since=first) == {"test_noise_10"}
    assert changed("--nj", "7") == set()
    # More conditions leave the others as they are.
    fewer = {step.name: step.fingerprint for step in define_stages(load())[3].steps}
    assert fewer.items() < before.items()


def test_a_condition_that_was_not_made_names_stage_3(load):
    stages = define_stages(load("--conditions", "clean reverb"))
    step = next(step for step in stages[12].steps if step.name == "none-test_reverb")
    (mixed,) = (need for need in step.needs if need.stage == 3)
    only = dataclasses.replace(step, needs=(dataclasses.replace(mixed, needs=()),))
    with pytest.raises(UserError, match=r"test_reverb\), which has not been run: start with --stage 3"):
        check_order([dataclasses.replace(stages[12], steps=(only,))], TITLES)
    # Where what it is made of is missing too, that comes first.
    only = dataclasses.replace(step, needs=(mixed,))
    with pytest.raises(UserError, match=r"stage 12 needs stage 1 .*has not been run: start with --stage 1"):
        check_order([dataclasses.replace(stages[12], steps=(only,))], TITLES)
