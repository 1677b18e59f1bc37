"""Stages 10 to 12 and 15: the recogniser, by ESPnet's own programs."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Sequence

import yaml

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.files import atomic_dir, atomic_file
from espnet_saliency.progress import say
from espnet_saliency.recipe import probe
from espnet_saliency.recipe.arms import Arm
from espnet_saliency.recipe.decoding import (
    Decoding,
    decode,
    decoding_inputs,
    decoding_jobs,
    lm_arguments,
    lm_inputs,
    lm_steps,
)
from espnet_saliency.recipe.extra_sets import needs_of
from espnet_saliency.recipe.jobs import (
    Job,
    TrainingWatch,
    call_in_fork,
    mend_checkpoint,
    run_job,
    run_jobs,
)
from espnet_saliency.recipe.maps import map_needs, prepare_streams, stream_arguments
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.recipe.pretrained_fit import check_fit
from espnet_saliency.recipe.recipe import Recipe, classifier_digests
from espnet_saliency.recipe.steps import Stage, Step
from espnet_saliency.recipe.titles import TITLES
from espnet_saliency.yaml_file import read_yaml


def stage_10(recipe: Recipe) -> Stage:
    """Shapes of the data and mean and variance of the features, which all arms share."""
    layout, options = recipe.layout, recipe.options
    base = {k: v for k, v in recipe.arms[0].config.items() if not k.startswith("specaug")}
    step = recipe.add(
        Step(
            stage=10,
            name="statistics",
            folder=layout.asr_stats,
            owns_folder=True,
            inputs={"frontend": base.get("frontend", "default"), "frontend_conf": base.get("frontend_conf")},
            # The pretrained model's digests are among the inputs of "tokens".
            needs=(
                *needs_of(recipe, 4, layout.joined_train_set),
                recipe.step(4, options.valid_set),
                recipe.step(5, "tokens"),
            ),
            outputs=(layout.asr_stats / "train" / "feats_stats.npz",),
            commands=tuple(job.command for job in _stats_jobs(recipe, base)),
            run=partial(_collect_stats, recipe, base),
        )
    )
    return Stage(10, TITLES[10], (step,))


def _stats_jobs(recipe: Recipe, base: dict) -> list[Job]:
    layout, options = recipe.layout, recipe.options
    logs = layout.asr_stats / "logdir"
    return [
        Job(
            "espnet2.bin.asr_train",
            (
                "--collect_stats", "true",
                "--config", str(logs / "config.yaml"),
                *text_arguments(recipe),
                "--output_dir", str(logs / f"stats.{n}"),
                *_data_arguments(recipe, "train", layout.joined_train_set),
                *_data_arguments(recipe, "valid", options.valid_set),
                "--train_shape_file", str(logs / f"train.{n}.scp"),
                "--valid_shape_file", str(logs / f"valid.{n}.scp"),
            ),
            log=logs / f"stats.{n}.log",
        )
        for n in range(1, options.nj + 1)
    ]  # fmt: skip


def _collect_stats(recipe: Recipe, base: dict) -> None:
    layout, options = recipe.layout, recipe.options
    folder = layout.asr_stats
    logs = folder / "logdir"
    total = 0
    for mode, name in (("train", layout.joined_train_set), ("valid", options.valid_set)):
        rows = list(read_table(layout.dump(name) / "wav.scp").items())
        total += len(rows)
        for n in range(options.nj):
            with atomic_file(logs / f"{mode}.{n + 1}.scp") as part:
                part.writelines(f"{utt} {path}\n" for utt, path in rows[n :: options.nj])
    # Small batches of one size serve statistics; what the configuration says of batches is for training.
    stats_config = {k: v for k, v in base.items() if not k.startswith(("batch", "valid_batch", "scheduler"))}
    _write_config(logs / "config.yaml", {**stats_config, "num_att_plot": 0})
    say(f"  {total} utterances, log {logs}/stats.*.log")
    run_jobs(_stats_jobs(recipe, base), options.nj)
    aggregate = ["--output_dir", str(folder)]
    for n in range(1, options.nj + 1):
        aggregate += ["--input_dir", str(logs / f"stats.{n}")]
    run_job(Job("espnet2.bin.aggregate_stats_dirs", tuple(aggregate), logs / "aggregate.log"))
    pretrained = recipe.given.pretrained
    if pretrained and pretrained.stats:
        # The weights expect the features as they were normalised; of this corpus the shapes alone are taken.
        pretrained.write_stats(folder / "train" / "feats_stats.npz")
        say(f"  mean and variance of the features are the pretrained model's: {pretrained.stats}")
    write_text_shapes(recipe, folder)


def write_text_shapes(recipe: Recipe, folder: Path) -> None:
    """Add the size of the vocabulary to the text shapes that statistics have left in `folder`."""
    vocabulary = len(recipe.layout.token_list.read_text(encoding="utf-8").splitlines())
    for mode in ("train", "valid"):
        # ESPnet's batch sampler counts the vocabulary as the second dimension of a text.
        shapes = read_table(folder / mode / "text_shape")
        with atomic_file(folder / mode / f"text_shape.{recipe.options.token_type}") as handle:
            handle.writelines(f"{utt} {length},{vocabulary}\n" for utt, length in shapes.items())


def stage_11(recipe: Recipe) -> Stage:
    """One training an arm; arms differ in their augmentation alone."""
    layout, options = recipe.layout, recipe.options
    steps = []
    for arm in recipe.arms:
        folder = layout.asr_exp(arm.name)
        needs = [recipe.step(10, "statistics"), *map_needs(recipe, arm)]
        inputs = {"config": arm.config, "seed": arm.seed, "ngpu": options.ngpu, "num_nodes": options.num_nodes}
        if arm.needs_classifier and options.classifier:
            inputs["classifier"] = classifier_digests(options.classifier)
        elif arm.needs_classifier:
            needs.append(recipe.step(7, "classifier"))
        steps.append(
            recipe.add(
                Step(
                    stage=11,
                    name=arm.name,
                    folder=folder,
                    owns_folder=True,
                    inputs=inputs,
                    needs=tuple(needs),
                    outputs=(folder / "config.yaml", folder / options.inference_asr_model),
                    commands=(_train_job(recipe, arm).command,),
                    run=partial(_train, recipe, arm),
                )
            )
        )
    # Small models gain more from one core each than from all cores in turn; a GPU takes one at a time.
    return Stage(11, TITLES[11], tuple(steps), parallel=options.nj if options.ngpu == 0 else 1)


def _train_job(recipe: Recipe, arm: Arm) -> Job:
    layout, options = recipe.layout, recipe.options
    folder, stats = layout.asr_exp(arm.name), layout.asr_stats
    text_shape = f"text_shape.{options.token_type}"
    arguments = [
        "--config", str(folder / "train.yaml"),
        *text_arguments(recipe),
        "--resume", "true",
        "--seed", str(arm.seed),
        "--ngpu", str(options.ngpu),
        "--output_dir", str(folder),
        *_data_arguments(recipe, "train", layout.joined_train_set),
        *stream_arguments(recipe, arm),
        *_data_arguments(recipe, "valid", options.valid_set),
        "--train_shape_file", str(stats / "train" / "speech_shape"),
        "--train_shape_file", str(stats / "train" / text_shape),
        "--valid_shape_file", str(stats / "valid" / "speech_shape"),
        "--valid_shape_file", str(stats / "valid" / text_shape),
    ]  # fmt: skip
    if arm.config.get("normalize", "global_mvn") == "global_mvn":
        arguments += ["--normalize", "global_mvn"]
        arguments += ["--normalize_conf", f"stats_file={stats / 'train' / 'feats_stats.npz'}"]
    if options.pretrained_model:
        weights = recipe.given.pretrained.weights if recipe.given.pretrained else options.pretrained_model
        arguments += ["--init_param", str(weights)]
    distributed, prefix = machines(options)
    return Job(
        "espnet2.bin.asr_train",
        (*arguments, *distributed),
        log=folder / "train.log",
        spawn=options.ngpu > 1,
        prefix=prefix,
    )


def machines(options: RecipeOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments of a training on several GPUs or machines, and what starts it there."""
    if options.num_nodes > 1:
        start = ("srun", "--nodes", str(options.num_nodes), "--ntasks-per-node", "1")
        return ("--multiprocessing_distributed", "true", "--dist_launcher", "slurm"), start
    if options.ngpu > 1:
        return ("--multiprocessing_distributed", "true"), ()
    return (), ()


def _train(recipe: Recipe, arm: Arm) -> None:
    folder = recipe.layout.asr_exp(arm.name)
    if recipe.given.pretrained:
        # Seen in stage 5 already; the configuration may have changed since.
        call_in_fork(check_fit, recipe.given.pretrained, arm.config, recipe.options.asr_config)
    _write_config(folder / "train.yaml", arm.config)
    prepare_streams(recipe, arm)
    mend_checkpoint(folder)
    job = _train_job(recipe, arm)
    best = (arm.config.get("best_model_criterion") or [["valid", "acc", "max"]])[0]
    say(f"  {arm.name}: training, log {job.log}")
    watch = TrainingWatch(arm.name, job.log, folder, int(arm.config.get("max_epoch", 40)), criterion=best[1])
    run_job(job, watch)
    # Plain ESPnet cannot build our augmentation, and decoding needs none.
    _write_config(folder / "inference.yaml", {**read_yaml(folder / "config.yaml"), "specaug": None, "specaug_conf": {}})


def stage_12(recipe: Recipe) -> Stage:
    """Decoding of every test set by every arm, in `inference_nj` processes."""
    layout, options = recipe.layout, recipe.options
    steps = []
    for arm in recipe.arms:
        experiment = layout.asr_exp(arm.name)
        for name in (one.name for one in layout.decoded_sets):
            decoding = Decoding(
                label=f"{arm.name}, {name}",
                data=layout.dump(name),
                config=experiment / "inference.yaml",
                model=experiment / options.inference_asr_model,
                folder=layout.decode(arm.name, name),
            )
            steps.append(
                recipe.add(
                    Step(
                        stage=12,
                        name=f"{arm.name}-{name}",
                        folder=decoding.folder,
                        owns_folder=True,
                        inputs=decoding_inputs(options),
                        needs=(recipe.step(11, arm.name), *needs_of(recipe, 3, name), *lm_steps(recipe)),
                        outputs=(decoding.folder / "text",),
                        commands=tuple(job.command for job in decoding_jobs(recipe, decoding)),
                        run=partial(decode, recipe, decoding),
                    )
                )
            )
    return Stage(12, TITLES[12], (*steps, *probe.decode_steps(recipe)))


def stage_15(recipe: Recipe) -> Stage:
    """Each recogniser as a zip that plain ESPnet loads, without this package; the language model in it too."""
    layout, options = recipe.layout, recipe.options
    steps = []
    for arm in recipe.arms:
        experiment = layout.asr_exp(arm.name)
        archive = experiment / f"{experiment.name}.zip"
        job = _pack_job(recipe, arm, archive)
        steps.append(
            recipe.add(
                Step(
                    stage=15,
                    name=arm.name,
                    folder=experiment,
                    inputs={"model": options.inference_asr_model, **lm_inputs(options)},
                    needs=(recipe.step(11, arm.name), *lm_steps(recipe)),
                    outputs=(archive,),
                    commands=(job.command,),
                    run=partial(_pack, experiment, job),
                )
            )
        )
    return Stage(15, TITLES[15], tuple(steps))


def _pack_job(recipe: Recipe, arm: Arm, archive: Path) -> Job:
    layout, options = recipe.layout, recipe.options
    experiment = layout.asr_exp(arm.name)
    # The zip's file is called config.yaml, as people expect; its content is inference.yaml's.
    arguments = [
        "asr",
        "--asr_train_config", str(experiment / "pack" / "config.yaml"),
        "--asr_model_file", str(experiment / options.inference_asr_model),
        *lm_arguments(recipe),
        "--outpath", str(archive),
    ]  # fmt: skip
    if options.token_type == "bpe":
        arguments += ["--option", str(layout.bpe_model)]
    if arm.config.get("normalize", "global_mvn") == "global_mvn":
        arguments += ["--option", str(layout.asr_stats / "train" / "feats_stats.npz")]
    return Job("espnet2.bin.pack", tuple(arguments), log=experiment / "pack.log")


def _pack(experiment: Path, job: Job) -> None:
    with atomic_dir(experiment / "pack") as folder:
        shutil.copyfile(experiment / "inference.yaml", folder / "config.yaml")
    run_job(job)
    say(f"  {job.arguments[job.arguments.index('--outpath') + 1]}")


def text_arguments(recipe: Recipe) -> list[str]:
    """The arguments of an ESPnet task that tell it the recipe's tokens."""
    layout, options = recipe.layout, recipe.options
    arguments = ["--use_preprocessor", "true", "--token_type", options.token_type]
    if options.token_type == "bpe":
        arguments += ["--bpemodel", str(layout.bpe_model)]
    return [*arguments, "--token_list", str(layout.token_list)]


def _data_arguments(recipe: Recipe, mode: str, name: str) -> Sequence[str]:
    folder = recipe.layout.dump(name)
    option = f"--{mode}_data_path_and_name_and_type"
    return (option, f"{folder / 'wav.scp'},speech,sound", option, f"{folder / 'text'},text,text")


def _write_config(path: Path, config: dict) -> None:
    with atomic_file(path) as handle:
        yaml.safe_dump(config, handle, sort_keys=False, allow_unicode=True)
