"""Stages 7 to 9: the accent classifier, how good it is, and what its maps show."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any, Sequence

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.evaluate import evaluate, warnings
from espnet_saliency.accent.training import training_arguments, write_training_data
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import say
from espnet_saliency.recipe.jobs import (
    Job,
    TrainingWatch,
    call_in_fork,
    mend_checkpoint,
    run_job,
)
from espnet_saliency.recipe.maps import map_steps, phonetic_steps
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.recipe.recipe import Recipe, classifier_digests
from espnet_saliency.recipe.steps import Stage, Step
from espnet_saliency.recipe.titles import TITLES
from espnet_saliency.saliency.cam import METHODS
from espnet_saliency.saliency.faithfulness import faithfulness
from espnet_saliency.saliency.heldout import has_accent_of
from espnet_saliency.saliency.map_settings import MapSettings, map_name
from espnet_saliency.saliency.picture import draw_pictures
from espnet_saliency.saliency.specaug import MAPLESS
from espnet_saliency.saliency.stability import stability
from espnet_saliency.yaml_file import read_yaml


def _without(recipe: Recipe) -> str:
    """Why the stages of this file have nothing to do; "" where they have."""
    options = recipe.options
    if options.has_accents or options.classifier or any(arm.needs_classifier or arm.maps for arm in recipe.arms):
        return ""
    return f"nothing to do: {options.corpus} has no accent labels, and no arm needs a classifier"


def stage_7(recipe: Recipe) -> Stage:
    """The accent classifier, by ESPnet's cls task."""
    options, layout = recipe.options, recipe.layout
    if _without(recipe):
        return Stage(7, TITLES[7], note=_without(recipe))
    if options.classifier:
        return Stage(7, TITLES[7], note=f"the classifier is {options.classifier}")
    trainings = [_training(recipe, "classifier", layout.accent_exp, options.seed)]
    if options.stability:
        trainings.append(
            _training(recipe, "second classifier", layout.second_accent_exp, options.seed + 1)
        )
    return Stage(7, TITLES[7], tuple(trainings))


def _training(recipe: Recipe, name: str, folder: Path, seed: int) -> Step:
    """The step that trains a classifier with one seed."""
    options, layout = recipe.options, recipe.layout
    config = read_yaml(options.accent_config)
    job = _classifier_job(options, folder, seed)
    return recipe.add(
        Step(
            stage=7,
            name=name,
            folder=folder,
            owns_folder=True,
            inputs={"config": config, "seed": seed},
            needs=recipe.needs(4, [layout.joined_train_set, options.valid_set]),
            outputs=(folder / "config.yaml", folder / "valid.acc.ave.pth"),
            commands=(job.command,),
            run=partial(_train_classifier, recipe, name, folder, job, config),
        )
    )


def _classifier_job(options: RecipeOptions, folder: Path, seed: int) -> Job:
    return Job(
        "espnet2.bin.cls_train",
        (
            "--config", str(options.accent_config),
            "--use_preprocessor", "true",
            "--resume", "true",
            "--seed", str(seed),
            "--ngpu", str(min(options.ngpu, 1)),
            "--output_dir", str(folder),
            *training_arguments(folder / "data"),
        ),
        log=folder / "train.log",
        threads=_threads(options),
    )  # fmt: skip


def _train_classifier(recipe: Recipe, name: str, folder: Path, job: Job, config: dict) -> None:
    options, layout = recipe.options, recipe.layout
    data = write_training_data(
        layout.dump(layout.joined_train_set), layout.dump(options.valid_set), folder / "data"
    )
    say(f"  classes: {', '.join(data.accents)}")
    if data.left_out:
        say(f"  {len(data.left_out)} utterances without a class are left out: {folder / 'data' / 'left_out.tsv'}")
    mend_checkpoint(folder)
    say(f"  {name}: training, log {job.log}")
    watch = TrainingWatch(name, job.log, folder, int(config.get("max_epoch", 40)), criterion="acc")
    run_job(job, watch)


def stage_8(recipe: Recipe) -> Stage:
    """Accuracy and confusions of the classifier on speakers that it has not heard."""
    options, layout = recipe.options, recipe.layout
    if _without(recipe):
        return Stage(8, TITLES[8], note=_without(recipe))
    if options.classifier:
        needs: tuple[Step, ...] = ()
        inputs = {"classifier": classifier_digests(options.classifier)}
    else:
        needs, inputs = (recipe.step(7, "classifier"),), {}
    folder = layout.accent_exp / "eval" if not options.classifier else layout.saliency_exp / "eval"
    step = recipe.add(
        Step(
            stage=8,
            name="evaluation",
            folder=folder,
            inputs={**inputs, "seed": options.seed},
            needs=(*needs, *_set_steps(recipe)),
            outputs=(folder / "results.json",),
            run=partial(_evaluate, recipe, folder),
        )
    )
    return Stage(8, TITLES[8], (step,))


def _set_steps(recipe: Recipe) -> tuple[Step, ...]:
    return (recipe.step(4, recipe.options.valid_set), *recipe.needs(3, recipe.layout.test_sets))


def _evaluate(recipe: Recipe, folder: Path) -> None:
    options, layout = recipe.options, recipe.layout
    sets = {
        name: layout.dump(name)
        for name in (options.valid_set, *layout.test_sets)
        if (layout.dump(name) / "utt2accent").exists()
    }
    if not sets:
        say("  no set has accent labels: nothing to evaluate the classifier on")
    call_in_fork(
        evaluate_classifier,
        *(layout.accent_exp, sets, folder, _device(options), options.seed),
        threads=_threads(options),
    )


def evaluate_classifier(
    classifier: Path, sets: dict[str, Path], folder: Path, device: str, seed: int
) -> None:
    """Stage 8's work: figures to `folder`, a line a set to the console."""
    results = evaluate(AccentClassifier.load(classifier), sets, folder, device, seed)
    for name, figures in results["sets"].items():
        if figures["balanced_accuracy"] is not None:
            say(
                f"  {name}: accuracy {100 * figures['accuracy']:.1f} %, balanced "
                f"{100 * figures['balanced_accuracy']:.1f} % (chance {100 * figures['chance']:.1f} %), "
                f"macro F1 {100 * figures['macro_f1']:.1f} %"
            )
    for warning in warnings(results):
        say(f"  WARNING: {warning}")
    say(f"  {folder / 'RESULTS.md'}")


def stage_9(recipe: Recipe) -> Stage:
    """Do the maps show what the classifier relies on? Deletion curves, and pictures; maps to train with."""
    options, layout = recipe.options, recipe.layout
    phonetic = phonetic_steps(recipe, _device(options), _threads(options))
    if _without(recipe):
        return Stage(9, TITLES[9], tuple(phonetic), note="" if phonetic else _without(recipe))
    folder = layout.saliency_exp
    step = recipe.add(
        Step(
            stage=9,
            name="saliency",
            folder=folder,
            inputs={"seed": options.seed, **_shown_maps(recipe)},
            needs=(recipe.step(8, "evaluation"),),
            outputs=(folder / "faithfulness.json", folder / "pictures.json"),
            run=partial(_explain, recipe, folder),
        )
    )
    maps = map_steps(recipe, _device(options), _threads(options))
    return Stage(9, TITLES[9], (step, *_stability_steps(recipe), *maps, *phonetic))


def _shown_maps(recipe: Recipe) -> dict[str, Any]:
    """Method and layer of the maps that stage 9 looks at, where they are not the usual ones.

    They are those of the first arm whose masks are drawn by a classifier's map. The usual ones are no
    input of a step: a run that was finished with them stays finished.
    """
    for arm in recipe.arms:
        conf = arm.config.get("specaug_conf") or {}
        if arm.config.get("specaug") == "saliency" and conf.get("method") not in MAPLESS:
            return MapSettings.from_conf(conf, METHODS).unusual
    return {}


def _stability_steps(recipe: Recipe) -> tuple[Step, ...]:
    """Do the maps change with the classifier's seed? () without --stability."""
    options, layout = recipe.options, recipe.layout
    if not options.stability:
        return ()
    folder = layout.saliency_exp
    step = Step(
        stage=9,
        name="stability",
        folder=folder,
        inputs={"seed": options.seed, **_shown_maps(recipe)},
        needs=(
            *(recipe.step(7, name) for name in ("classifier", "second classifier")),
            *_set_steps(recipe),
        ),
        outputs=(folder / "stability.json",),
        run=partial(_compare_maps, recipe, folder),
    )
    return (recipe.add(step),)


def _compare_maps(recipe: Recipe, folder: Path) -> None:
    options, layout = recipe.options, recipe.layout
    call_in_fork(
        partial(compare_classifiers, **_shown_maps(recipe)),
        *(layout.accent_exp, layout.second_accent_exp, _unheard_sets(recipe), folder),
        *(_device(options), options.seed),
        threads=_threads(options),
    )


def compare_classifiers(
    first: Path,
    second: Path,
    sets: Sequence[Path],
    folder: Path,
    device: str,
    seed: int,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> None:
    """Agreement of two classifiers' maps on the first of `sets` with accents that they know."""
    classifiers = [AccentClassifier.load(path) for path in (first, second)]
    data = next((data for data in sets if has_accent_of(data, classifiers[0])), None)
    if data is None:
        say("  no set has accents that the classifiers know: nothing to compare their maps on")
        with atomic_file(folder / "stability.json") as handle:
            json.dump(None, handle)
        return
    agreement = stability(
        *classifiers, data, folder, device=device, seed=seed, method=method, layer=layer
    )
    correlation = agreement["correlation"]
    say(
        f"  {data.name}: the maps{_by(method, layer)} of two seeds correlate by "
        f"{0.0 if correlation is None else correlation:.2f}, their most salient fifths overlap by "
        f"{100 * agreement['overlap']:.0f} % (chance {100 * agreement['chance_overlap']:.0f} %)"
    )


def _explain(recipe: Recipe, folder: Path) -> None:
    options, layout = recipe.options, recipe.layout
    call_in_fork(
        partial(explain_classifier, **_shown_maps(recipe)),
        *(layout.accent_exp, _unheard_sets(recipe), folder, _device(options), options.seed),
        threads=_threads(options),
    )


def _unheard_sets(recipe: Recipe) -> list[Path]:
    """Sets to look at maps of. Test sets first: the classifier has not heard their speakers."""
    layout = recipe.layout
    return [layout.dump(name) for name in (*layout.test_sets, recipe.options.valid_set)]


def explain_classifier(
    path: Path,
    sets: Sequence[Path],
    folder: Path,
    device: str,
    seed: int,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> None:
    """Stage 9's work, on the first of `sets` that has accents which the classifier knows."""
    classifier = AccentClassifier.load(path)
    data = next((data for data in sets if has_accent_of(data, classifier)), None)
    curves, pictures = None, []
    if data is None:
        say("  no set has accents that the classifier knows: no faithfulness, no pictures")
    else:
        how = dict(device=device, seed=seed, method=method, layer=layer)
        curves = faithfulness(classifier, data, folder, **how)
        salient, at_random = (
            dict(zip(curves["shares"], curves["curves"][order])) for order in ("salient", "random")
        )
        say(
            f"  {data.name}: accuracy {100 * curves['untouched']:.1f} %; with 20 % hidden, the most salient"
            f"{_by(method, layer)} {100 * salient[0.2]:.1f} %, at random {100 * at_random[0.2]:.1f} %"
        )
        pictures = draw_pictures(classifier, data, folder / "pictures", **how)
    for name, content in (("faithfulness", curves), ("pictures", pictures)):
        with atomic_file(folder / f"{name}.json") as handle:
            json.dump(content, handle, indent=1, ensure_ascii=False)
    say(f"  {folder}")


def _by(method: str, layer: str | Sequence[str] | None) -> str:
    """What a line of the console adds where the maps are not the usual ones."""
    name = map_name(method, layer)
    return name and f" ({name})"


def _threads(options: RecipeOptions) -> int:
    return min(options.nj, os.cpu_count() or 1)


def _device(options: RecipeOptions) -> str:
    return "cuda" if options.ngpu else "cpu"
