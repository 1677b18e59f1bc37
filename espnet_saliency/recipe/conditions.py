"""The test sets under other conditions: what they are called, and the steps of stage 3 that make them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from espnet_saliency.datadir.conditions import Condition, mix_condition, parse_condition
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
    """Refuse conditions that are unknown or doubled or lack the clean one, and folders that are not there.

    Raises:
        UserError: naming them.
    """
    said = f"--conditions {' '.join(options.conditions)}"
    names = [parse_condition(name).name for name in options.conditions]
    if len(set(names)) < len(names):
        raise UserError(f"{said}: one is named twice")
    if CLEAN not in names:
        raise UserError(f"{said}: {CLEAN} is missing, which the others are compared with; name it too")
    for name in ("noise_dir", "rir_dir"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{name} {folder}: no such folder; name one or leave it out")


def condition_steps(recipe: Recipe) -> list[Step]:
    """One step of stage 3 for each test set and condition, after the clean set's.

    Raises:
        UserError: a set under a condition would be called as another set is.
    """
    options, layout = recipe.options, recipe.layout
    taken = (options.train_set, options.valid_set, *layout.test_sets)
    # Only what decides a condition makes it anew.
    folders = {"noise": ("noise_dir", options.noise_dir), "reverb": ("rir_dir", options.rir_dir)}
    steps = []
    for one in layout.decoded_sets:
        if one.condition.kind == CLEAN:
            continue
        if one.name in taken:
            raise UserError(
                f"--conditions {' '.join(options.conditions)}: {one.of} under {one.condition.name} would be "
                f"called {one.name}, as another set is; rename that set"
            )
        inputs = {"condition": one.condition.name, "seed": options.seed}
        if one.condition.kind in folders:
            name, folder = folders[one.condition.kind]
            inputs[name] = str(folder or "generated")
        target = layout.dump(one.name)
        steps.append(
            recipe.add(
                Step(
                    stage=3,
                    name=one.name,
                    folder=target,
                    inputs=inputs,
                    needs=(recipe.step(3, one.of),),
                    outputs=(target / "wav.scp",),
                    run=partial(_mix, recipe, one, target),
                )
            )
        )
    return steps


def _mix(recipe: Recipe, one: DecodedSet, target: Path) -> None:
    options = recipe.options
    done = mix_condition(
        recipe.layout.dump(one.of),
        target,
        one.condition,
        seed=options.seed,
        nj=options.nj,
        noise_dir=options.noise_dir,
        rir_dir=options.rir_dir,
    )
    if done.scaled:
        say(
            f"  {one.name}: {done.scaled} of {done.utterances} mixes made smaller as a whole, "
            "to stay below full scale"
        )
    if done.silent:
        say(f"  {one.name}: {done.silent} utterances of digital silence left as they are")
    if done.unusable:
        say(
            f"  {one.name}: {len(done.unusable)} noises or rooms could not be used, others took their "
            f"place; first: {done.unusable[0]}"
        )
