"""Decoding one set by one recogniser, in `inference_nj` processes: for stage 12 and for the probe."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.files import atomic_file
from espnet_saliency.recipe.jobs import Job, count_progress, run_jobs
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.recipe.recipe import Recipe
from espnet_saliency.recipe.steps import Step
from espnet_saliency.yaml_file import read_yaml


@dataclass(frozen=True)
class Decoding:
    """What is decoded, by what, and where to."""

    label: str
    """What the console calls it, e.g. "specaug, test"."""
    data: Path
    """Formatted audio: wav.scp and utt2num_samples."""
    config: Path
    """ESPnet's configuration of the recogniser."""
    model: Path
    """Its weights."""
    folder: Path
    """Where text and logdir/ are written."""


def decoding_inputs(options: RecipeOptions) -> dict[str, Any]:
    """What of the options decides a decoding."""
    config = read_yaml(options.inference_config)
    if not options.use_lm:
        config.pop("lm_weight", None)  # the weight of nothing
    return {"config": config, "model": options.inference_asr_model, **lm_inputs(options)}


def lm_inputs(options: RecipeOptions) -> dict[str, str]:
    """What of the options names the language model; {} without one."""
    return {"lm": options.inference_lm} if options.use_lm else {}


def lm_steps(recipe: Recipe) -> tuple[Step, ...]:
    """The step that trains the language model; () without one."""
    return (recipe.step(6, "lm"),) if recipe.options.use_lm else ()


def lm_arguments(recipe: Recipe) -> tuple[str, ...]:
    """Arguments of ESPnet's programs that name the language model; () without one."""
    layout, options = recipe.layout, recipe.options
    if not options.use_lm:
        return ()
    return (
        "--lm_train_config", str(layout.lm_exp / "config.yaml"),
        "--lm_file", str(layout.lm_exp / options.inference_lm),
    )  # fmt: skip


def decoding_jobs(recipe: Recipe, decoding: Decoding) -> list[Job]:
    """The programs that decode, `inference_nj` of them."""
    options, logs = recipe.options, decoding.folder / "logdir"
    return [
        Job(
            "espnet2.bin.asr_inference",
            (
                "--config", str(options.inference_config),
                "--ngpu", str(min(options.ngpu, 1)),
                "--data_path_and_name_and_type", f"{logs / f'wav.{n}.scp'},speech,sound",
                "--asr_train_config", str(decoding.config),
                "--asr_model_file", str(decoding.model),
                *lm_arguments(recipe),
                "--output_dir", str(logs / f"output.{n}"),
            ),
            log=logs / f"asr_inference.{n}.log",
        )
        for n in range(1, options.inference_nj + 1)
    ]  # fmt: skip


def decode(recipe: Recipe, decoding: Decoding) -> None:
    """Decode, and write all hypotheses to <folder>/text."""
    folder, logs = decoding.folder, decoding.folder / "logdir"
    # Parts of an earlier attempt are not trusted: a writer that was killed leaves its last line cut off.
    shutil.rmtree(logs, ignore_errors=True)
    audio = read_table(decoding.data / "wav.scp")
    # Longest first and dealt out in turn: the processes end at about the same time.
    samples = read_table(decoding.data / "utt2num_samples")
    order = sorted(audio, key=lambda utt: (-int(samples[utt]), utt))
    jobs = decoding_jobs(recipe, decoding)[: max(1, len(order))]
    for n, _ in enumerate(jobs):
        with atomic_file(logs / f"wav.{n + 1}.scp") as part:
            part.writelines(f"{utt} {audio[utt]}\n" for utt in order[n :: len(jobs)])

    def decoded() -> int:
        return sum(_count(job.log, b"best hypo:") for job in jobs)

    progress, watch = count_progress(f"{decoding.label}: decoding", len(order), decoded)
    with progress:
        run_jobs(jobs, len(jobs), watch)
        watch()
    hypotheses: dict[str, str] = {}
    for n, _ in enumerate(jobs):
        hypotheses.update(read_table(logs / f"output.{n + 1}" / "1best_recog" / "text"))
    with atomic_file(folder / "text") as handle:
        handle.writelines(f"{utt} {hypotheses[utt].strip()}".rstrip() + "\n" for utt in sorted(hypotheses))


def _count(log: Path, mark: bytes) -> int:
    return log.read_bytes().count(mark) if log.exists() else 0
