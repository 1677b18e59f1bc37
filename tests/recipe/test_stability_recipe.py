"""--stability: a second classifier, what it needs, and how far the maps of the two agree."""

from __future__ import annotations

import json

import pytest

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.options import load_options
from espnet_saliency.recipe.stages import define_stages


def stages_of(*options: str):
    return define_stages(load_options(["--corpus", "mini_accent", *options]))


def test_without_the_option_there_is_one_classifier():
    stages = stages_of()
    assert [step.name for step in stages[7].steps] == ["classifier"]
    assert "stability" not in [step.name for step in stages[9].steps]


def test_the_second_classifier_differs_in_its_seed_alone():
    stages = stages_of("--stability", "true", "--seed", "4")
    first, second = stages[7].steps
    assert (first.inputs.pop("seed"), second.inputs.pop("seed")) == (4, 5)
    assert first.inputs == second.inputs and first.needs == second.needs
    assert second.folder.name == f"{first.folder.name}_seed5"
    (one,), (other,) = first.commands, second.commands
    assert "--seed 5 " in other
    assert other.replace(second.folder.name, first.folder.name).replace("--seed 5 ", "--seed 4 ") == one
    (step,) = [step for step in stages[9].steps if step.name == "stability"]
    assert step.needs[:2] == (first, second)
    (report,) = [step for step in stages[14].steps if step.name == "report"]
    assert step in report.needs


def test_the_first_classifier_is_not_trained_anew_for_it():
    assert stages_of("--stability", "true")[7].steps[0].fingerprint == stages_of()[7].steps[0].fingerprint


def test_a_classifier_from_elsewhere_has_no_second_seed(tmp_path):
    with pytest.raises(UserError, match="--stability true .* --classifier .* leave one of the two out") as error:
        stages_of("--stability", "true", "--classifier", str(tmp_path))
    assert "\n" not in str(error.value)


def test_the_page_is_made_anew_when_a_file_that_it_shows_comes_or_changes(tmp_path):
    def fingerprint(*more: str) -> str:
        stages = stages_of("--expdir", str(tmp_path), *more)
        return next(step.fingerprint for step in stages[14].steps if step.name == "report")

    for path in ("leave_one_out/results.json", "saliency_train_accent_resnet_raw/stability.json"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        seen = [fingerprint()]
        for content in ("{}", "[]"):
            (tmp_path / path).write_text(content)
            seen.append(fingerprint())
        assert len(set(seen)) == 3, path
        assert fingerprint() == seen[-1]
    # What a step of the run itself makes counts by that step: the next run finds nothing changed.
    own = fingerprint("--stability", "true")
    (tmp_path / path).write_text("{}")
    assert fingerprint("--stability", "true") == own


def test_the_page_needs_the_probe_of_its_run():
    stages = stages_of("--probe", "true")
    probe, report = stages[14].steps
    assert probe.name == "probe" and probe in report.needs
    assert [step.name for step in stages_of()[14].steps] == ["report"]


@pytest.mark.slow
def test_the_maps_of_two_seeds_are_compared(tiny):
    out = tiny.run("--stage", "7", "--stop_stage", "9", "--stability", "true")
    assert "classifier: finished before with the same inputs, skipped" in out
    exp = tiny.folder / "exp"
    folders = [exp / f"accent_train_accent_tiny_raw{seed}" for seed in ("", "_seed2")]
    found = json.loads((exp / "saliency_train_accent_tiny_raw" / "stability.json").read_text())
    digests = [AccentClassifier.load(folder).digest for folder in folders]
    assert found["classifiers"] == digests and len(set(digests)) == 2
    assert (found["set"], found["utterances"]) == ("test", 18)
    assert f"overlap by {100 * found['overlap']:.0f} % (chance 11 %)" in out
    tiny.run("--stage", "14", "--stop_stage", "14", "--stability", "true")
    page = (exp / "report" / "index.html").read_text()
    assert "Do two classifiers show the same?" in page

    # Left by an earlier classifier, it would say something about another one's maps.
    path = exp / "saliency_train_accent_tiny_raw" / "stability.json"
    path.write_text(json.dumps({**found, "classifiers": ["an earlier one", digests[1]]}))
    out = tiny.run("--stage", "14", "--stop_stage", "14")
    assert f"{path} is of an earlier classifier: not shown" in out
    assert "Do two classifiers show the same?" not in (exp / "report" / "index.html").read_text()
