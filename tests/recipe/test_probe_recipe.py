"""--probe: its steps, what it refuses, and a run on the tiny recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.options import load_options
from espnet_saliency.recipe.stages import define_stages
from espnet_saliency.saliency import probe as frontend
from espnet_saliency.scoring import probe as table


def stages_of(*options: str):
    arms = [] if "--arms" in options else ["--arms", "none specaug"]
    return define_stages(load_options(["--corpus", "mini_accent", *arms, *options]))


def probe_steps(stages, number):
    return {step.name: step for step in stages[number].steps if step.name.startswith("probe")}


def test_the_orders_are_those_of_the_frontend():
    assert set(table.ORDERS) == set(frontend.ORDERS)


def test_without_the_option_there_are_no_steps():
    stages = stages_of()
    assert not any(probe_steps(stages, number) for number in (12, 13, 14))


def test_steps_of_the_baseline_at_each_order_and_share():
    stages = stages_of("--probe", "true", "--probe_shares", "0.3 0.125")
    decodes = probe_steps(stages, 12)
    orders = ("random", "least", "salient")
    names = ["probe-plain", *(f"probe-{o}-{s}" for s in (0.125, 0.3) for o in orders)]
    assert list(decodes) == list(probe_steps(stages, 13)) == names
    folder = decodes["probe-salient-0.125"].folder
    assert (folder.parent.name, folder.name) == ("probe", "salient_12.5")
    assert "_specaug_" in folder.parent.parent.name  # the baseline, not the first arm
    (command, *_) = decodes["probe-salient-0.125"].commands
    assert f"--asr_train_config {folder}/inference.yaml" in command
    (report,) = probe_steps(stages, 14).values()
    assert {need.name for need in report.needs} == {*names, "evaluation"}


def test_only_what_maps_decide_waits_for_the_classifier():
    def stages_needed(name):
        return {need.stage for need in probe_steps(stages_of("--probe", "true"), 12)[name].needs}

    assert stages_needed("probe-salient-0.1") == stages_needed("probe-least-0.1") == {4, 7, 11}
    assert stages_needed("probe-random-0.1") == stages_needed("probe-plain") == {4, 11}


def test_only_what_decides_a_decoding_makes_it_anew():
    def prints(*options):
        return {n: s.fingerprint for n, s in probe_steps(stages_of("--probe", "true", *options), 12).items()}

    before, fewer = prints(), prints("--probe_shares", "0.2")
    assert fewer.items() < before.items()
    assert prints("--inference_nj", "3") == before


def test_a_classifier_from_elsewhere_is_part_of_the_inputs(tmp_path):
    conf = yaml.safe_load(load_options(["--corpus", "mini_accent"]).recipe.accent_config.read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(conf))
    (tmp_path / "valid.acc.ave.pth").write_bytes(b"one")
    options = ("--probe", "true", "--classifier", str(tmp_path), "--has_accents", "false")
    before = probe_steps(stages_of(*options), 12)
    (tmp_path / "valid.acc.ave.pth").write_bytes(b"other")
    after = probe_steps(stages_of(*options), 12)
    changed = {name for name in before if before[name].fingerprint != after[name].fingerprint}
    assert changed == {name for name in before if "salient" in name or "least" in name}


def test_a_corpus_without_a_classifier_is_one_line():
    with pytest.raises(UserError, match="mini_accent has no accent labels .* --classifier EXP") as error:
        stages_of("--probe", "true", "--has_accents", "false")
    assert "\n" not in str(error.value)
    # Preparing the data needs none.
    stages_of("--probe", "true", "--has_accents", "false", "--stop_stage", "5")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frontend": "s3prl"}, "sets frontend: s3prl: leave --probe out"),
        ({"hop_length": 200}, "hop_length: classifier 256, recogniser 200.*give both the same"),
    ],
)
def test_a_recogniser_that_the_maps_do_not_fit_is_refused(tmp_path, changes, message):
    config = yaml.safe_load(load_options(["--corpus", "mini_accent"]).recipe.asr_config.read_text())
    if "frontend" in changes:
        config["frontend"] = changes["frontend"]
    else:
        config["frontend_conf"] = {**config["frontend_conf"], **changes}
    path = tmp_path / "train_asr.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=message):
        stages_of("--probe", "true", "--asr_config", str(path))


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(UserError, match="no config.yaml there"):
        stages_of("--probe", "true", "--classifier", str(tmp_path))


@pytest.mark.parametrize("shares", ["", "0 0.1", "0.1 1.5", "0.1 0.1", "nan"])
def test_shares_out_of_range(shares):
    with pytest.raises(UserError, match="--probe_shares '.*': different shares above 0 and up to 1"):
        load_options(["--corpus", "mini_accent", "--probe_shares", shares])


@pytest.mark.slow
def test_a_run_ends_in_a_table_of_what_hiding_costs(tiny):
    options = ["--probe", "true", "--probe_shares", "0.3"]
    out = tiny.run("--stage", "12", *options)
    assert "specaug-test: finished before with the same inputs, skipped" in out
    report = tiny.folder / "exp" / "report"
    found = json.loads((report / "probe.json").read_text())
    assert found["answer"] in out and found["verdict"] in ("more", "less", "same", "both", "too few")
    orders = [(row["order"], row["share"]) for row in found["rows"]]
    assert orders == [("plain", 0.0), ("random", 0.3), ("least", 0.3), ("salient", 0.3)]
    assert {"overall", "american", "indian", "russian"} <= set(found["rows"][0]["groups"])
    assert (report / "probe.md").exists() and (report / "probe.png").exists()

    (experiment,) = (path.parent for path in (tiny.folder / "exp").glob("asr_*/probe"))
    plain = yaml.safe_load((experiment / "inference.yaml").read_text())
    masked = yaml.safe_load((experiment / "probe" / "salient_30" / "inference.yaml").read_text())
    hide = masked["frontend_conf"].pop("hide")
    assert (hide["order"], hide["share"], masked.pop("frontend")) == ("salient", 0.3, "masked_default")
    assert masked == {k: v for k, v in plain.items() if k != "frontend"}
    assert yaml.safe_load((experiment / "probe" / "plain" / "inference.yaml").read_text()) == plain
    # A recogniser this small hears nothing at all: its scores tell that it was shown something else.
    part = experiment / "probe" / "{}" / "dev" / "logdir" / "output.1" / "1best_recog" / "score"
    scores = [Path(str(part).format(one)).read_text() for one in ("plain", "random_30")]
    assert scores[0] != scores[1]
    # Nor does the classifier, and its maps are then flat: the table must not pass in silence.
    (evaluation,) = (tiny.folder / "exp").glob("accent_*/eval/results.json")
    near_chance = json.loads(evaluation.read_text())["sets"]["dev"]["near_chance"]
    said = "WARNING: dev: balanced accuracy" in out
    assert said == near_chance == any("near chance" in w for w in found["warnings"])
    assert "probe-salient-0.3: finished before" in tiny.run("--stage", "12", *options)
