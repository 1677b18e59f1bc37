"""Stages 13 and 14: scores, and the comparison of the arms."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from espnet_saliency.progress import say
from espnet_saliency.recipe.conditions import DecodedSet
from espnet_saliency.recipe.extra_sets import scoring_text
from espnet_saliency.recipe.options import ROOT, RecipeOptions
from espnet_saliency.recipe.probe import baseline, report_steps, score_steps
from espnet_saliency.recipe.recipe import Recipe, digest_if_there
from espnet_saliency.recipe.steps import Stage, Step
from espnet_saliency.recipe.titles import TITLES
from espnet_saliency.scoring.comparison import ArmDecode, compare, write_comparison
from espnet_saliency.scoring.conditions import has_conditions, label_conditions, write_conditions
from espnet_saliency.scoring.report import ReportInputs, write_report
from espnet_saliency.scoring.score_folder import score_decode
from espnet_saliency.scoring.sweep import Variant, write_sweep
from espnet_saliency.scoring.tables import environment, set_size, write_results


def stage_13(recipe: Recipe) -> Stage:
    """WER and CER of every arm and set, overall and by accent; RESULTS.md."""
    options, layout = recipe.options, recipe.layout
    steps = []
    for arm in recipe.arms:
        for one in layout.decoded_sets:
            folder = layout.decode(arm.name, one.name)
            steps.append(
                recipe.add(
                    Step(
                        stage=13,
                        name=f"{arm.name}-{one.name}",
                        folder=folder,
                        inputs={"scoring_text": _scoring_text(recipe, one)},
                        needs=(recipe.step(12, f"{arm.name}-{one.name}"),),
                        outputs=(folder / "score_wer" / "result.txt", folder / "score_cer" / "result.txt"),
                        run=partial(_score, recipe, arm.name, one),
                    )
                )
            )
    results = Step(
        stage=13,
        name="results",
        folder=options.expdir,
        inputs={"command": recipe.given.command},
        needs=tuple(steps),
        outputs=(options.expdir / "RESULTS.md",),
        run=partial(_write_results, recipe),
    )
    return Stage(13, TITLES[13], (*steps, recipe.add(results), *score_steps(recipe)))


def _scoring_text(recipe: Recipe, one: DecodedSet) -> str:
    """The text policy of a set: that of its own recipe, where it comes from another one."""
    extra = next((extra for extra in recipe.layout.extra_test_sets if extra.name == one.of), None)
    return scoring_text(extra, recipe.given) if extra else recipe.options.scoring_text


def _score(recipe: Recipe, arm: str, one: DecodedSet) -> None:
    layout = recipe.layout
    scores = score_decode(layout.decode(arm, one.name), layout.dump(one.name), _scoring_text(recipe, one))
    wer, cer = (scores[metric].rate() for metric in ("wer", "cer"))
    say(f"  {arm}, {one.name}: WER {wer.rate:.1f} %, CER {cer.rate:.1f} %, {wer.words} words")


def _decodes(recipe: Recipe) -> list[ArmDecode]:
    layout, options = recipe.layout, recipe.options
    return [
        ArmDecode(
            name=arm.augmentation,
            experiment=layout.asr_exp(arm.name),
            decode=layout.decode(arm.name, "x").parent.name,
            sets=tuple(one.name for one in layout.decoded_sets),
            command=recipe.given.command,
            train_seconds=_seconds(recipe.step(11, arm.name)),
            seed=arm.seed if options.seeds else None,
        )
        for arm in recipe.arms
    ]


def _seconds(step: Step) -> float | None:
    stamp = step.read_stamp()
    return stamp["seconds"] if stamp else None


def _data_dirs(recipe: Recipe) -> dict[str, Path]:
    options, layout = recipe.options, recipe.layout
    return {name: layout.dump(name) for name in (layout.joined_train_set, options.valid_set, *layout.test_sets)}


def _write_results(recipe: Recipe) -> None:
    path = recipe.options.expdir / "RESULTS.md"
    write_results(path, _decodes(recipe), _data_dirs(recipe), recipe.layout.joined_train_set, environment(ROOT))
    say(f"  {path}")


def stage_14(recipe: Recipe) -> Stage:
    """Differences between the arms with intervals and tests; the page that tells them."""
    options, layout = recipe.options, recipe.layout
    needs = [recipe.step(13, f"{a.name}-{one.name}") for a in recipe.arms for one in layout.decoded_sets]
    # The page shows the classifier and its maps too, where there are any.
    shown = ((8, "evaluation"), (9, "saliency"), (9, "stability"))
    needs += [recipe.steps[key] for key in shown if key in recipe.steps]
    probed = report_steps(recipe)
    # Files that no step of this run makes, and that the page shows where they are.
    found = {"leave_one_out": _leave_one_out(recipe)}
    if not options.stability:
        found["stability"] = layout.saliency_exp / "stability.json"
    step = recipe.add(
        Step(
            stage=14,
            name="report",
            folder=layout.report,
            inputs={
                "bootstrap_draws": options.bootstrap_draws,
                "seed": options.seed,
                "command": recipe.given.command,
                **{name: digest_if_there(path) for name, path in found.items()},
            },
            needs=(*needs, *probed),
            outputs=(layout.report / "index.html", layout.report / "comparison.json"),
            run=partial(_report, recipe),
        )
    )
    return Stage(14, TITLES[14], (*probed, step))


def _leave_one_out(recipe: Recipe) -> Path:
    """The table of a run with --leave_one_accent_out, where there was one."""
    return recipe.options.expdir / "leave_one_out" / "results.json"


def _report(recipe: Recipe) -> None:
    options, layout = recipe.options, recipe.layout
    decodes = _decodes(recipe)
    comparison = compare(
        decodes,
        baseline=baseline(recipe).augmentation,
        corpus=options.corpus,
        draws=options.bootstrap_draws,
        seed=options.seed,
    )
    label_conditions(comparison, {s.name: (s.of, s.condition.name) for s in layout.decoded_sets})
    write_comparison(layout.report / "comparison.json", comparison)
    if has_conditions(comparison):
        say(f"  the conditions: {write_conditions(layout.report, comparison)}")
    if options.sweep:
        variants = {arm.augmentation: Variant(arm.augmentation, arm.base, arm.swept) for arm in recipe.arms}
        say(f"  the sweep: {write_sweep(layout.report, comparison, list(variants.values()))}")
    # A borrowed classifier is evaluated beside this recipe's maps, not in its own folder.
    evaluated = recipe.steps.get((8, "evaluation"))
    sources = {
        "classifier": evaluated.folder / "results.json" if evaluated else None,
        "faithfulness": layout.saliency_exp / "faithfulness.json",
        "stability": layout.saliency_exp / "stability.json",
        "unseen": _leave_one_out(recipe),
        "sweep": layout.report / "sweep.json" if options.sweep else None,
        "probe": layout.report / "probe.json" if options.probe else None,
    }
    shown = {name: _read_json(path) for name, path in sources.items()}
    if _is_stale(shown["stability"], shown["faithfulness"]):
        say(f"  {sources['stability']} is of an earlier classifier: not shown (--stability true makes it anew)")
        shown["stability"] = sources["stability"] = None
    pictures = layout.saliency_exp / "pictures.json"
    page = write_report(
        layout.report,
        ReportInputs(
            comparison=comparison,
            title=f"Saliency masking on {options.corpus}",
            **shown,
            pictures=_read_json(pictures) or (),
            runs={arm["name"]: {"train_seconds": None, **arm} for arm in comparison["arms"]},
            data={name: vars(set_size(folder)) for name, folder in _data_dirs(recipe).items()},
            environment=environment(ROOT),
            command=recipe.given.command,
            seed=" ".join(map(str, options.seeds or (options.seed,))),
            language=options.lang,
            audio={name: layout.dump(name) for name in layout.test_sets},
            sources={name: path for name, path in sources.items() if path and path.exists()},
            base=options.expdir,
        ),
    )
    say(f"  the answer: {page}")


def _is_stale(stability: dict | None, faithfulness: dict | None) -> bool:
    """Whether the agreement of two classifiers' maps is not about the classifier whose maps are shown."""
    return bool(stability and faithfulness) and stability["classifiers"][0] != faithfulness["classifier"]


def _read_json(path: Path | None):
    return json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else None
