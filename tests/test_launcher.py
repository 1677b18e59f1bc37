"""`python -m espnet_saliency`: modules run plugged in, everything else as Python does it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet_saliency.__main__ import leading_flags, tasks_of
from espnet_saliency.plugin import RECOGNISERS, TASKS

ROOT = Path(__file__).resolve().parents[1]


def launch(*arguments, cwd=ROOT, stdin="", path=()):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, *path]))
    command = [sys.executable, "-m", "espnet_saliency", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    "program, tasks",
    [
        ("espnet2.bin.asr_train", tuple(RECOGNISERS)),
        ("/somewhere/espnet2/bin/asr_transducer_inference.py", tuple(RECOGNISERS)),
        ("espnet2.bin.st_train", tuple(RECOGNISERS)),
        ("espnet2.bin.enh_s2t_train", tuple(RECOGNISERS)),
        ("espnet2.bin.cls_train", ("cls",)),
        ("espnet2.bin.tokenize_text", ()),
        ("espnet2.bin.launch", ()),
        ("/somewhere/espnet2/bin/aggregate_stats_dirs.py", ()),
        ("my.training", TASKS),
        ("training", TASKS),
    ],
)
def test_only_tasks_that_a_program_may_need_are_imported(program, tasks):
    assert tasks_of(program) == tasks


@pytest.mark.parametrize(
    "arguments, count",
    [
        (["-m", "x"], 0),
        (["-c", "pass", "-u"], 0),
        (["-u", "-m", "x"], 1),
        (["-W", "ignore", "-X", "dev", "-OO", "-m", "x"], 5),
        (["-Wignore", "script.py", "-u"], 1),
        (["-"], 0),
        (["-W"], 1),
        ([], 0),
    ],
)
def test_flags_of_the_interpreter(arguments, count):
    assert leading_flags(arguments) == count


def test_what_is_no_module_happens_as_with_python(tmp_path):
    script = tmp_path / "local script.py"
    script.write_text("import sys; print(sys.argv[1:], sys.flags.optimize)")
    assert launch(script, "-m", "a b", "--", "c").stdout == "['-m', 'a b', '--', 'c'] 0\n"
    assert launch("-O", "-u", script).stdout == "[] 1\n"
    assert launch("-c", "import sys; print(sys.argv)", "-x").stdout == "['-c', '-x']\n"
    assert launch("-", "x", stdin="import sys; print(sys.argv)").stdout == "['-', 'x']\n"
    assert launch(stdin="print('from standard input')").stdout == "from standard input\n"
    assert launch("-V").stdout == f"Python {sys.version.split()[0]}\n"
    assert launch("-c", "raise SystemExit(7)").returncode == 7


def test_help_is_of_the_launcher():
    run = launch("--help")
    assert run.returncode == 0 and "espnet2.bin.asr_train" in run.stdout


def test_a_module_runs_plugged_in(tmp_path):
    (tmp_path / "probe.py").write_text(
        "import sys\n"
        "from espnet2.tasks.asr import specaug_choices as asr\n"
        "from espnet2.tasks.cls import encoder_choices, specaug_choices as cls\n"
        "print('RESULT', __name__, sys.argv[1:], sys.argv[0].endswith('probe.py'),\n"
        "      sys.flags.optimize, 'saliency' in asr.classes,\n"
        "      'accent_resnet' in encoder_choices.classes, 'crop_specaug' in cls.classes,\n"
        "      sys.modules['__main__'].__file__[-27:])\n"
    )
    run = launch("-O", "-m", "probe", "--a b", "-m", "x", path=[tmp_path])
    line = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    # The launcher stays the main module: spawned processes import it again.
    assert line == [
        "RESULT __main__ ['--a b', '-m', 'x'] True 1 True True True espnet_saliency/__main__.py"
    ], run.stderr


def test_a_users_mistake_is_one_line_and_status_2():
    run = launch("-m", "espnet2.bin.no_such_program")
    assert run.returncode == 2
    assert run.stderr.startswith("error: no module named espnet2.bin.no_such_program")
    assert run.stderr.count("\n") == 1 and run.stdout == ""
    run = launch("-m", "no_such_package.program")
    assert run.returncode == 2 and run.stderr.count("\n") == 1


# Training of a recogniser that is as small as ESPnet builds one.

FRONTEND = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80}
ASR = {
    "token_list": ["<blank>", "<unk>", "a", "b", "<sos/eos>"],
    "token_type": "char",
    "frontend_conf": FRONTEND,
    "normalize": "utterance_mvn",
    "encoder": "transformer",
    "encoder_conf": {"output_size": 8, "num_blocks": 1, "attention_heads": 1, "linear_units": 8},
    "model_conf": {"ctc_weight": 1.0, "report_cer": False, "report_wer": False},
    "init": "xavier_uniform",
    "max_epoch": 1,
    "batch_type": "unsorted",
    "batch_size": 4,
    "num_workers": 0,
    "num_att_plot": 0,
    "specaug": "saliency",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Eight recordings with texts, and an (untrained) accent classifier."""
    import argparse

    from espnet2.tasks.cls import CLSTask
    from espnet_saliency import plugin

    root = tmp_path_factory.mktemp("asr")
    generator = np.random.default_rng(0)
    names = [f"s-{i}" for i in range(8)]
    for name in names:
        soundfile.write(root / f"{name}.flac", 0.1 * generator.standard_normal(16000), 16000)
    (root / "wav.scp").write_text("".join(f"{n} {root / n}.flac\n" for n in names))
    (root / "text").write_text("".join(f"{n} abba\n" for n in names))
    (root / "shape").write_text("".join(f"{n} 16000\n" for n in names))
    config = {
        "token_list": ["x", "y", "<unk>"], "input_size": None, "frontend": "default",
        "frontend_conf": FRONTEND, "specaug": None, "specaug_conf": {},
        "normalize": "masked_utterance_mvn", "normalize_conf": {}, "preencoder": None,
        "preencoder_conf": {}, "encoder": "accent_resnet", "encoder_conf": {"channels": [4, 8]},
        "decoder": "linear", "decoder_conf": {}, "model": "espnet", "model_conf": {}, "init": None,
    }  # fmt: skip
    plugin.register(["cls"])
    (root / "accent").mkdir()
    (root / "accent" / "config.yaml").write_text(yaml.safe_dump(config))
    model = CLSTask.build_model(argparse.Namespace(**config))
    torch.save(model.state_dict(), root / "accent" / "valid.acc.best.pth")
    return root


def training(work: Path, name: str, **changes) -> list[str]:
    config = work / f"{name}.yaml"
    specaug = {"classifier": str(work / "accent"), "apply_prob": 1.0}
    config.write_text(yaml.safe_dump({**ASR, "specaug_conf": specaug, **changes}))
    words = ["--config", config, "--output_dir", work / name, "--ngpu", "0"]
    for part in ("train", "valid"):
        words += [f"--{part}_data_path_and_name_and_type", f"{work / 'wav.scp'},speech,sound"]
        words += [f"--{part}_data_path_and_name_and_type", f"{work / 'text'},text,text"]
        words += [f"--{part}_shape_file", work / "shape"]
    return [str(word) for word in words]


@pytest.mark.slow
def test_an_espnet_command_line_trains_with_the_augmentation(work):
    run = launch("-m", "espnet2.bin.asr_train", *training(work, "one"), cwd=work)
    assert run.returncode == 0, run.stderr[-3000:]
    assert re.search(r"SaliencySpecAug\([^\n]*method=grad_cam", run.stderr)
    assert "1epoch results" in run.stderr
    keys = torch.load(work / "one" / "1epoch.pth", weights_only=True).keys()
    assert not [key for key in keys if key.startswith("specaug")]
    # config.yaml says how it was started.
    assert yaml.safe_load((work / "one" / "config.yaml").read_text())["specaug"] == "saliency"


@pytest.mark.slow
def test_a_classifier_of_other_features_is_refused_before_training(work):
    frontend = {**FRONTEND, "hop_length": 128}
    run = launch("-m", "espnet2.bin.asr_train", *training(work, "hop", frontend_conf=frontend))
    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "hop_length: classifier 160, recogniser 128" in last
    assert "Traceback" not in run.stderr and not (work / "hop" / "1epoch.pth").exists()


TWO_PROCESSES = '''
"""What espnet2.tasks.abs_task.AbsTask.main does for two GPUs, on CPU with gloo."""
import argparse, os, sys
import torch
from espnet2.tasks.asr import ASRTask

if __name__ == "__main__":
    args = ASRTask.get_parser().parse_args()
    args.version = "0"
    args.distributed, args.dist_backend, args.dist_world_size = True, "gloo", 2
    args.dist_init_method = "file://" + os.path.abspath("meeting")
    children = []
    for rank in range(2):
        local = argparse.Namespace(**vars(args))
        local.dist_rank = local.local_rank = rank
        child = torch.multiprocessing.get_context("spawn").Process(
            target=ASRTask.main_worker, args=(local,)
        )
        child.start()
        children.append(child)
    for child in children:
        child.join()
    sys.exit(max(abs(child.exitcode) for child in children))
'''


@pytest.mark.slow
def test_two_spawned_processes_train_with_the_augmentation(work, tmp_path):
    (tmp_path / "two_processes.py").write_text(TWO_PROCESSES)
    run = launch("-m", "two_processes", *training(work, "two"), cwd=tmp_path, path=[tmp_path])
    assert run.returncode == 0, run.stderr[-3000:]
    assert ":0/2]" in run.stderr
    assert re.search(r"SaliencySpecAug\([^\n]*method=grad_cam", run.stderr)
    assert "1epoch results" in run.stderr
    assert (work / "two" / "1epoch.pth").exists()
