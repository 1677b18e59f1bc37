"""--probe: the baseline decodes the validation set with parts of it hidden; does that cost words?

Steps of stages 12 to 14: one decoding of the set as it is, and one for each order (the most
salient patches, random ones, the least salient) and share; their scores; one table.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from espnet_saliency.accent.evaluate import warnings
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import say
from espnet_saliency.recipe.arms import Arm, check_features
from espnet_saliency.recipe.decoding import (
    Decoding,
    decode,
    decoding_inputs,
    decoding_jobs,
    lm_steps,
)
from espnet_saliency.recipe.recipe import Recipe, classifier_digests
from espnet_saliency.recipe.steps import Step
from espnet_saliency.scoring.comparison import ArmDecode, compare, default_baseline
from espnet_saliency.scoring.probe import ORDERS, PLAIN, Hiding, write_probe
from espnet_saliency.scoring.score_folder import score_decode
from espnet_saliency.yaml_file import read_yaml


def baseline(recipe: Recipe) -> Arm:
    """The arm that the others are compared with, in the first of its trainings."""
    name = default_baseline([arm.augmentation for arm in recipe.arms])
    return next(arm for arm in recipe.arms if arm.augmentation == name)


def decode_steps(recipe: Recipe) -> tuple[Step, ...]:
    """Steps of stage 12; () without --probe.

    Raises:
        UserError: no classifier, or a recogniser whose features it does not hear.
    """
    hidings = _hidings(recipe)
    if hidings:
        _check(recipe)
    return tuple(recipe.add(_decode_step(recipe, hiding)) for hiding in hidings)


def score_steps(recipe: Recipe) -> tuple[Step, ...]:
    """Steps of stage 13; () without --probe."""
    return tuple(
        recipe.add(
            Step(
                stage=13,
                name=_step_name(hiding),
                folder=_decoded(recipe, hiding),
                inputs={"scoring_text": recipe.options.scoring_text},
                needs=(recipe.step(12, _step_name(hiding)),),
                outputs=tuple(_decoded(recipe, hiding) / f"score_{m}" / "result.txt" for m in ("wer", "cer")),
                run=partial(_score, recipe, hiding),
            )
        )
        for hiding in _hidings(recipe)
    )


def report_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The step of stage 14; () without --probe."""
    hidings, options, folder = _hidings(recipe), recipe.options, recipe.layout.report
    if not hidings:
        return ()
    step = Step(
        stage=14,
        name="probe",
        folder=folder,
        inputs={"bootstrap_draws": options.bootstrap_draws, "seed": options.seed},
        needs=(*recipe.needs(13, map(_step_name, hidings)), recipe.step(8, "evaluation")),
        outputs=tuple(folder / f"probe.{kind}" for kind in ("json", "md", "png")),
        run=partial(_report, recipe),
    )
    return (recipe.add(step),)


def _hidings(recipe: Recipe) -> tuple[Hiding, ...]:
    options = recipe.options
    # Preparing data needs no classifier: what the probe needs is asked where it is run.
    if not options.probe or options.stop_stage < 12:
        return ()
    shares = sorted(options.probe_shares)
    return (PLAIN, *(Hiding(order, share) for share in shares for order in ORDERS))


def _check(recipe: Recipe) -> None:
    """What the probe needs, told before anything is trained."""
    options, config = recipe.options, baseline(recipe).config
    if not (options.has_accents or options.classifier):
        raise UserError(
            f"--probe true: {options.corpus} has no accent labels to train a classifier on: give one "
            f"trained on another corpus with --classifier EXP, or leave --probe out"
        )
    if config.get("frontend", "default") != "default":
        raise UserError(
            f"--probe true hides parts of the features of frontend: default, and {options.asr_config} "
            f"sets frontend: {config['frontend']}: leave --probe out"
        )
    check_features(config, recipe.layout)


def _step_name(hiding: Hiding) -> str:
    return f"probe-{hiding.order}-{hiding.share:g}" if hiding.share else f"probe-{hiding.order}"


def _folder(recipe: Recipe, hiding: Hiding) -> Path:
    return recipe.layout.probe(baseline(recipe).name) / hiding.name


def _decoded(recipe: Recipe, hiding: Hiding) -> Path:
    return _folder(recipe, hiding) / recipe.options.valid_set


def _decode_step(recipe: Recipe, hiding: Hiding) -> Step:
    options, arm, folder = recipe.options, baseline(recipe), _folder(recipe, hiding)
    needs = [recipe.step(11, arm.name), recipe.step(4, options.valid_set), *lm_steps(recipe)]
    inputs: dict[str, Any] = {**decoding_inputs(options), "order": hiding.order, "share": hiding.share}
    if hiding.share:
        inputs["seed"] = options.seed
    if hiding.needs_classifier and options.classifier:
        inputs["classifier"] = classifier_digests(options.classifier)
    elif hiding.needs_classifier:
        needs.append(recipe.step(7, "classifier"))
    experiment = recipe.layout.asr_exp(arm.name)
    decoding = Decoding(
        label=f"probe, {hiding}",
        data=recipe.layout.dump(options.valid_set),
        config=folder / "inference.yaml",
        model=experiment / options.inference_asr_model,
        folder=_decoded(recipe, hiding),
    )
    return Step(
        stage=12,
        name=_step_name(hiding),
        folder=folder,
        owns_folder=True,
        inputs=inputs,
        needs=tuple(needs),
        outputs=(decoding.folder / "text",),
        commands=tuple(job.command for job in decoding_jobs(recipe, decoding)),
        run=partial(_decode, recipe, hiding, experiment / "inference.yaml", decoding),
    )


def _decode(recipe: Recipe, hiding: Hiding, plain: Path, decoding: Decoding) -> None:
    config = read_yaml(plain)
    if hiding.share:
        hide: dict[str, Any] = {"order": hiding.order, "share": hiding.share, "seed": recipe.options.seed}
        if hiding.needs_classifier:
            hide["classifier"] = str(recipe.layout.accent_exp)
        config["frontend"] = "masked_default"
        config["frontend_conf"] = {"hide": hide, **(config.get("frontend_conf") or {})}
    with atomic_file(decoding.config) as handle:
        yaml.safe_dump(config, handle, sort_keys=False, allow_unicode=True)
    decode(recipe, decoding)


def _score(recipe: Recipe, hiding: Hiding) -> None:
    options = recipe.options
    data = recipe.layout.dump(options.valid_set)
    scores = score_decode(_decoded(recipe, hiding), data, options.scoring_text)
    say(f"  probe, {hiding}: WER {scores['wer'].rate().rate:.1f} %")


def _report(recipe: Recipe) -> None:
    options, arm, hidings = recipe.options, baseline(recipe), _hidings(recipe)
    comparison = compare(
        [
            ArmDecode(
                name=hiding.name,
                experiment=_folder(recipe, hiding).parent,
                decode=hiding.name,
                sets=(options.valid_set,),
                command=recipe.given.command,
            )
            for hiding in hidings
        ],
        baseline=PLAIN.name,
        corpus=options.corpus,
        draws=options.bootstrap_draws,
        seed=options.seed,
    )
    result = write_probe(recipe.layout.report, comparison, hidings, arm.name, _warnings(recipe))
    say(f"  {result['answer']}")
    for warning in result["warnings"]:
        say(f"  WARNING: {warning}")
    say(f"  {recipe.layout.report / 'probe.md'}")


def _warnings(recipe: Recipe) -> list[str]:
    """Whether the classifier tells the set's accents apart; where it does not, its maps hide anything."""
    path = recipe.step(8, "evaluation").folder / "results.json"
    sets = json.loads(path.read_text(encoding="utf-8"))["sets"]
    valid = recipe.options.valid_set
    return warnings({"sets": {name: figures for name, figures in sets.items() if name == valid}})
