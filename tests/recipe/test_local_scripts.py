"""The scripts in mini_accent's local/, as they are started by hand; models are tiny."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
ACCENTS = ["--accents", "american indian german", "--train_speakers", "4", "--dev_speakers", "2"]
SMALL = [
    *["--train_utterances", "4", "--dev_utterances", "2", "--unseen_utterances", "1"],
    *["--bootstrap_draws", "200", "--nj", "2"],
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """mini_accent's folder in a copy of the checkout that finds its environment made.

    The configurations that the scripts name are cut down in the copy.
    """
    spec = importlib.util.spec_from_file_location("made", ROOT / "tests" / "recipe" / "conftest.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    folder = tmp_path_factory.mktemp("a checkout")
    made.copy_checkout(folder)
    shutil.copy(ROOT / "run.sh", folder)
    here = Path(sys.executable).parent
    (folder / "path.sh").write_text(f'export PATH="{here}:$PATH" PYTHONPATH="{folder}"\n')
    asr, accent = (Path(path) for path in made.write_tiny_configs(folder)[1::2])
    shutil.copy(accent, folder / "conf" / "small" / "train_accent_resnet.yaml")
    for config in (folder / "egs2" / "mini_accent" / "asr1" / "conf").glob("train_asr_*.yaml"):
        whole = yaml.safe_load(config.read_text())
        tiny = {name: value for name, value in yaml.safe_load(asr.read_text()).items() if name in whole}
        config.write_text(yaml.safe_dump(whole | tiny))
    return folder / "egs2" / "mini_accent" / "asr1"


def start(recipe: Path, script: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """The script, from another folder than its own."""
    command = ["env", *(f"{k}={v}" for k, v in environment.items()), recipe / "local" / script, *words]
    return subprocess.run(command, cwd=recipe.parent, capture_output=True, text=True)


@pytest.mark.parametrize(
    "script, usage",
    [
        ("digits.sh", 'NAME "UNSEEN ACCENTS"'),
        ("finetune.sh", 'NAME "UNSEEN ACCENTS"'),
        ("pool.sh", '"ROTATIONS" CONFIG'),
    ],
)
def test_without_a_rotation_it_says_what_it_wants(recipe, script, usage):
    done = start(recipe, script)
    assert done.returncode == 2 and f"local/{script} {usage}" in done.stdout
    assert "#" not in done.stdout and "here=" not in done.stdout
    assert not (recipe / "rotations").exists()


def test_digits_in_rotations_that_are_pooled(recipe):
    fresh = ["--accents", "american indian polish dutch", *SMALL[-2:], "--unseen_utterances", "1"]
    done = start(recipe, "digits.sh", "fresh", "polish dutch", "", "", *fresh, "--stop_stage", "3")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    extra = ["--extra_test_sets", "asr1/rotations/fresh/dump/raw/test_unseen"]
    for name, unseen in (("T", "german"), ("U", "indian")):
        done = start(recipe, "digits.sh", name, unseen, "saliency", "1 2", *ACCENTS, *SMALL, *extra)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    exp = recipe / "rotations" / "T" / "exp"
    found = json.loads((exp / "report" / "comparison.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == ["saliency"]
    assert found["seeds"] == [1, 2]
    assert found["sets"]["test_unseen"]["accents"] == ["german"]
    words = (recipe / "rotations" / "T" / "data" / "train" / "text").read_text().split()
    assert {"zero", "seven", "nine"} <= set(words)
    # Ten words and ESPnet's three signs.
    (tokens,) = (recipe / "rotations" / "T").rglob("tokens.txt")
    assert len(tokens.read_text().split()) == 10 + 3

    pool = partial(start, recipe, "pool.sh")
    done = pool("T U", "train_asr_conformer_digits", "saliency", "1 2", "--draws", "50")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    folder = recipe / "rotations" / "pooled_train_asr_conformer_digits" / "test_unseen"
    pooled = json.loads((folder / "comparison.json").read_text())
    other = json.loads((recipe / "rotations" / "U" / "exp" / "report" / "comparison.json").read_text())
    assert pooled["seeds"] == [1, 2]
    groups = pooled["sets"]["unseen_accents"]["wer"]["arms"]["saliency"]["groups"]
    for accent, of in (("german", found), ("indian", other)):
        alone = of["sets"]["test_unseen"]["wer"]["arms"]["saliency"]["groups"][accent]
        assert groups[accent]["seeds"]["rates"] == alone["seeds"]["rates"]
        assert groups[accent]["speakers"] == alone["speakers"] == 48

    # Accents that neither heard are one set, and four recognisers were tested on it.
    done = pool("T U", "train_asr_conformer_digits", "saliency", "1 2", set="fresh_test_unseen")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    shared = json.loads((folder.parent / "fresh_test_unseen" / "comparison.json").read_text())
    assert shared["seeds"] == [1, 2, 3, 4]
    groups = shared["sets"]["unseen_accents"]["wer"]["arms"]["saliency"]["groups"]
    for accent in ("polish", "dutch"):
        rates = [
            rate
            for of in (found, other)
            for rate in of["sets"]["fresh_test_unseen"]["wer"]["arms"]["saliency"]["groups"][accent]["seeds"]["rates"]
        ]
        assert sorted(groups[accent]["seeds"]["rates"]) == sorted(rates)
        assert groups[accent]["speakers"] == 48

    missing = pool("T V", "train_asr_conformer_digits", "saliency")
    assert missing.returncode == 2 and "error: rotation V: no " in missing.stderr
    missing = pool("T U", "train_asr_conformer_digits", "saliency", "3")
    assert missing.returncode == 2 and "rotation T has 0 decodings of saliency_seed3 on test_unseen" in missing.stderr


def test_finetune_starts_from_the_native_recogniser(recipe):
    done = start(
        recipe, "finetune.sh", "F", "german", "none", "1",
        *ACCENTS, *SMALL, "--test_speakers", "3", native="american british",
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads((recipe / "rotations" / "F" / "exp" / "report" / "comparison.json").read_text())
    assert [arm["name"] for arm in found["arms"]] == ["none"]
    first = recipe / "rotations" / "native_american_british" / "exp"
    assert "asr_train_asr_conformer_native_specaug_raw_en_bpe80" in done.stdout
    assert list(first.glob("asr_*/valid.loss.ave*.pth"))
