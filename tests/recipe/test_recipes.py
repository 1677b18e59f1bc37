"""Every recipe of tests/recipes.csv: its files, its options, a dry run of all stages, stages 1 to 5 for real.

A row of the table is a corpus, the fixture that stands for it (a maker of tests/corpora/fixtures.py;
none: the recipe generates its corpus), the folder of the fixture that is --corpus_dir, and options.
"""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest

from espnet_saliency import corpora
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[2]

with open(ROOT / "tests" / "recipes.csv", encoding="utf-8", newline="") as _table:
    ROWS = [(f"{row['corpus']}-{row['fixture'] or 'generated'}", row) for row in csv.DictReader(_table)]
RECIPES = sorted({row["corpus"] for _, row in ROWS})

walk = pytest.mark.parametrize("row", [row for _, row in ROWS], ids=[name for name, _ in ROWS])


def _makers() -> dict:
    spec = importlib.util.spec_from_file_location("fixtures", ROOT / "tests" / "corpora" / "fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MAKERS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Row -> --corpus_dir: the fixture, each made once, that nothing may be written into."""
    made: dict[str, Path] = {}
    makers = _makers()

    def make(row: dict[str, str]) -> Path:
        name = row["fixture"]
        if not name:
            return tmp_path_factory.getbasetemp() / f"generated {row['corpus']}"
        if name not in made:
            made[name] = makers[name](tmp_path_factory.mktemp(f"corpus {name}"))
            _allow_writing(made[name], False)
        return made[name] / row["folder"]

    yield make
    for root in made.values():
        _allow_writing(root, True)


def _allow_writing(root: Path, allowed: bool) -> None:
    for path in [root, *sorted(root.rglob("*"))]:
        mode = 0o555 if path.is_dir() else 0o444
        path.chmod(mode | 0o200 if allowed else mode)


def run(row: dict[str, str], corpus_dir: Path, folder: Path, *options: str) -> int:
    """A recipe in this process, with all that it writes below `folder`."""
    words = ["--corpus", row["corpus"], "--corpus_dir", str(corpus_dir), *shlex.split(row["options"])]
    for name in ("data", "dump", "exp"):
        words += [f"--{name}dir", str(folder / name)]
    return main([*words, *options])


def content(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the files below a folder, without the stamps, which note the time taken."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".stages" not in path.parts
    }


def test_every_recipe_is_in_the_table():
    assert RECIPES == sorted(path.parent.name for path in ROOT.glob("egs2/*/asr1"))
    assert RECIPES == sorted(corpora.NAMES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_its_files(name):
    folder = ROOT / "egs2" / name / "asr1"
    for file in ("README.md", "RESULTS.md", "conf/recipe.yaml"):
        assert (folder / file).is_file(), file
    assert os.access(folder / "run.sh", os.X_OK)
    assert f"--corpus {name} " in (folder / "run.sh").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_written_about_a_recipe_names_options_and_files_that_exist(name):
    folder = ROOT / "egs2" / name / "asr1"
    known = {"help", "corpus"}
    for cls in (RecipeOptions, corpora.load(name).Options):
        known |= {field.name for field in dataclasses.fields(cls)}
    for file in (folder / "README.md", folder / "RESULTS.md", folder / "conf" / "recipe.yaml"):
        text = file.read_text(encoding="utf-8")
        for option in re.findall(r"(?<![\w-])--([a-z]\w*)", text):
            assert option in known, f"{file}: --{option}"
        for config in re.findall(r"(?<![\w/.])conf/[\w/]+\.yaml", text):
            assert (folder / config).is_file() or (ROOT / config).is_file(), f"{file}: {config}"


@walk
def test_a_dry_run_of_all_stages_writes_nothing(row, corpus, tmp_path, capsys):
    assert run(row, corpus(row), tmp_path, "--dry_run", "--stop_stage", "15") == 0
    out = capsys.readouterr().out
    assert re.findall(r"^Stage (\d+): ", out, re.MULTILINE) == [str(n) for n in range(1, 16)]
    assert "espnet2.bin.asr_train" in out and "espnet2.bin.pack" in out
    assert list(tmp_path.iterdir()) == []


@walk
def test_stages_1_to_5_leave_the_corpus_alone_and_give_the_same_bytes_twice(row, corpus, tmp_path, capsys):
    corpus_dir = corpus(row)
    before = {path: path.stat().st_mtime_ns for path in corpus_dir.rglob("*")}
    for name in ("first", "second"):
        options = ["--stop_stage", "5", "--nj", "1", "--token_type", "char"]
        assert run(row, corpus_dir, tmp_path / name, *options) == 0, capsys.readouterr().err
    if before:
        assert {path: path.stat().st_mtime_ns for path in corpus_dir.rglob("*")} == before

    first, second = content(tmp_path / "first" / "data"), content(tmp_path / "second" / "data")
    assert first == second
    assert "token_list/char/tokens.txt" in first
    formatted = [path.parent for path in (tmp_path / "first" / "dump" / "raw").glob("*/wav.scp")]
    tests = {folder.name for folder in formatted if folder.name.startswith("test")}
    assert len(formatted) == len(tests) + 2 and tests
    assert ("test_unseen" in tests) == ("--unseen_accents" in row["options"])
    for folder in formatted:
        samples = read_table(folder / "utt2num_samples")
        assert samples and samples.keys() == read_table(folder / "text").keys()


def test_the_own_configurations_of_recipes_build_a_recogniser():
    from espnet2.tasks.asr import ASRTask

    paths = [ROOT / "conf" / "train_asr_conformer_50h.yaml"]
    paths += sorted(ROOT.glob("egs2/*/asr1/conf/train_asr*.yaml"))
    for path in paths:
        small = "small/" * (path.parents[2].name == "mini_accent")
        top = read_yaml(ROOT / "conf" / f"{small}train_asr_conformer.yaml")
        words = ["--config", str(path), "--output_dir", "x", "--token_type", "char"]
        arguments = ASRTask.get_parser().parse_args(words)
        arguments.token_list = ["<blank>", "<unk>", "a", "<sos/eos>"]
        arguments.input_size = None
        assert ASRTask.build_model(arguments).encoder.output_size() == arguments.encoder_conf["output_size"]
        # Another frontend than the classifier's would be refused.
        assert read_yaml(path)["frontend_conf"] == top["frontend_conf"], path
