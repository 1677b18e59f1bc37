"""A recipe small enough to run whole inside the suite: twelve speakers, models of a few thousand weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def write_tiny_configs(folder: Path) -> list[str]:
    """Options that make the configurations of conf/small tiny."""
    asr = yaml.safe_load((ROOT / "conf" / "small" / "train_asr_conformer.yaml").read_text())
    asr["encoder_conf"].update(output_size=16, attention_heads=2, linear_units=16, num_blocks=1)
    asr.update(max_epoch=2, num_iters_per_epoch=3, batch_bins=200_000, keep_nbest_models=1, num_workers=0)
    accent = yaml.safe_load((ROOT / "conf" / "small" / "train_accent_resnet.yaml").read_text())
    accent["encoder_conf"]["channels"] = [4, 4, 8]
    accent.update(max_epoch=2, num_iters_per_epoch=3, batch_bins=200_000, keep_nbest_models=1, num_workers=0)
    options = []
    for name, config in (("asr", asr), ("accent", accent)):
        path = folder / f"train_{name}_tiny.yaml"
        path.write_text(yaml.safe_dump(config))
        options += [f"--{name}_config", str(path)]
    return options


class Recipe:
    """`python -m espnet_saliency.recipe` with everything it writes below one folder."""

    def __init__(self, folder: Path, checkout: Path, *options: str):
        self.folder, self.checkout = folder, checkout
        places = [f"--{name}dir" for name in ("data", "dump", "exp")]
        self.options = [
            *(word for place in places for word in (place, str(folder / place[2:-3]))),
            *options,
        ]

    def with_options(self, *options: str) -> Recipe:
        """The same recipe with some options in the place of its own."""
        changed = Recipe(self.folder, self.checkout)
        pairs = dict(zip(self.options[::2], self.options[1::2]))
        pairs.update(zip(options[::2], options[1::2]))
        changed.options = [word for pair in pairs.items() for word in pair]
        return changed

    def start(self, *options: str) -> subprocess.Popen:
        """The recipe as a process under way."""
        words = [sys.executable, "-m", "espnet_saliency.recipe", *self.options, *options]
        environment = {**os.environ, "PYTHONPATH": str(self.checkout)}
        pipe = subprocess.PIPE
        return subprocess.Popen(words, cwd=self.folder, env=environment, text=True, stdout=pipe, stderr=pipe)

    def run(self, *options: str, status: int = 0) -> str:
        """Run to the end; standard output, or standard error where a failure is expected."""
        process = self.start(*options)
        out, err = process.communicate()
        assert process.returncode == status, f"{out}\n{err}"
        return err if status else out


def copy_checkout(folder: Path) -> Path:
    """A copy of the package and the configurations, for tests that edit one."""
    for name in ("espnet_saliency", "conf", "egs2"):
        ignore = shutil.ignore_patterns("__pycache__", "data", "dump", "exp", "downloads")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Recipe:
    """The miniature corpus cut down to four accents, run through all stages."""
    folder = tmp_path_factory.mktemp("tiny recipe")  # with a blank, as folders of people have
    recipe = Recipe(
        folder,
        copy_checkout(folder / "checkout"),
        *["--corpus_dir", str(folder / "corpus"), *write_tiny_configs(folder)],
        *["--accents", "american indian russian german", "--unseen_accents", "german"],
        *["--train_speakers", "4", "--dev_speakers", "2", "--test_speakers", "3"],
        *["--train_utterances", "4", "--dev_utterances", "2", "--test_utterances", "2"],
        *["--unseen_utterances", "2", "--nbpe", "40", "--nj", "2"],
    )
    recipe.output = recipe.run("--stop_stage", "15")
    return recipe
