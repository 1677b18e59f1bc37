"""The five corpora through stages 1 to 14 as their users start them, on fixtures that cannot be written to.

run.sh, of the recipe's own folder and of the top, runs in a copy of the checkout whose path.sh enters
this Python in the place of .venv. Models are tiny.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from espnet_saliency.datadir.kaldi import read_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
ARMS = ("specaug", "saliency_specaug")
WITHOUT_CLASSIFIER = ("specaug", "random_specaug")
RECIPES = {
    "librispeech": (WITHOUT_CLASSIFIER, ["--token_type", "bpe", "--nbpe", "30"]),
    "edacc": (ARMS, ["--token_type", "bpe", "--nbpe", "40"]),
    "commonaccent": (ARMS, ["--token_type", "char"]),
    "commonvoice_fa": (WITHOUT_CLASSIFIER, ["--token_type", "char"]),
    "pdid": (ARMS, ["--token_type", "char"]),
}


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(folder: Path) -> str:
    """Of names, bytes, permissions and times of all that lies in a folder."""
    total = hashlib.sha256()
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.stat()
        total.update(f"{path.relative_to(folder)} {status.st_mode} {status.st_mtime_ns}\n".encode())
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the data directories; not the stamps, which note the time taken."""
    files = [path for path in folder.glob("[!.]*/*") if path.is_file()] + [folder / "rejected.tsv"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def run(place: Path, *words: str) -> str:
    """./run.sh in a folder; what it prints."""
    done = subprocess.run(["./run.sh", *words], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout that finds its environment made."""
    folder = tmp_path_factory.mktemp("checkout")
    _load(ROOT / "tests" / "recipe" / "conftest.py").copy_checkout(folder)
    shutil.copy(ROOT / "run.sh", folder)
    here = Path(sys.executable).parent
    (folder / "path.sh").write_text(f'export PATH="{here}:$PATH" PYTHONPATH="{folder}"\n')
    return folder


@pytest.mark.parametrize(
    "corpus, first",
    [
        ("librispeech", "top"),
        ("edacc", "own folder"),
        ("commonaccent", "own folder"),
        ("commonvoice_fa", "own folder"),
        ("pdid", "top"),
    ],
)
def test_a_recipe_from_its_own_folder_and_from_the_top(tmp_path, checkout, corpus, first):
    makers = _load(ROOT / "tests" / "corpora" / "fixtures.py").MAKERS
    arms, more = RECIPES[corpus]
    root = makers[corpus](tmp_path / "corpus")
    entries = [root, *root.rglob("*")]
    for path in entries:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = digest(root)

    own = checkout / "egs2" / corpus / "asr1"
    starts = {"own folder": (own,), "top": (checkout, "--corpus", corpus)}
    here, there = starts.pop(first), *starts.values()
    options = [
        *["--corpus_dir", str(root), "--pretrained_model", "none", "--arms", " ".join(arms)],
        *_load(ROOT / "tests" / "recipe" / "conftest.py").write_tiny_configs(tmp_path),
        *["--inference_config", "conf/small/decode_asr.yaml"],
        *["--inference_asr_model", "valid.loss.ave.pth", "--speed_perturb_factors", ""],
        *["--ngpu", "0", "--nj", "2", "--bootstrap_draws", "200", *more],
    ]
    try:
        out = run(*here, *options)
        assert [f"Stage {n}: " in out for n in range(1, 15)] == [True] * 14

        # From the other place: the same folders, where all is done, and the same data in other folders.
        again = run(*there, *options)
        assert "espnet2" not in again and again.count("Stage") == out.count("Stage")
        places = [word for n in ("data", "dump", "exp") for word in (f"--{n}dir", str(tmp_path / n))]
        run(*there, *options, *places, "--stop_stage", "5")
        assert content(own / "data") == content(tmp_path / "data")
        assert digest(root) == before
    finally:
        for path in entries:
            path.chmod(0o755)

    comparison = json.loads((own / "exp" / "report" / "comparison.json").read_text())
    for name, one in comparison["sets"].items():
        references = read_table(own / "dump" / "raw" / name / "text")
        assert len(references) == len(read_table(own / "data" / name / "text"))
        labels = own / "data" / name / "utt2accent"
        accents = set(read_table(labels).values()) if labels.exists() else set()
        for arm in arms:
            groups = one["wer"]["arms"][arm]["groups"]
            assert groups["overall"]["utterances"] == len(references)
            assert groups.keys() == accents | {"overall"}
    assert os.path.getsize(own / "exp" / "report" / "index.html") > 10_000
