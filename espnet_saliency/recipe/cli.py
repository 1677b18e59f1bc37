"""The command line of the recipes."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from typing import Sequence

from espnet_saliency import corpora
from espnet_saliency.dependencies import require_espnet
from espnet_saliency.errors import UserError
from espnet_saliency.progress import duration, say
from espnet_saliency.recipe.titles import TITLES


HELP = ("--help", "-h", "help")


def main(arguments: Sequence[str]) -> int:
    """Run the stages that `arguments` ask for.

    Returns:
        Exit status: 0; 1 where a program failed; 2 for a mistake of the user's; 130 when interrupted.
    """
    # A long run is read while it goes on, in a pipe or a log too.
    sys.stdout.reconfigure(line_buffering=True)
    # Before the libraries load: one thread a process; what gains from more sets its own number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        if any(word in HELP for word in arguments):
            print(help_text(list(arguments)))
            return 0
        return _run(list(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from espnet_saliency.recipe.options import load_options

    start = time.monotonic()
    given = load_options(arguments)
    require_espnet()
    # These need torch: a mistake in the options is told without it.
    from espnet_saliency.recipe.check_configs import check_configs
    from espnet_saliency.recipe.extra_sets import check_extra_sets
    from espnet_saliency.recipe.jobs import JobFailed
    from espnet_saliency.recipe.stages import define_stages
    from espnet_saliency.recipe.stages_data import FS
    from espnet_saliency.recipe.steps import check_order, run_stages

    options = given.recipe
    if options.leave_one_accent_out:
        from espnet_saliency.recipe.leave_one_out import leave_one_out

        return leave_one_out(arguments, given, _run)
    stages = define_stages(given)
    chosen = [stages[n] for n in range(options.stage, options.stop_stage + 1)]
    if options.dry_run:
        for stage in chosen:
            print(f"Stage {stage.number}: {stage.title}")
            for line in [stage.note] if stage.note else []:
                print(f"  {line}")
            for step in stage.steps:
                print(f"  {step.name}: {step.folder}{' (finished)' if step.finished() else ''}")
                for command in step.commands:
                    print(f"    {command}")
        return 0
    check_order(chosen, TITLES)
    if options.stop_stage >= 3:
        check_extra_sets(given, FS)
    print(f"{given.folder.parent.name}: stages {options.stage} to {options.stop_stage}, arms {' '.join(options.arms)}")
    check_configs(options, chosen)
    try:
        run_stages(chosen, say)
    except JobFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Finished in {duration(time.monotonic() - start)}")
    return 0


def help_text(arguments: list[str]) -> str:
    """The options of a recipe and of its corpus with the defaults that it has, and the stages."""
    from espnet_saliency.recipe.options import RecipeOptions, field_docs, parse, recipe_file

    others = [word for word in arguments if word not in HELP]
    corpus = parse(others).get("corpus", RecipeOptions.corpus)
    module = corpora.load(corpus)
    own = recipe_file(corpus)
    lines = [
        "./run.sh [--corpus NAME] [--stage N] [--stop_stage N] [--option value …]",
        "",
        f"Corpora: {', '.join(corpora.NAMES)}.",
        f"In brackets what holds without the option, by egs2/{corpus}/asr1/conf/recipe.yaml or the program itself.",
        "",
        "Stages:",
        *(f"  {number:2d}  {title}" for number, title in sorted(TITLES.items())),
    ]
    for title, cls in (
        ("Options", RecipeOptions),
        (f"Options of the corpus {corpus}", module.Options),
    ):
        docs = field_docs(cls)
        lines += ["", f"{title}:"]
        for field in dataclasses.fields(cls):
            default = field.default
            if default is dataclasses.MISSING:
                default = field.default_factory() if field.default_factory is not dataclasses.MISSING else ""
            default = own.get(field.name, default)
            if isinstance(default, (tuple, list)):
                default = " ".join(str(item) for item in default)
            if isinstance(default, bool):
                default = str(default).lower()  # as it is given
            shown = f" [{default}]" if default not in (None, "", ()) else ""
            lines += [f"  --{field.name}{shown}", f"      {docs.get(field.name, '')}"]
    return "\n".join(lines)
