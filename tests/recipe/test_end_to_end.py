"""All stages on a cut-down miniature corpus, with real ESPnet trainings; and what a second start does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jiwer
import pytest
import torch
import yaml

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.saliency.stored import MapArchive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ARMS = ("specaug", "saliency_specaug", "random_specaug")


def experiment(recipe, arm: str) -> Path:
    return recipe.folder / "exp" / f"asr_train_asr_tiny_{arm}_raw_en_bpe40"


def decode(recipe, arm: str, name: str) -> Path:
    return experiment(recipe, arm) / "decode_asr_asr_model_valid.loss.ave" / name


def test_the_console_shows_stages_and_nothing_of_the_libraries(tiny):
    lines = tiny.output.splitlines()
    for number in range(1, 16):
        assert any(line.startswith(f"Stage {number}: ") for line in lines)
    for line in lines[1:-1]:
        assert line.startswith(("Stage ", "  ")), line
    for noise in ("nltk", "Warning", "warn(", "INFO", "Traceback"):
        assert noise not in tiny.output.replace("WARNING:", "")


def test_data_directories_hold_the_corpus_and_are_valid(tiny):
    # 3 seen accents; german is in test_unseen alone
    for name, utterances in (("train", 48), ("dev", 12), ("test", 18), ("test_unseen", 6)):
        assert validate_data_dir(tiny.folder / "data" / name) == utterances
        assert len(read_table(tiny.folder / "dump" / "raw" / name / "wav.scp")) == utterances
    assert set(read_table(tiny.folder / "data" / "test_unseen" / "utt2accent").values()) == {"german"}


def test_every_arm_has_a_model_and_no_checkpoint_holds_the_classifier(tiny):
    classifier = AccentClassifier.load(tiny.folder / "exp" / "accent_train_accent_tiny_raw")
    assert classifier.accents == ("american", "indian", "russian")
    keys = []
    for arm in ARMS:
        state = torch.load(experiment(tiny, arm) / "valid.loss.ave.pth", weights_only=True)
        keys.append(sorted(state))
        assert not [key for key in state if "specaug" in key or "classifier" in key]
    assert keys[0] == keys[1] == keys[2]


def test_arms_differ_in_their_augmentation_alone(tiny):
    configs = [yaml.safe_load((experiment(tiny, arm) / "train.yaml").read_text()) for arm in ARMS]
    for config in configs:
        config.pop("specaug"), config.pop("specaug_conf")
    assert configs[0] == configs[1] == configs[2]


@pytest.mark.parametrize("name", ["test", "test_unseen"])
def test_scores_are_those_of_the_decoded_text(tiny, name):
    references = read_table(tiny.folder / "data" / name / "text")
    comparison = json.loads((tiny.folder / "exp" / "report" / "comparison.json").read_text())
    for arm in ARMS:
        hypotheses = read_table(decode(tiny, arm, name) / "text")
        assert hypotheses.keys() == references.keys()
        ids = sorted(references)
        wer = jiwer.wer([references[i] for i in ids], [hypotheses[i] for i in ids])
        found = comparison["sets"][name]["wer"]["arms"][arm]["groups"]["overall"]["rate"]
        assert found == pytest.approx(100 * wer)


def test_the_report_and_the_tables_are_there(tiny):
    page = (tiny.folder / "exp" / "report" / "index.html").read_text()
    for words in ("saliency_specaug", "german", "data:image/png;base64,", "near chance"):
        assert words in page
    results = (tiny.folder / "exp" / "RESULTS.md").read_text()
    assert "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|" in results
    assert "48 utterances of 12 speakers" in results


def test_the_classifier_is_evaluated_and_its_maps_are_tested(tiny):
    figures = json.loads(
        (tiny.folder / "exp" / "accent_train_accent_tiny_raw" / "eval" / "results.json").read_text()
    )
    assert sorted(figures["sets"]) == ["dev", "test", "test_unseen"]
    assert figures["sets"]["test_unseen"]["unknown_accents"]["german"]["utterances"] == 6
    curves = json.loads(
        (tiny.folder / "exp" / "saliency_train_accent_tiny_raw" / "faithfulness.json").read_text()
    )
    assert curves["set"] == "test" and len(curves["curves"]["salient"]) == len(curves["shares"])


PLAIN_ESPNET = """
import sys, zipfile, soundfile, yaml
from espnet2.bin.asr_inference import Speech2Text
zipfile.ZipFile(sys.argv[1]).extractall(".")
meta = yaml.safe_load(open("meta.yaml"))
recogniser = Speech2Text(**meta["files"], **meta["yaml_files"], ctc_weight=1.0, beam_size=1)
recogniser(soundfile.read(sys.argv[2])[0])
print("decoded, with espnet_saliency:", "espnet_saliency" in sys.modules)
"""


def test_the_packed_model_decodes_in_plain_espnet(tiny, tmp_path):
    folder = experiment(tiny, "saliency_specaug")
    wav = next(iter(read_table(tiny.folder / "dump" / "raw" / "test" / "wav.scp").values()))
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_ESPNET, str(folder / f"{folder.name}.zip"), wav],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "decoded, with espnet_saliency: False" in done.stdout, done.stderr


def test_a_second_start_skips_everything_within_seconds(tiny):
    started = time.monotonic()
    output = tiny.run("--stop_stage", "15")
    assert "done in" not in output
    assert output.count("skipped") == tiny.output.count("done in")
    assert time.monotonic() - started < 60


def test_a_stage_out_of_order_is_one_line_and_writes_nothing(tiny, tmp_path):
    fresh = type(tiny)(tmp_path, tiny.checkout, "--corpus_dir", str(tiny.folder / "corpus"))
    error = fresh.run("--stage", "11", "--stop_stage", "11", status=2)
    assert error.startswith("error: stage 11 needs stage") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_killed_in_training_and_started_again_ends_the_same(tiny, tmp_path):
    """The run is killed without a word in its second epoch; the rest is trained on resumption."""
    only = ["--arms", "random_specaug", "--stage", "11", "--stop_stage", "11", "--asr_tag", "killed"]
    folder = tiny.folder / "exp" / "asr_killed_random_specaug"
    process = tiny.start(*only)
    deadline = time.monotonic() + 120
    while not (folder / "1epoch.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)  # the training notices that its parent has gone
    assert not (folder / ".stages" / "11-random_specaug.done.json").exists()
    tiny.run(*only)
    assert "The training was resumed using" in (folder / "train.log").read_text()
    resumed = torch.load(folder / "2epoch.pth", weights_only=True)
    whole = torch.load(experiment(tiny, "random_specaug") / "2epoch.pth", weights_only=True)
    for key, value in whole.items():
        assert torch.equal(resumed[key], value), key


def test_a_classifier_trained_elsewhere_is_used_and_left_as_it_is(tiny, tmp_path):
    lent = tiny.folder / "exp" / "accent_train_accent_tiny_raw"
    before = {path: path.stat().st_mtime_ns for path in sorted(lent.rglob("*"))}
    options = ["--classifier", str(lent), "--expdir", str(tmp_path), "--arms", "saliency_specaug"]
    output = tiny.with_options(*options).run("--stage", "7", "--stop_stage", "11")
    assert f"the classifier is {lent}" in output
    assert (tmp_path / "saliency_train_accent_tiny_raw" / "eval" / "results.json").exists()
    config = yaml.safe_load(next(tmp_path.glob("asr_train*/config.yaml")).read_text())
    maps = MapArchive.open(Path(config["specaug_conf"]["stored_maps"]))
    assert maps.folder.is_relative_to(tmp_path) and maps.digest == AccentClassifier.load(lent).digest
    assert {path: path.stat().st_mtime_ns for path in sorted(lent.rglob("*"))} == before


def test_a_classifier_of_other_features_is_refused_with_both_values(tiny, tmp_path):
    config = yaml.safe_load((tiny.folder / "exp" / "accent_train_accent_tiny_raw" / "config.yaml").read_text())
    config["frontend_conf"]["hop_length"] = 160
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    error = tiny.run("--classifier", str(tmp_path), "--stage", "9", status=2)
    assert error.count("\n") == 1
    assert "hop_length: classifier 160, recogniser 256" in error


def test_a_changed_augmentation_redoes_what_depends_on_it_alone(tiny, tmp_path):
    # In a copy: other tests go on with what is there.
    shutil.copytree(tiny.folder / "exp", tmp_path / "exp", symlinks=True)
    recipe = tiny.with_options("--expdir", str(tmp_path / "exp"), "--arms", "specaug random_specaug")
    arm = tiny.checkout / "conf" / "aug" / "random_specaug.yaml"
    before = arm.read_text()
    arm.write_text(before.replace("apply_prob: 0.5", "apply_prob: 0.6"))
    try:
        output = recipe.run("--stop_stage", "13")
    finally:
        arm.write_text(before)
    assert "random_specaug: done again: config.specaug_conf.apply_prob 0.5, now 0.6" in output
    done = [line.split(":")[0].strip() for line in output.splitlines() if ": done in" in line]
    assert done == [
        "random_specaug",
        "random_specaug-test",
        "random_specaug-test_unseen",
        "random_specaug-test",
        "random_specaug-test_unseen",
        "results",
    ]


def test_conditions_are_decoded_and_end_in_a_table(tiny):
    out = tiny.run("--stage", "3", "--conditions", "clean noise_10")
    assert "specaug-test: finished before with the same inputs, skipped" in out
    report = tiny.folder / "exp" / "report"
    sets = json.loads((report / "comparison.json").read_text())["sets"]
    assert [(name, one["of"], one["condition"]) for name, one in sets.items()] == [
        ("test", "test", "clean"), ("test_noise_10", "test", "noise_10"),
        ("test_unseen", "test_unseen", "clean"), ("test_unseen_noise_10", "test_unseen", "noise_10"),
    ]  # fmt: skip
    clean, noisy = (sets[name]["wer"]["arms"]["specaug"]["groups"] for name in ("test", "test_noise_10"))
    assert clean.keys() == noisy.keys() >= {"overall", "american", "indian", "russian"}
    assert {name: one["words"] for name, one in clean.items()} == {name: one["words"] for name, one in noisy.items()}
    table = (report / "conditions.md").read_text()
    for word in ("clean", "noise_10", "american", "german"):
        assert word in table
    assert (report / "conditions.png").stat().st_size > 10_000
    # A recogniser this small hears nothing at all: its scores tell that it was given other audio.
    part = "logdir/output.1/1best_recog/score"
    scores = [(decode(tiny, "specaug", name) / part).read_text() for name in ("test", "test_noise_10")]
    assert scores[0] != scores[1]
