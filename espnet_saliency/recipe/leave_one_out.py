"""Every accent of the training set left out in turn: one run of the recipe for each, and one table of all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

from espnet_saliency.corpora.splits import UNSEEN, is_test
from espnet_saliency.datadir.kaldi import UNKNOWN, read_table
from espnet_saliency.errors import UserError
from espnet_saliency.progress import say
from espnet_saliency.recipe.arms import Arm, load_arms
from espnet_saliency.recipe.extra_sets import ExtraSet, count_accents
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import Options, load_options
from espnet_saliency.recipe.stages import define_stages
from espnet_saliency.recipe.steps import Stage
from espnet_saliency.scoring.comparison import default_baseline
from espnet_saliency.scoring.error_rates import METRICS, Scores
from espnet_saliency.scoring.score_folder import read_scores
from espnet_saliency.scoring.unseen import HeldOut, unseen_table, write_unseen
from espnet_saliency.yaml_file import read_yaml

FOLDER = "leave_one_out"
"""In --expdir: a folder for each accent with data, dump and exp of its run, and the table of all."""

_OPTION = "--leave_one_accent_out true"
_SCORING = 13


@dataclass(frozen=True)
class _Run:
    """One run of the recipe, from its command line."""

    given: Options
    layout: Layout
    arms: tuple[Arm, ...]
    stages: Mapping[int, Stage]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> _Run:
        given = load_options(list(arguments))
        layout = Layout(given.recipe)
        return cls(given, layout, load_arms(layout, given.folder), define_stages(given))

    def scored(self, sets: Sequence[str]) -> bool:
        """Whether all arms were scored on these sets, with the options of now."""
        wanted = {f"{arm.name}-{name}" for arm in self.arms for name in sets}
        return all(step.finished() for step in self.stages[_SCORING].steps if step.name in wanted)

    def scores(self, augmentation: str, name: str, metric: str) -> list[Scores]:
        """Scores of one set under one augmentation, one a seed."""
        folders = [self.layout.decode(a.name, name) for a in self.arms if a.augmentation == augmentation]
        return [read_scores(folder / f"score_{metric}") for folder in folders]


def leave_one_out(arguments: Sequence[str], given: Options, run: Callable[[list[str]], int]) -> int:
    """Run the recipe once for each accent, and collect the results where all runs are scored.

    Stage 1 is run in the recipe's own folders first, where it was not: it tells the accents. Each
    accent's run has folders of its own and skips what it has finished, so that an interrupted series
    goes on where it was.

    Args:
        arguments: the command line.
        given: the same, read.
        run: runs the recipe with a command line; returns its exit status.

    Returns:
        0, or the exit status of the first run that failed.

    Raises:
        UserError: the corpus cannot hold accents out, or has too few.
    """
    options = given.recipe
    _check(given)
    plain = [*_without(arguments, "leave_one_accent_out"), "--leave_one_accent_out", "false"]
    first = [*_without(plain, "stage", "stop_stage", "dry_run"), "--stop_stage", "1"]
    if not _Run.of(first).stages[1].steps[0].finished():
        if options.dry_run:
            say("The accents are not known before stage 1: run it once without --dry_run")
            return 0
        say("Leave one accent out: which accents there are")
        if status := run(first):
            return status
    tested = _accents(given)
    for number, accent in enumerate(tested, 1):
        say(f"Leave one accent out: accent {number} of {len(tested)}, {accent}")
        if status := run(_turn(accent, tested[accent], plain, given)):
            return status
    if options.dry_run:
        return 0
    if options.stop_stage < _SCORING:
        say(f"Leave one accent out: results are collected once stage {_SCORING} is done")
        return 0
    say(f"Leave one accent out: {_collect(tested, plain, given)}")
    return 0


def _check(given: Options) -> None:
    corpus = given.recipe.corpus
    if not hasattr(given.corpus, "unseen_accents"):
        raise UserError(f"{_OPTION}: {corpus} has no accents to leave out (no option --unseen_accents)")
    if "unseen_accents" in given.typed:
        raise UserError(
            f"{_OPTION} leaves each accent out in turn, --unseen_accents "
            f"{' '.join(given.corpus.unseen_accents)} the same ones always: give one of the two options"
        )


def _without(arguments: Sequence[str], *names: str) -> list[str]:
    """The command line without some options and their values."""
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        words = [rest.pop(0)]
        if "=" not in words[0] and rest and not rest[0].startswith("--"):
            words.append(rest.pop(0))
        if words[0].removeprefix("--").partition("=")[0].replace("-", "_") not in names:
            kept += words
    return kept


def _accents(given: Options) -> dict[str, list[str]]:
    """Accent of the training set -> test sets that it is in; accents that no test set has are left alone."""
    options, layout = given.recipe, Layout(given.recipe)

    def labels(name: str) -> set[str]:
        return _labels(layout, name) - {UNKNOWN}

    trained = labels(options.train_set)
    bases = {name: labels(name) for name in options.test_sets if is_test(name) and not name.endswith(UNSEEN)}
    tested = {accent: [name for name in bases if accent in bases[name]] for accent in sorted(trained)}
    learns = options.has_accents and not options.classifier and options.stop_stage >= 7
    needed = 3 if learns else 2
    if len(trained) < needed:
        why = ", for the classifier to have two that are left (or give --classifier EXP)" if learns else ""
        raise UserError(
            f"{_OPTION}: {layout.data(options.train_set)} has {len(trained)} accents "
            f"({', '.join(sorted(trained)) or 'none'}), and {needed} are needed{why}"
        )
    for accent in [accent for accent in tested if not tested[accent]]:
        say(f"  {accent} is not left out: no test set has an utterance of it")
        del tested[accent]
    if not tested:
        raise UserError(f"{_OPTION}: none of the accents {', '.join(sorted(trained))} is in {', '.join(bases)}")
    _check_what_is_left(given, layout, set(tested))
    if options.classifier:
        heard = read_yaml(options.classifier / "config.yaml").get("token_list") or []
        if known := sorted(tested.keys() & {str(name) for name in heard}):
            say(
                f"  note: --classifier {options.classifier} was trained with {', '.join(known)}: the recognisers hear "
                "nothing of the accent that is left out, the maps that mask them are of a classifier that has"
            )
    return tested


def _labels(layout: Layout, name: str) -> set[str]:
    """Accents of a set, `unknown` among them where there are such utterances."""
    path = layout.data(name) / "utt2accent"
    return set(read_table(path).values()) if path.exists() else set()


def _check_what_is_left(given: Options, layout: Layout, tested: set[str]) -> None:
    """Refuse at the start what would stop the run of some accent, after those of others."""
    options = given.recipe
    validated = _labels(layout, options.valid_set)
    if len(validated) == 1 and validated <= tested:
        raise UserError(
            f"{_OPTION}: all of {layout.data(options.valid_set)} is {validated.pop()}, so nothing would be left of it without "
            "this accent: give it speakers of another one"
        )
    for extra in options.extra_train_sets:
        folder = ExtraSet.find("extra_train_sets", extra).folder
        for accent in sorted(tested & set(count_accents(folder))):
            raise UserError(
                f"{_OPTION}: --extra_train_sets {extra} has the accent {accent}, which would be trained on while it "
                "is left out: leave the set out"
            )


def _turn(accent: str, bases: Sequence[str], plain: Sequence[str], given: Options) -> list[str]:
    """The command line that leaves one accent out."""
    options = given.recipe
    folder = options.expdir / FOLDER / re.sub(r"[^\w.-]", lambda found: f"%{ord(found[0]):02x}", accent)
    # Of a test set of this accent alone nothing is left beside the unseen one.
    whole = {base for base in bases if _labels(Layout(options), base) == {accent}}
    kept = [name for name in options.test_sets if name not in whole]
    sets = dict.fromkeys([*kept, *(base + UNSEEN for base in bases)])
    changes = {
        # Accents that the recipe holds out anyway stay so: a run differs from the ordinary one by its accent.
        "unseen_accents": " ".join([*given.corpus.unseen_accents, accent]),
        "test_sets": " ".join(sets),
        **{f"{name}dir": str(folder / name) for name in ("data", "dump", "exp")},
    }
    if options.corpus == "mini_accent":
        # It is generated, and another one with other accents unseen.
        changes["corpus_dir"] = str(folder / "corpus")
    return [*_without(plain, *changes), *(word for name, value in changes.items() for word in (f"--{name}", value))]


def _collect(tested: Mapping[str, Sequence[str]], plain: Sequence[str], given: Options) -> Path:
    """Write the table of all runs; its path."""
    options = given.recipe
    ordinary = _Run.of(plain)
    runs = {accent: _Run.of(_turn(accent, bases, plain, given)) for accent, bases in tested.items()}
    names = list(dict.fromkeys(arm.augmentation for arm in ordinary.arms))
    baseline = default_baseline(names)
    bases = list(dict.fromkeys(base for found in tested.values() for base in found))
    whole = ordinary.scored(bases)
    if whole:
        seen_from = "the ordinary run, which trained with all accents"
    else:
        seen_from = "mean over the runs that left another accent out"
        if len(runs) < 2:
            raise UserError(
                f"{_OPTION}: {next(iter(runs))} alone could be left out, and no scored run has trained with it: "
                "run the recipe without this option, then with it again"
            )
    tables: dict[str, dict] = {}
    for base in bases:
        here = {accent: run for accent, run in runs.items() if base in tested[accent]}
        for metric in METRICS:
            held = []
            for accent, run in here.items():
                others = [other for name, other in runs.items() if name != accent]
                with_it = [ordinary] if whole else others
                for name in names:
                    seen = [scores for other in with_it for scores in other.scores(name, base, metric)]
                    held.append(HeldOut(accent, name, run.scores(name, base + UNSEEN, metric), seen))
            table = unseen_table(held, baseline, options.bootstrap_draws, options.seed)
            tables.setdefault(base, {})[metric] = table
    return write_unseen(options.expdir / FOLDER, tables, seen_from)
