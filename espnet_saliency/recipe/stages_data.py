"""Stages 1 to 5: from the corpus on disk to audio and tokens that training reads."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from espnet_saliency import corpora
from espnet_saliency.datadir.audio import format_audio
from espnet_saliency.datadir.filter import filter_data_dir
from espnet_saliency.datadir.kaldi import iter_table
from espnet_saliency.datadir.prepare import DataDirCounts, write_data_dir
from espnet_saliency.datadir.rejection import RejectionLog, check_reject_share
from espnet_saliency.datadir.speed import perturb_speed
from espnet_saliency.datadir.tokens import make_token_list
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError
from espnet_saliency.progress import duration, say
from espnet_saliency.recipe.conditions import condition_steps
from espnet_saliency.recipe.extra_sets import (
    ExtraSet,
    check_characters,
    check_fits,
    count_accents,
    join_sets,
    scoring_text,
)
from espnet_saliency.recipe.jobs import call_in_fork
from espnet_saliency.recipe.pretrained_fit import check_fit, check_settings, count_unknown, most_common, not_there
from espnet_saliency.recipe.recipe import Recipe, digest_if_there, pretrained_digests
from espnet_saliency.recipe.steps import Stage, Step
from espnet_saliency.recipe.titles import TITLES

FS = 16_000
"""Sampling rate of all formatted audio, in Hz."""


def stage_1(recipe: Recipe) -> Stage:
    """The corpus to validated data directories."""
    options, layout = recipe.options, recipe.layout
    module = corpora.load(options.corpus)
    inputs = {
        "corpus": options.corpus,
        "corpus_dir": str(options.corpus_dir),
        "corpus_options": {name: _plain(value) for name, value in asdict(recipe.given.corpus).items()},
        "seed": options.seed,
    }
    # A table that was edited is another corpus; audio is taken to be what it was.
    if options.corpus_dir and options.corpus_dir.is_dir() and hasattr(module, "tables"):
        paths = module.tables(options.corpus_dir, recipe.given.corpus)
        inputs["tables"] = {str(path): digest_if_there(path) for path in paths}
    sets = [options.train_set, options.valid_set, *options.test_sets]
    step = recipe.add(
        Step(
            stage=1,
            name="corpus",
            folder=options.datadir,
            inputs=inputs,
            outputs=tuple(layout.data(name) / "wav.scp" for name in sets),
            replaces=tuple(layout.data(name) for name in sets),
            run=partial(_prepare_corpus, recipe, sets),
        )
    )
    return Stage(1, TITLES[1], (step,))


def _plain(value):
    return list(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _prepare_corpus(recipe: Recipe, needed: list[str]) -> None:
    options, layout = recipe.options, recipe.layout
    if options.corpus_dir is None:
        raise UserError(f"--corpus_dir DIR is needed: where is the corpus {options.corpus}?")
    corpus = corpora.load(options.corpus).prepare(options.corpus_dir, recipe.given.corpus, options.seed)
    for name in needed:
        if name not in corpus.sets:
            raise UserError(
                f"{options.corpus} has no set {name}, but {', '.join(corpus.sets)}: name the sets with "
                f"--train_set, --valid_set and --test_sets"
            )
    counts: dict[str, DataDirCounts] = {}
    with RejectionLog(options.datadir / "rejected.tsv") as log:
        for name, utterances in corpus.sets.items():
            counts[name] = write_data_dir(layout.data(name), utterances, log, options.nj)
            validate_data_dir(layout.data(name))
        log.extend(corpus.rejected)
        total = log.count + sum(count.utterances for count in counts.values())
        check_reject_share(log, total, options.max_reject, f"stage 1 of {options.corpus}")
        broken = log.count
        # Left out on purpose: listed with the others, but no sign of a broken corpus.
        log.extend(corpus.excluded)
    for name, count in counts.items():
        accents = ", ".join(f"{accent} {n}" for accent, n in sorted(count.accents.items()))
        say(
            f"  {name}: {count.utterances} utterances, {count.speakers} speakers, "
            f"{duration(count.seconds)}{'; ' + accents if accents else ''}"
        )
    for note in corpus.notes:
        say(f"  note: {note}")
    if broken or corpus.excluded:
        say(
            f"  {broken} rejected, {len(corpus.excluded)} left out on purpose, each with its reason "
            f"in {options.datadir / 'rejected.tsv'}"
        )


def stage_2(recipe: Recipe) -> Stage:
    """Copies of the training set at other speeds."""
    options, layout = recipe.options, recipe.layout
    if not options.speed_perturb_factors:
        return Stage(2, TITLES[2], note="no --speed_perturb_factors asked for")
    source, target = layout.data(options.train_set), layout.data(layout.train_set)
    step = recipe.add(
        Step(
            stage=2,
            name=layout.train_set,
            folder=target,
            inputs={"speed_perturb_factors": list(options.speed_perturb_factors)},
            needs=(recipe.step(1, "corpus"),),
            outputs=(target / "wav.scp",),
            run=partial(perturb_speed, source, target, options.speed_perturb_factors),
        )
    )
    return Stage(2, TITLES[2], (step,))


def stage_3(recipe: Recipe) -> Stage:
    """One mono FLAC file an utterance; training and validation sets into dump/raw/org, to be filtered."""
    options, layout = recipe.options, recipe.layout
    steps = []
    for name in layout.formatted_sets:
        target = _formatted(recipe, name)
        before = (2, name) if (2, name) in recipe.steps else (1, "corpus")
        steps.append(
            recipe.add(
                Step(
                    stage=3,
                    name=name,
                    folder=target,
                    inputs={"fs": FS},
                    needs=(recipe.step(*before),),
                    outputs=(target / "wav.scp",),
                    run=partial(_format, recipe, name, target),
                )
            )
        )
    steps += [_extra_test_step(recipe, extra) for extra in layout.extra_test_sets]
    return Stage(3, TITLES[3], (*steps, *condition_steps(recipe)))


def _extra_test_step(recipe: Recipe, extra: ExtraSet) -> Step:
    """The tables of another recipe's set, to be tested on."""
    target = recipe.layout.dump(extra.name)
    return recipe.add(
        Step(
            stage=3,
            name=extra.name,
            folder=target,
            inputs={"fs": FS, **extra.inputs()},
            outputs=(target / "wav.scp",),
            run=partial(_take_test_set, recipe, extra, target),
        )
    )


def _take_test_set(recipe: Recipe, extra: ExtraSet, target: Path) -> None:
    check_fits(extra, recipe.given, FS)
    count = join_sets({extra.name: extra.folder}, target)[extra.name]
    say(f"  {extra.name}: {count} utterances of {extra.folder}")


def _format(recipe: Recipe, name: str, target: Path) -> None:
    options = recipe.options
    result = format_audio(recipe.layout.data(name), target, FS, options.nj, options.max_reject)
    if result.rejected:
        say(f"  {name}: {result.rejected} rejected, each with its reason in {target / 'rejected.tsv'}")


def _formatted(recipe: Recipe, name: str):
    """Where stage 3 writes a set: test sets to their place, the others beside it."""
    dump = recipe.layout.dump(name)
    return dump if name in recipe.options.test_sets else dump.parent / "org" / name


def stage_4(recipe: Recipe) -> Stage:
    """Training and validation sets without what is too short, too long or empty; never a test set."""
    options, layout = recipe.options, recipe.layout
    steps = []
    for name in (layout.train_set, options.valid_set):
        steps.append(
            recipe.add(
                Step(
                    stage=4,
                    name=name,
                    folder=layout.dump(name),
                    inputs={
                        "min_wav_duration": options.min_wav_duration,
                        "max_wav_duration": options.max_wav_duration,
                    },
                    needs=(recipe.step(3, name),),
                    outputs=(layout.dump(name) / "wav.scp",),
                    run=partial(_filter, recipe, name),
                )
            )
        )
    if layout.extra_train_sets:
        steps.append(_join_step(recipe))
    return Stage(4, TITLES[4], tuple(steps))


def _join_step(recipe: Recipe) -> Step:
    """The training set together with those of other recipes."""
    layout = recipe.layout
    target = layout.dump(layout.joined_train_set)
    return recipe.add(
        Step(
            stage=4,
            name=layout.joined_train_set,
            folder=target,
            inputs={"fs": FS, "sets": {extra.name: extra.inputs() for extra in layout.extra_train_sets}},
            needs=(recipe.step(4, layout.train_set),),
            outputs=(target / "wav.scp",),
            run=partial(_join, recipe, target),
        )
    )


def _join(recipe: Recipe, target: Path) -> None:
    layout = recipe.layout
    for extra in layout.extra_train_sets:
        check_fits(extra, recipe.given, FS)
    sources = {extra.name: extra.folder for extra in layout.extra_train_sets}
    counts = join_sets({layout.train_set: layout.dump(layout.train_set), **sources}, target)
    parts = " + ".join(f"{name} {count}" for name, count in counts.items())
    say(f"  {target.name}: {sum(counts.values())} utterances ({parts})")
    accents = ", ".join(f"{accent} {count}" for accent, count in count_accents(target).items())
    if accents:
        say(f"  accents: {accents}")


def _filter(recipe: Recipe, name: str) -> None:
    options, target = recipe.options, recipe.layout.dump(name)
    result = filter_data_dir(
        _formatted(recipe, name), target, options.min_wav_duration, options.max_wav_duration
    )
    total = result.kept + result.rejected
    if result.rejected > options.max_reject * total:
        raise UserError(
            f"stage 4: {result.rejected} of {total} utterances of {name} would be dropped "
            f"({result.why}), more than --max_reject {options.max_reject:g}: see "
            f"{target / 'rejected.tsv'}; change --min_wav_duration, --max_wav_duration or --max_reject"
        )
    dropped = f", {result.rejected} dropped: {result.why}; see {target / 'rejected.tsv'}"
    say(f"  {name}: {result.kept} of {total} utterances{dropped if result.rejected else ''}")


def stage_5(recipe: Recipe) -> Stage:
    """Tokens, from the training set's texts; or those of the pretrained model, which training starts from."""
    options, layout = recipe.options, recipe.layout
    pretrained = recipe.given.pretrained
    missing = options.pretrained_model and not pretrained
    if pretrained:
        check_settings(pretrained, recipe.arms[0].config, options.asr_config)
    elif missing and options.stop_stage >= 5 and not options.dry_run:
        raise not_there(options.pretrained_model, options.asr_config)
    inputs: dict = {"token_type": options.token_type}
    outputs = [layout.token_list]
    if options.token_type == "bpe":
        inputs["nbpe"] = options.nbpe
        outputs.append(layout.bpe_model)
    if pretrained:
        # Of weights and statistics too: stages 10 and 11, which take these, depend on this one.
        inputs["pretrained_model"] = pretrained_digests(pretrained)
    step = recipe.add(
        Step(
            stage=5,
            name="tokens",
            folder=layout.token_dir,
            inputs=inputs,
            needs=(recipe.step(4, layout.joined_train_set),),
            outputs=tuple(outputs),
            run=partial(_take_tokens if pretrained else _make_tokens, recipe),
        )
    )
    steps = (step, *_character_steps(recipe))
    if missing:
        return Stage(5, TITLES[5], steps, note=f"the tokens of {options.pretrained_model}, not there yet")
    return Stage(5, TITLES[5], steps)


def _character_steps(recipe: Recipe) -> list[Step]:
    """Can the tokens write what other recipes' sets hold? A test set's text counts as scoring sees it."""
    layout = recipe.layout
    sets = [(3, extra.name, scoring_text(extra, recipe.given), extra) for extra in layout.extra_test_sets]
    if layout.extra_train_sets:
        sets.append((4, layout.joined_train_set, "none", layout.extra_train_sets[0]))
    steps = []
    for stage, name, policy, extra in sets:
        report = layout.dump(name) / "uncovered_characters.tsv"
        where = f"--{extra.option} {' '.join(getattr(recipe.options, extra.option))}"
        steps.append(
            recipe.add(
                Step(
                    stage=5,
                    name=name,
                    folder=layout.dump(name),
                    inputs={"scoring_text": policy},
                    needs=(recipe.step(5, "tokens"), recipe.step(stage, name)),
                    outputs=(report,),
                    run=partial(_check_characters, recipe, name, policy, report, where),
                )
            )
        )
    return steps


def _check_characters(recipe: Recipe, name: str, policy: str, report: Path, where: str) -> None:
    layout = recipe.layout
    text = layout.dump(name) / "text"
    check_characters(text, layout.token_list, recipe.options.token_type, policy, report, where)


def _take_tokens(recipe: Recipe) -> None:
    options, layout, pretrained = recipe.options, recipe.layout, recipe.given.pretrained
    text = layout.dump(layout.joined_train_set) / "text"
    call_in_fork(check_fit, pretrained, recipe.arms[0].config, options.asr_config)
    unknown, total = call_in_fork(count_unknown, pretrained, text)
    pretrained.write_tokens(layout.token_dir)
    say(f"  {pretrained.kind}, those of the pretrained model {pretrained.given}: {layout.token_list}")
    if unknown:
        say(f"  WARNING: {unknown.total()} of {total} tokens of {text} become <unk>: {most_common(unknown)}")


def _make_tokens(recipe: Recipe) -> None:
    options, layout = recipe.options, recipe.layout
    texts = (text for _, text in iter_table(layout.dump(layout.joined_train_set) / "text"))
    path = make_token_list(texts, layout.token_dir, options.token_type, options.nbpe)
    count = len(path.read_text(encoding="utf-8").splitlines())
    say(f"  {count} tokens: {path}")
