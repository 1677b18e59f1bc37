"""ESPnet programs as processes: logs, failures, and checkpoints that a kill cannot spoil."""

from __future__ import annotations

import zipfile

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.jobs import (
    Job,
    JobFailed,
    TrainingWatch,
    keep_checkpoint,
    mend_checkpoint,
    run_job,
)


@pytest.mark.parametrize("spawn", [False, True])
def test_a_program_runs_with_its_log_and_the_command_that_repeats_it(tmp_path, spawn):
    job = Job("espnet2.bin.aggregate_stats_dirs", ("--help",), tmp_path / "a.log", spawn=spawn)
    run_job(job)
    lines = job.log.read_text().splitlines()
    assert lines[0] == "# python -m espnet_saliency -m espnet2.bin.aggregate_stats_dirs --help"
    assert any("--skip_sum_stats" in line for line in lines)


def test_a_failure_names_the_log_and_quotes_its_end(tmp_path):
    job = Job("espnet2.bin.aggregate_stats_dirs", ("--output_dir", "x", "--nonsense", "1"), tmp_path / "a.log")
    with pytest.raises(JobFailed, match="unrecognized arguments: --nonsense") as caught:
        run_job(job)
    assert str(job.log) in str(caught.value)


def test_a_users_mistake_inside_a_program_stays_one_line(tmp_path):
    arguments = ["--config", str(tmp_path / "train.yaml"), "--output_dir", str(tmp_path / "out")]
    (tmp_path / "train.yaml").write_text(
        "specaug: saliency\nspecaug_conf: {method: nonsense}\ntoken_list: [<blank>, <unk>, a, <sos/eos>]\n"
    )
    with pytest.raises(UserError, match="nonsense"):
        run_job(Job("espnet2.bin.asr_train", tuple(arguments), tmp_path / "a.log"))


def _checkpoint(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", text)


def test_a_checkpoint_cut_off_by_a_kill_is_replaced_by_the_one_before(tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint.pth"
    _checkpoint(checkpoint, "epoch 3")
    keep_checkpoint(tmp_path)
    whole = checkpoint.read_bytes()
    _checkpoint(checkpoint, "epoch 4, longer")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-20])
    keep_checkpoint(tmp_path)  # one that is cut off is not kept
    mend_checkpoint(tmp_path)
    assert checkpoint.read_bytes() == whole
    assert "cut off" in capsys.readouterr().out


def test_a_whole_checkpoint_is_left_alone(tmp_path):
    _checkpoint(tmp_path / "checkpoint.pth", "epoch 3")
    keep_checkpoint(tmp_path)
    _checkpoint(tmp_path / "checkpoint.pth", "epoch 4")
    mend_checkpoint(tmp_path)
    assert zipfile.ZipFile(tmp_path / "checkpoint.pth").read("data.pkl") == b"epoch 4"


def test_the_watch_reads_epochs_from_the_log(tmp_path, capsys):
    log = tmp_path / "train.log"
    log.write_text("old run: 9epoch results: [train] loss=1, [valid] loss=7.5, acc=0.2, [att]\n")
    watch = TrainingWatch("specaug", log, tmp_path, max_epoch=20, criterion="acc", every=0.0)
    with open(log, "a") as handle:
        handle.write("[h] INFO: 10epoch results: [train] loss=9.1, acc=0.1, [valid] loss=4.25, acc=0.625, x=1\n")
        handle.write("[h] INFO: 11epoch results: [train] loss=9.1, acc=0.1, [valid] loss=4.25, ac")
    watch()
    out = capsys.readouterr().out
    assert "specaug: epoch 10 of 20" in out
    assert "valid acc 0.625" in out
    assert "epoch 11" not in out
