"""The test sets under other conditions: what they are called, and the steps of stage 3 that make them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from espnet_saliency.corpora.splits import UNSEEN
from espnet_saliency.datadir.conditions import Condition, mix_condition, parse_condition
from espnet_saliency.datadir.noise import noise_files
from espnet_saliency.datadir.rooms import room_files
from espnet_saliency.errors import UserError
from espnet_saliency.progress import say
from espnet_saliency.recipe.steps import Step

if TYPE_CHECKING:
    # Both import this module: the options to check the conditions, the layout to name the sets.
    from espnet_saliency.recipe.options import RecipeOptions
    from espnet_saliency.recipe.recipe import Recipe

CLEAN = "clean"


@dataclass(frozen=True)
class DecodedSet:
    """A test set as it is decoded and scored."""

    name: str
    """<set>, or <set>_<condition>."""
    of: str
    """The test set it is made of."""
    condition: Condition


def decoded_sets(test_sets: Sequence[str], conditions: Sequence[str]) -> tuple[DecodedSet, ...]:
    """Every test set, followed by its copies under the conditions asked for."""
    parsed = [parse_condition(name) for name in conditions]
    return tuple(
        DecodedSet(of if one.kind == CLEAN else f"{of}_{one.name}", of, one)
        for of in test_sets
        for one in sorted(parsed, key=lambda one: one.kind != CLEAN)
    )


def check_conditions(options: RecipeOptions) -> None:
    """Refuse conditions that are unknown or doubled or lack the clean one, and folders that have no say in them.

    Raises:
        UserError: naming them.
    """
    said = f"--conditions {' '.join(options.conditions)}"
    names = [parse_condition(name).name for name in options.conditions]
    if len(set(names)) < len(names):
        raise UserError(f"{said}: one is named twice")
    if CLEAN not in names:
        raise UserError(f"{said}: {CLEAN} is missing, which the others are compared with; name it too")
    kinds = {parse_condition(name).kind for name in options.conditions}
    for kind, (name, _) in _FOLDERS.items():
        folder = getattr(options, name)
        # What is in it is looked at once, by `condition_steps`.
        if folder is not None and kind not in kinds:
            example = "reverb" if kind == "reverb" else f"{kind}_10"
            raise UserError(
                f"--{name} {folder}: has no say, as {said} has no {kind}; add e.g. {example}, or leave it out"
            )


def condition_steps(recipe: Recipe) -> list[Step]:
    """One step of stage 3 for each test set and condition, after the clean set's.

    Raises:
        UserError: a set under a condition would be called as another set is; a folder of noises or
            rooms is not there, or has none.
    """
    options, layout = recipe.options, recipe.layout
    taken = (options.train_set, options.valid_set, *layout.test_sets)
    contents = {kind: _content(options, kind) for kind in _FOLDERS}
    steps = []
    for one in layout.decoded_sets:
        if one.condition.kind == CLEAN:
            continue
        if one.name in taken:
            raise UserError(
                f"--conditions {' '.join(options.conditions)}: {one.of} under {one.condition.name} would be "
                f"called {one.name}, as another set is; rename that set"
            )
        # Only what decides a condition makes it anew.
        inputs = {"condition": one.condition.name, "seed": options.seed, **contents.get(one.condition.kind, {})}
        target = layout.dump(one.name)
        talkers_of = _talkers_of(one, layout.test_sets)
        sources = [one.of, *([talkers_of] if talkers_of else [])]
        steps.append(
            recipe.add(
                Step(
                    stage=3,
                    name=one.name,
                    folder=target,
                    inputs=inputs,
                    needs=tuple(recipe.step(3, source) for source in sources),
                    outputs=(target / "wav.scp",),
                    run=partial(_mix, recipe, one, target, talkers_of),
                )
            )
        )
    return steps


_FOLDERS = {"noise": ("noise_dir", noise_files), "reverb": ("rir_dir", room_files)}
"""Kind of condition -> the option that names its folder, and what of the folder it takes."""


def _content(options: RecipeOptions, kind: str) -> dict[str, str]:
    """What a condition of this kind is made with: files that are added, taken away or changed make it anew."""
    name, files = _FOLDERS[kind]
    folder = getattr(options, name)
    if folder is None:
        return {name: "generated"}
    digest = hashlib.sha256()
    for path in files(folder):
        digest.update(f"{path}\0{path.stat().st_size}\0".encode())
    return {name: str(folder), "files": digest.hexdigest()}


def _talkers_of(one: DecodedSet, test_sets: Sequence[str]) -> str | None:
    """The set that lends its speakers to the babble of an unseen accent, which may have one alone."""
    seen = one.of.removesuffix(UNSEEN)
    return seen if one.condition.kind == "babble" and seen != one.of and seen in test_sets else None


def _mix(recipe: Recipe, one: DecodedSet, target: Path, talkers_of: str | None) -> None:
    options = recipe.options
    done = mix_condition(
        recipe.layout.dump(one.of),
        target,
        one.condition,
        seed=options.seed,
        nj=options.nj,
        noise_dir=options.noise_dir,
        rir_dir=options.rir_dir,
        talkers_of=recipe.layout.dump(talkers_of) if talkers_of else None,
    )
    if done.scaled:
        say(
            f"  {one.name}: {done.scaled} of {done.utterances} mixes made smaller as a whole, by up to "
            f"{-20 * math.log10(done.smallest):.1f} dB, to stay below full scale"
        )
    if done.silent:
        say(f"  {one.name}: {done.silent} utterances of digital silence left as they are")
    if done.unusable:
        say(
            f"  {one.name}: {len(done.unusable)} noises or rooms could not be used, others took their "
            f"place; first: {done.unusable[0]}"
        )
