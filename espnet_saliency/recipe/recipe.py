"""A recipe under way: its options, its folders, its arms, and the steps that its stages have defined."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

from espnet_saliency.accent.classifier import MODEL_FILES
from espnet_saliency.recipe.arms import Arm
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import Options, RecipeOptions
from espnet_saliency.recipe.pretrained import Pretrained
from espnet_saliency.recipe.steps import Step, digest


@dataclass
class Recipe:
    """What the stage functions share."""

    given: Options
    layout: Layout
    arms: tuple[Arm, ...]
    steps: dict[tuple[int, str], Step] = field(default_factory=dict)
    """(stage, name) -> step, of the stages defined so far."""

    @property
    def options(self) -> RecipeOptions:
        """The options of every recipe."""
        return self.given.recipe

    def add(self, step: Step) -> Step:
        """Define a step."""
        self.steps[step.stage, step.name] = step
        return step

    def step(self, stage: int, name: str) -> Step:
        """A step that an earlier stage has defined."""
        return self.steps[stage, name]

    def needs(self, stage: int, names: Iterable[str]) -> tuple[Step, ...]:
        """Several steps of an earlier stage."""
        return tuple(self.steps[stage, name] for name in names)


def classifier_digests(folder: Path) -> dict[str, str | None]:
    """Digests of what a classifier trained elsewhere is made of: its configuration and its weights."""
    # The first model file that is there is the one that is loaded.
    weights = [name for name in MODEL_FILES if (folder / name).exists()][:1]
    return {name: digest_if_there(folder / name) for name in ("config.yaml", *weights)}


def pretrained_digests(pretrained: Pretrained) -> dict[str, str]:
    """Digests of a recogniser to start from: configuration, weights, SentencePiece model, statistics."""
    return {path.name: digest(path) for path in pretrained.files}


def digest_if_there(path: Path) -> str | None:
    """sha256 of a file, None where there is no such file (a dry run)."""
    return digest(path) if path.is_file() else None
