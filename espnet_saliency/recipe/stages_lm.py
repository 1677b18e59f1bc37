"""Stage 6: a language model on the recogniser's tokens, by ESPnet's lm task, and its perplexity.

The counterpart of stages 6 to 8 of ESPnet's asr.sh; stage 12 decodes with the model by shallow
fusion, at the `lm_weight` of the decoding configuration.
"""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from contextlib import ExitStack
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Iterator

from espnet_saliency.datadir.kaldi import iter_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import say
from espnet_saliency.recipe.extra_sets import needs_of
from espnet_saliency.recipe.jobs import Job, TrainingWatch, mend_checkpoint, run_job, run_jobs
from espnet_saliency.recipe.recipe import Recipe, digest_if_there
from espnet_saliency.recipe.stages_asr import machines, text_arguments, write_text_shapes
from espnet_saliency.recipe.steps import Stage, Step
from espnet_saliency.recipe.titles import TITLES
from espnet_saliency.yaml_file import read_yaml

_SPEED_COPY = re.compile(r"^sp\d+(\.\d+)?-")  # as stage 2 names them

_SPECIAL = re.compile(r"<.*>")  # <blank>, <unk>, <space>, <sos/eos>


def stage_6(recipe: Recipe) -> Stage:
    """Statistics, training and perplexity of the language model, where one is asked for."""
    if not recipe.options.use_lm:
        return Stage(6, TITLES[6], note="no language model asked for (--use_lm true)")
    steps = [_statistics_step(recipe), _training_step(recipe)]
    steps += [_perplexity_step(recipe, name) for name in (recipe.options.valid_set, *recipe.layout.test_sets)]
    return Stage(6, TITLES[6], tuple(steps))


def _statistics_step(recipe: Recipe) -> Step:
    """The text to train on, and the lengths of its sentences in tokens."""
    layout, options = recipe.layout, recipe.options
    return recipe.add(
        Step(
            stage=6,
            name="statistics",
            folder=layout.lm_stats,
            owns_folder=True,
            inputs={"lm_train_text": digest_if_there(options.lm_train_text) if options.lm_train_text else None},
            needs=(
                *needs_of(recipe, 4, layout.joined_train_set),
                recipe.step(4, options.valid_set),
                recipe.step(5, "tokens"),
            ),
            outputs=tuple(_shape_file(recipe, mode) for mode in ("train", "valid")),
            commands=tuple(job.command for job in _stats_jobs(recipe)),
            run=partial(_collect_stats, recipe),
        )
    )


def _shape_file(recipe: Recipe, mode: str) -> Path:
    return recipe.layout.lm_stats / mode / f"text_shape.{recipe.options.token_type}"


def _data_arguments(recipe: Recipe) -> tuple[str, ...]:
    layout = recipe.layout
    return (
        "--train_data_path_and_name_and_type", f"{layout.lm_stats / 'lm_train.txt'},text,text",
        "--valid_data_path_and_name_and_type", f"{layout.dump(recipe.options.valid_set) / 'text'},text,text",
    )  # fmt: skip


def _stats_jobs(recipe: Recipe) -> list[Job]:
    logs = recipe.layout.lm_stats / "logdir"
    # Without --config: lengths in tokens are the same for every model, so another one needs no new statistics.
    return [
        Job(
            "espnet2.bin.lm_train",
            (
                "--collect_stats", "true",
                "--num_workers", "0",
                *text_arguments(recipe),
                "--output_dir", str(logs / f"stats.{n}"),
                *_data_arguments(recipe),
                "--train_shape_file", str(logs / f"train.{n}.scp"),
                "--valid_shape_file", str(logs / f"valid.{n}.scp"),
            ),
            log=logs / f"stats.{n}.log",
        )
        for n in range(1, recipe.options.nj + 1)
    ]  # fmt: skip


def _collect_stats(recipe: Recipe) -> None:
    layout, options = recipe.layout, recipe.options
    folder = layout.lm_stats
    logs = folder / "logdir"
    text = folder / "lm_train.txt"
    count = write_training_text(layout.dump(layout.joined_train_set) / "text", options.lm_train_text, text)
    say(f"  {count} sentences to train on: {text}")
    if options.lm_train_text:
        _warn_of_unknown(recipe, text)
    files = {"train": text, "valid": layout.dump(options.valid_set) / "text"}
    shards = min(options.nj, *(sum(1 for _ in iter_table(path)) for path in files.values()))
    for mode, path in files.items():
        with ExitStack() as stack:
            names = [logs / f"{mode}.{n + 1}.scp" for n in range(shards)]
            parts = cycle([stack.enter_context(atomic_file(name)) for name in names])
            for (utt, sentence), part in zip(iter_table(path), parts):
                part.write(f"{utt} {sentence}\n")
    run_jobs(_stats_jobs(recipe)[:shards], shards)
    aggregate = ["--output_dir", str(folder)]
    for n in range(1, shards + 1):
        aggregate += ["--input_dir", str(logs / f"stats.{n}")]
    run_job(Job("espnet2.bin.aggregate_stats_dirs", tuple(aggregate), logs / "aggregate.log"))
    write_text_shapes(recipe, folder)


def write_training_text(text: Path, extra: Path | None, target: Path) -> int:
    """Write the sentences to train on, each with an id, as ESPnet reads them; return their number.

    Args:
        text: Kaldi text of the training set; of an utterance's copies at other speeds one is taken.
        extra: more sentences, one a line without an id, UTF-8 or gzip of that; lines of blanks are
            left out.
        target: the file to write.

    Raises:
        UserError: a file is missing or not UTF-8; `extra` has no sentence.
    """
    count = 0
    seen: set[str] = set()
    with atomic_file(target) as out:
        for utterance, sentence in iter_table(text):
            original = _SPEED_COPY.sub("", utterance)
            if original not in seen:
                seen.add(original)
                out.write(f"{original} {sentence}\n")
                count += 1
        of_set = count
        for number, sentence in _sentences(extra) if extra else ():
            # A slash is in no utterance's id.
            out.write(f"lm_train_text/{number:09d} {sentence}\n")
            count += 1
    if extra and count == of_set:
        raise UserError(f"--lm_train_text {extra}: no sentence in it; give text with one sentence a line")
    return count


def _sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, sentence) of the lines that hold one."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                sentence = " ".join(line.decode("utf-8-sig").split())
                if sentence:
                    yield number, sentence
    except UnicodeDecodeError as error:
        raise UserError(
            f"--lm_train_text {path}: line {number} is not UTF-8 ({error.reason}); convert the file to UTF-8"
        ) from error
    except (OSError, EOFError) as error:
        raise UserError(f"--lm_train_text {path}: cannot be read after line {number}: {error}") from error


def _warn_of_unknown(recipe: Recipe, text: Path) -> None:
    """Say which characters (words, where these are the tokens) of the text the token list lacks."""
    options, layout = recipe.options, recipe.layout
    tokens = [t for t in layout.token_list.read_text(encoding="utf-8").splitlines() if not _SPECIAL.fullmatch(t)]
    words = options.token_type == "word"
    known = set(tokens) if words else {*"".join(tokens), " "}
    unknown: Counter[str] = Counter()
    lines = total = 0
    for _, sentence in iter_table(text):
        strange = set(sentence.split() if words else sentence) - known
        unknown.update(strange)
        lines += bool(strange)
        total += 1
    if lines:
        most = " ".join(item for item, _ in sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:10])
        what = "words" if words else "characters"
        say(
            f"  WARNING: {lines} of {total} sentences have {what} that become <unk>, most of all {most}: "
            "write --lm_train_text as the training set's text is written"
        )


def _training_step(recipe: Recipe) -> Step:
    layout, options = recipe.layout, recipe.options
    folder = layout.lm_exp
    config = read_yaml(options.lm_config)
    job = _train_job(recipe)
    return recipe.add(
        Step(
            stage=6,
            name="lm",
            folder=folder,
            owns_folder=True,
            inputs={"config": config, "seed": options.seed, "ngpu": options.ngpu, "num_nodes": options.num_nodes},
            needs=(recipe.step(6, "statistics"),),
            outputs=(folder / "config.yaml", folder / options.inference_lm),
            commands=(job.command,),
            run=partial(_train, job, folder, config),
        )
    )


def _train_job(recipe: Recipe) -> Job:
    layout, options = recipe.layout, recipe.options
    distributed, prefix = machines(options)
    return Job(
        "espnet2.bin.lm_train",
        (
            "--config", str(options.lm_config),
            *text_arguments(recipe),
            "--resume", "true",
            "--seed", str(options.seed),
            "--ngpu", str(options.ngpu),
            "--output_dir", str(layout.lm_exp),
            *_data_arguments(recipe),
            "--train_shape_file", str(_shape_file(recipe, "train")),
            "--valid_shape_file", str(_shape_file(recipe, "valid")),
            *distributed,
        ),
        log=layout.lm_exp / "train.log",
        threads=min(options.nj, os.cpu_count() or 1),
        spawn=options.ngpu > 1,
        prefix=prefix,
    )  # fmt: skip


def _train(job: Job, folder: Path, config: dict) -> None:
    mend_checkpoint(folder)
    say(f"  language model: training, log {job.log}")
    run_job(job, TrainingWatch("language model", job.log, folder, int(config.get("max_epoch", 40))))


def _perplexity_step(recipe: Recipe, name: str) -> Step:
    layout, options = recipe.layout, recipe.options
    folder = layout.lm_exp / f"perplexity_{name}"
    made = (recipe.step(4, name),) if name == options.valid_set else needs_of(recipe, 3, name)
    job = Job(
        "espnet2.bin.lm_calc_perplexity",
        (
            "--ngpu", str(min(options.ngpu, 1)),
            "--batch_size", "16",
            "--data_path_and_name_and_type", f"{folder / 'text'},text,text",
            "--train_config", str(layout.lm_exp / "config.yaml"),
            "--model_file", str(layout.lm_exp / options.inference_lm),
            "--output_dir", str(folder),
        ),
        log=folder / "lm_calc_perplexity.log",
    )  # fmt: skip
    return recipe.add(
        Step(
            stage=6,
            name=f"perplexity-{name}",
            folder=folder,
            owns_folder=True,
            inputs={"model": options.inference_lm},
            needs=(recipe.step(6, "lm"), *made),
            outputs=(folder / "ppl",),
            commands=(job.command,),
            run=partial(_calculate_perplexity, recipe, name, job),
        )
    )


def _calculate_perplexity(recipe: Recipe, name: str, job: Job) -> None:
    folder = recipe.layout.lm_exp / f"perplexity_{name}"
    kept, empty = write_sentences(recipe.layout.dump(name) / "text", folder / "text")
    if empty:
        say(f"  {name}: {empty} of {kept + empty} utterances have no text, and no part in the perplexity")
    if kept:
        run_job(job)
    else:
        (folder / "ppl").write_text("nan\n")
    say(f"  {name}: perplexity {float((folder / 'ppl').read_text()):.2f} a token ({recipe.layout.tokens})")


def write_sentences(text: Path, target: Path) -> tuple[int, int]:
    """Write the utterances of a Kaldi text that have words; return how many have and how many have not.

    ESPnet's reader fails at a line without words, and a test set, which is never filtered, may hold some.
    """
    kept = empty = 0
    with atomic_file(target) as out:
        for utterance, sentence in iter_table(text):
            if sentence:
                out.write(f"{utterance} {sentence}\n")
            kept += bool(sentence)
            empty += not sentence
    return kept, empty
