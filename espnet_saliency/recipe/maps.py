"""Stored maps and other data streams that an arm's augmentation reads beside the audio."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import say
from espnet_saliency.recipe.arms import reads_own_phonetic_maps
from espnet_saliency.recipe.first_recogniser import FirstRecogniser
from espnet_saliency.recipe.jobs import call_in_fork
from espnet_saliency.recipe.recipe import Recipe, classifier_digests
from espnet_saliency.recipe.steps import Step
from espnet_saliency.saliency.map_settings import MapSettings
from espnet_saliency.saliency.stored import write_maps
from espnet_saliency.saliency.stored_phonetic import write_phonetic_maps
from espnet_saliency.yaml_file import read_yaml

if TYPE_CHECKING:
    from espnet_saliency.recipe.arms import Arm


def map_steps(recipe: Recipe, device: str, nj: int) -> list[Step]:
    """Stage 9: the maps of the training set, one step for each kind that the arms need."""
    options, layout = recipe.options, recipe.layout
    steps = []
    for settings in dict.fromkeys(arm.maps for arm in recipe.arms if arm.maps):
        folder = layout.maps(settings)
        inputs: dict = {"maps": {k: v for k, v in vars(settings).items()}}
        needs = [*recipe.needs(4, [layout.joined_train_set])]
        if options.classifier:
            inputs["classifier"] = classifier_digests(options.classifier)
        else:
            needs.append(recipe.step(7, "classifier"))
        steps.append(
            recipe.add(
                Step(
                    stage=9,
                    name=folder.name,
                    folder=folder,
                    owns_folder=True,
                    inputs=inputs,
                    needs=tuple(needs),
                    outputs=(folder / "maps.json", folder / "maps.scp"),
                    run=partial(_store, recipe, settings, folder, device, nj),
                )
            )
        )
    return steps


def phonetic_steps(recipe: Recipe, device: str, nj: int) -> list[Step]:
    """Stage 9: what the first recogniser needs of the training set; no step where no arm spares it."""
    options, layout = recipe.options, recipe.layout
    if not any(reads_own_phonetic_maps(arm, layout) for arm in recipe.arms):
        return []
    folder = layout.phonetic_maps
    # Without stage 9 there need be no recogniser yet.
    recogniser = FirstRecogniser.find(options) if options.stop_stage >= 9 else None
    step = Step(
        stage=9,
        name=folder.name,
        folder=folder,
        owns_folder=True,
        inputs={"recogniser": recogniser.digests if recogniser else None},
        needs=tuple(recipe.needs(4, [layout.joined_train_set])),
        outputs=(folder / "maps.json", folder / "maps.scp"),
        run=partial(_store_phonetic, recipe, recogniser, folder, device, nj),
    )
    return [recipe.add(step)]


def _store_phonetic(
    recipe: Recipe, recogniser: FirstRecogniser, folder: Path, device: str, nj: int
) -> None:
    data = recipe.layout.dump(recipe.layout.joined_train_set)
    about = call_in_fork(
        write_phonetic_maps, recogniser.weights, data, folder, device, nj, recogniser.stats
    )
    _say_done(about, folder, "phonetic map (the recogniser finds no words in them): nothing is spared there")


def map_needs(recipe: Recipe, arm: Arm) -> list[Step]:
    """The steps of stage 9 that an arm's training needs."""
    folders = [recipe.layout.maps(arm.maps)] if arm.maps else []
    if reads_own_phonetic_maps(arm, recipe.layout):
        folders.append(recipe.layout.phonetic_maps)
    return [recipe.step(9, folder.name) for folder in folders]


def _say_done(about: dict, folder: Path, without: str) -> None:
    size = sum(path.stat().st_size for path in (folder / "parts").glob("*.ark"))
    say(f"  {about['count']} maps, {size / about['count'] / 1000:.1f} kB each: {folder}")
    if about["without_map"]:
        say(f"  {about['without_map']} utterances have no {without}")


def _store(recipe: Recipe, settings: MapSettings, folder: Path, device: str, nj: int) -> None:
    layout = recipe.layout
    data = layout.dump(layout.joined_train_set)
    about = call_in_fork(write_maps, layout.accent_exp, data, folder, settings, device, nj)
    _say_done(about, folder, "map (accent unknown, or the classifier in doubt): they get random masks")


def stream_arguments(recipe: Recipe, arm: Arm) -> list[str]:
    """What tells ESPnet's training of the streams that the arm reads; [] where it reads none."""
    files = []
    if arm.stored_maps:
        files.append(f"{arm.stored_maps / 'maps.scp'},saliency,kaldi_ark")
    elif arm.needs_accents:
        files.append(f"{recipe.layout.asr_exp(arm.name) / 'utt2accent_number'},accent,text_int")
    if arm.phonetic_maps:
        files.append(f"{arm.phonetic_maps / 'maps.scp'},phonetic,kaldi_ark")
    option = "--train_data_path_and_name_and_type"
    return [w for file in files for w in (option, file)] + ["--allow_variable_data_keys", "true"] * bool(files)


def prepare_streams(recipe: Recipe, arm: Arm) -> None:
    """Before an arm's training: write its accent stream; see that every utterance has its maps.

    Raises:
        UserError: training utterances have no map.
    """
    layout = recipe.layout
    data = layout.dump(layout.joined_train_set)
    for folder in (arm.stored_maps, arm.phonetic_maps):
        if not folder:
            continue
        table = folder / "maps.scp"
        if not table.exists():
            raise UserError(f"{table}: no such file: make the maps with --stage 9")
        missing = sorted(read_table(data / "wav.scp").keys() - read_table(table).keys())
        if missing:
            raise UserError(
                f"{table}: {len(missing)} utterances of {data.name} have no map ({', '.join(missing[:3])}"
                f"{', …' if len(missing) > 3 else ''}): make the maps anew with --stage 9"
            )
    if arm.needs_accents:
        accents = read_yaml(layout.accent_exp / "config.yaml")["token_list"]
        number = {accent: str(n) for n, accent in enumerate(accents) if accent != "<unk>"}
        table = data / "utt2accent"
        of = read_table(table) if table.exists() else {}
        with atomic_file(layout.asr_exp(arm.name) / "utt2accent_number") as handle:
            for utt_id in sorted(read_table(data / "wav.scp")):
                handle.write(f"{utt_id} {number.get(of.get(utt_id, ''), '-1')}\n")
