"""Data of the cls task, and a real training on two generated accents."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.evaluate import evaluate
from espnet_saliency.accent.training import training_arguments, write_training_data
from espnet_saliency.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_files_of_a_training(dump, tmp_path):
    train = tmp_path / "train"
    shutil.copytree(dump / "train", train)
    lines = (train / "utt2accent").read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} unknown"
    (train / "utt2accent").write_text("\n".join(lines) + "\n")
    data = write_training_data(train, dump / "test", tmp_path / "stats")
    assert data.accents == ("bright", "dark")
    assert (tmp_path / "stats" / "token_list").read_text() == "bright\ndark\n<unk>\n"
    assert data.left_out[lines[0].split()[0]] == "accent unknown"
    assert len(data.left_out) == 11
    assert data.left_out["plain30-0"] == "accent plain is not in the training set"
    folder = tmp_path / "stats" / "train"
    tables = {
        name: dict(line.split() for line in (folder / name).read_text().splitlines())
        for name in ("wav.scp", "label", "speech_shape")
    }
    assert all(table.keys() == tables["label"].keys() for table in tables.values())
    assert len(tables["label"]) == 95 and set(tables["label"].values()) == {"bright", "dark"}
    classes = [line.split() for line in (folder / "category2utt").read_text().splitlines()]
    assert [c[0] for c in classes] == ["bright", "dark"]
    assert sorted(classes[0][1:] + classes[1][1:]) == list(tables["label"])
    assert all(tables["label"][utt_id] == c[0] for c in classes for utt_id in c[1:])
    words = training_arguments(tmp_path / "stats")
    named = [word.split(",")[0] for word in words if str(tmp_path) in word]
    assert len(named) == 7 and all(Path(path).is_file() for path in named)


def test_data_without_accents_to_tell_apart_is_refused(dump, tmp_path):
    folder = tmp_path / "one"
    shutil.copytree(dump / "dev", folder)
    accents = (folder / "utt2accent").read_text()
    (folder / "utt2accent").write_text(accents.replace(" dark", " bright"))
    with pytest.raises(UserError, match="1 known accents"):
        write_training_data(folder, dump / "dev", tmp_path / "stats")
    (folder / "utt2accent").write_text(accents.replace(" dark", " very dark"))
    with pytest.raises(UserError, match="accent 'very dark' must be one word"):
        write_training_data(folder, dump / "dev", tmp_path / "stats")
    (folder / "utt2accent").write_text(accents.replace(" dark", " x").replace(" bright", " y"))
    with pytest.raises(UserError, match="none of the training set's accents"):
        write_training_data(dump / "dev", folder, tmp_path / "stats")


@pytest.mark.slow
def test_the_shipped_configuration_learns_to_tell_two_accents_apart(dump, tmp_path):
    # A fifth of one accent only: batches are balanced all the same, and so is the validation.
    train, dev = tmp_path / "train", tmp_path / "dev"
    for folder in (train, dev):
        shutil.copytree(dump / folder.name, folder)
        for name in ("wav.scp", "utt2spk", "utt2accent", "utt2num_samples"):
            lines = (folder / name).read_text().splitlines(keepends=True)
            kept = [x for i, x in enumerate(lines) if not x.startswith("dark") or i % 5 == 0]
            (folder / name).write_text("".join(kept))
    write_training_data(train, dev, tmp_path / "stats")
    exp = tmp_path / "exp"
    config = tmp_path / "config.yaml"
    conf = yaml.safe_load((ROOT / "conf" / "train_accent_resnet.yaml").read_text())
    # Small enough for a test; what decides the network and the batches' balance stays.
    conf.update(batch_bins=200000, max_epoch=6, keep_nbest_models=[2, 6], num_workers=0)
    conf["scheduler_conf"]["warmup_steps"] = 10
    conf["specaug_conf"]["crop_frames"] = 120
    config.write_text(yaml.safe_dump(conf))
    command = [sys.executable, "-m", "espnet_saliency", "-m", "espnet2.bin.cls_train"]
    command += ["--config", str(config), "--output_dir", str(exp), "--ngpu", "0"]
    command += training_arguments(tmp_path / "stats")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]

    two_best = exp / "valid.acc.ave_2best.pth"
    classifier = AccentClassifier.load(two_best)
    assert classifier.accents == ("bright", "dark") and classifier.stride == (8, 8)
    results = evaluate(classifier, {"test": dump / "test"}, exp / "eval")["sets"]["test"]
    assert results["balanced_accuracy"] >= 0.9 and not results["near_chance"]
    # What the epochs are ranked by is the balanced accuracy of their models.
    log = dict(re.findall(r"(\d+)epoch results:.*\[valid\].*? acc=([\d.]+)", run.stderr))
    kept = sorted(exp.glob("[0-9]*epoch.pth"))
    assert len(kept) == 6
    for path in kept:
        figures = evaluate(AccentClassifier.load(path), {"dev": dev}, tmp_path / path.stem)
        balanced = figures["sets"]["dev"]["balanced_accuracy"]
        assert float(log[path.name.removesuffix("epoch.pth")]) == pytest.approx(balanced, abs=1e-3)
    # The weights in the file are the ones in use.
    weights = torch.load(two_best, weights_only=True)
    assert torch.equal(weights["decoder.linear_out.weight"], classifier.linear_weight)
