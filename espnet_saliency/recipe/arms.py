"""Arms: one recogniser configuration, and augmentations that are all that sets its trainings apart.

A sweep makes several arms of one, several seeds several runs of each.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.first_recogniser import FirstRecogniser
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import ROOT, find_config
from espnet_saliency.recipe.sweeps import read_sweep, set_key, with_say
from espnet_saliency.saliency.cam import METHODS as CAM_METHODS
from espnet_saliency.saliency.map_settings import MapSettings
from espnet_saliency.saliency.specaug import MAPLESS, SaliencySpecAug, needs_classifier, stock_specaug
from espnet_saliency.yaml_file import read_yaml, section


@dataclass(frozen=True)
class Arm:
    """One training: an augmentation under comparison, with one seed."""

    name: str
    """What its steps and folders are called: the augmentation, and the seed where it is not --seed."""
    config: dict
    """The recogniser's whole ESPnet configuration, augmentation included."""
    needs_classifier: bool
    """Whether the classifier itself is asked while it trains."""
    augmentation: str
    """What it is compared as: the arm of --arms, and what a sweep has set."""
    base: str
    """The arm of --arms."""
    swept: Mapping[str, Any] = field(default_factory=dict)
    """What a sweep has set."""
    seed: int = 1
    maps: MapSettings | None = None
    """The stored maps that it reads in place of asking the classifier."""

    @property
    def needs_accents(self) -> bool:
        """Whether its augmentation has to be told each utterance's accent."""
        conf = self.config.get("specaug_conf") or {}
        return not self.stored_maps and self.needs_classifier and conf.get("target") == "true"

    @property
    def stored_maps(self) -> Path | None:
        """The folder of stored maps of the accent that it reads: `maps`, or some that it names itself."""
        return self._folder("stored_maps")

    @property
    def phonetic_maps(self) -> Path | None:
        """The stored maps by which it spares what the words need."""
        return self._folder("protect_maps")

    def _folder(self, key: str) -> Path | None:
        folder = (self.config.get("specaug_conf") or {}).get(key)
        return Path(folder) if folder else None


def load_arms(layout: Layout, folder: Path) -> tuple[Arm, ...]:
    """The arms of a recipe, checked: files there, known keys, an augmentation that can be built.

    Args:
        layout: the recipe's folders.
        folder: egs2/<corpus>/asr1; its conf/aug comes before the one at the top.

    Raises:
        UserError: an unknown arm, a key that does not belong, features that differ.
    """
    options = layout.options
    base = read_yaml(options.asr_config)
    for key in ("specaug", "specaug_conf"):
        if key in base:
            raise UserError(
                f"{options.asr_config}: {key} does not belong there: arms differ in their augmentation "
                f"alone, which is set in conf/aug/<arm>.yaml"
            )
    swept = read_sweep(options.sweep)
    loaded = [_load_arm(name, swept, base, layout, folder) for name in options.arms]
    if swept and not any(variants[0].swept for variants in loaded):
        raise UserError(
            f"--sweep {options.sweep!r}: has no say in any of the arms {' '.join(options.arms)}: name one that it has"
        )
    arms = tuple(_with_seeds(list(itertools.chain(*loaded)), layout))
    if any(arm.needs_classifier or arm.maps for arm in arms):
        _check_classifier(arms, layout)
        check_features(base, layout)
    # Preparing data needs no recogniser.
    if layout.options.stop_stage >= 9 and any(reads_own_phonetic_maps(arm, layout) for arm in arms):
        FirstRecogniser.find(layout.options).check(layout.options.asr_config)
    return arms


def reads_own_phonetic_maps(arm: Arm, layout: Layout) -> bool:
    """Whether an arm reads the phonetic maps that stage 9 makes, and not some that it names itself."""
    return bool(arm.phonetic_maps and layout.first_recogniser and arm.phonetic_maps == layout.phonetic_maps)


def _load_arm(
    name: str, swept: Mapping[str, list], base: dict, layout: Layout, folder: Path
) -> list[Arm]:
    """The arms that conf/aug/<name>.yaml stands for: itself, or its variants in a sweep."""
    path = _find_arm(name, folder)
    augmentation = read_yaml(path)
    extra = sorted(set(augmentation) - {"specaug", "specaug_conf"})
    if extra:
        raise UserError(f"{path}: key {extra[0]} does not belong: an arm sets specaug and specaug_conf alone")
    if "specaug" not in augmentation or augmentation["specaug"] not in (None, "specaug", "saliency"):
        raise UserError(
            f"{path}: specaug: {augmentation.get('specaug', 'is missing')}: must be saliency, specaug, or null for none"
        )
    given = section(augmentation, "specaug_conf", path)
    if augmentation["specaug"] != "saliency":
        if augmentation["specaug"]:
            _build(path, stock_specaug, given)
        elif given:
            raise UserError(f"{path}: specaug_conf.{min(given)} has no say where specaug is null: remove it")
        config = {**copy.deepcopy(base), **augmentation, "specaug_conf": given}
        return [Arm(name, config, False, augmentation=name, base=name)]
    arms: dict[str, Arm] = {}
    for values in itertools.product(*swept.values()):
        setting = with_say(dict(zip(swept, values)), _with(given, dict(zip(swept, values))))
        label = "_".join([name, *(f"{key}{_word(value)}" for key, value in setting.items())])
        if label in arms:
            continue  # what sets it apart from an earlier one has no say
        conf = _with(given, setting)
        if conf.get("target") is True:  # YAML reads a bare `true` as a truth value
            conf["target"] = "true"
        needs = needs_classifier(conf)
        if conf.get("classifier") and Path(str(conf["classifier"])) != layout.accent_exp:
            raise UserError(
                f"{path}: specaug_conf.classifier: {conf['classifier']}, and the classifier of this run is "
                f"{layout.accent_exp}: remove it there, or give --classifier {conf['classifier']}"
            )
        if needs:
            conf["classifier"] = str(layout.accent_exp)
        if conf.get("protect") == "recogniser":
            _protect_by_recogniser(conf, path, base, layout)
        _build(f"--sweep: {path}" if setting else path, lambda options: SaliencySpecAug(**options), conf)
        maps = None
        if layout.options.stored_maps and not _changes_audio(base) and needs and conf.get("method", "grad_cam") not in MAPLESS:
            maps = MapSettings.from_conf(conf, CAM_METHODS)
            maps = maps if maps.storable else None
        if maps:
            conf["stored_maps"] = str(layout.maps(maps))
            conf.pop("min_confidence", None)  # it has had its say when the maps were stored
            needs = needs_classifier(conf)
            if not needs:
                del conf["classifier"]
        config = {**copy.deepcopy(base), **augmentation, "specaug_conf": conf}
        arms[label] = Arm(label, config, needs, augmentation=label, base=name, swept=setting, maps=maps)
    return list(arms.values())


def _build(where: str | Path, make: Callable[[dict], Any], conf: dict) -> None:
    """Build an augmentation once, so that a mistake in its options is told before anything runs."""
    try:
        make(conf)
    except TypeError as error:
        raise UserError(f"{where}: specaug_conf: {str(error).rpartition('__init__() ')[2]}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _with(conf: dict, setting: Mapping[str, Any]) -> dict:
    """A copy of `specaug_conf` with what a sweep sets."""
    conf = copy.deepcopy(conf)
    for key, value in setting.items():
        set_key(conf, key, value)
    return conf


def _protect_by_recogniser(conf: dict, path: Path, base: dict, layout: Layout) -> None:
    """Name the stored phonetic maps in the `specaug_conf` of the arm in `path`."""
    options = layout.options
    if _changes_audio(base):
        raise UserError(
            f"{path}: protect: recogniser reads stored maps, and {options.asr_config} changes the audio while it "
            f"trains (rir_scp, noise_scp or data_aug_effects): use protect: change, or train without"
        )
    if conf.get("protect_maps"):
        return
    if layout.first_recogniser is None:
        raise UserError(
            f"{path}: protect: recogniser spares what a trained recogniser needs, and none is given: give one with "
            f"--first_recogniser EXP, or use protect: change"
        )
    conf["protect_maps"] = str(layout.phonetic_maps)


def _changes_audio(base: dict) -> bool:
    """Whether ESPnet's preprocessor alters the audio while it trains: stored maps would be of other audio."""
    preprocessor = base.get("preprocessor_conf")
    effects = isinstance(preprocessor, dict) and preprocessor.get("data_aug_effects")
    return bool(base.get("rir_scp") or base.get("noise_scp") or effects)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _with_seeds(arms: list[Arm], layout: Layout) -> list[Arm]:
    """Each arm once for each seed; the folders of --seed itself keep their plain names."""
    runs = []
    for arm in arms:
        for seed in layout.options.seeds or (layout.options.seed,):
            name = arm.name if seed == layout.options.seed else f"{arm.name}_seed{seed}"
            runs.append(dataclasses.replace(arm, name=name, seed=seed))
    return runs


def _find_arm(name: str, folder: Path) -> Path:
    try:
        return find_config(Path("conf") / "aug" / f"{name}.yaml", [folder, ROOT])
    except UserError:
        known = {path.stem for place in (folder, ROOT) for path in (place / "conf" / "aug").glob("*.yaml")}
        raise UserError(
            f"--arms: unknown arm {name!r}; conf/aug has {', '.join(sorted(known))}"
        ) from None


def _check_classifier(arms: tuple[Arm, ...], layout: Layout) -> None:
    """Without accents there is nothing to train a classifier on; preparing data needs none."""
    options = layout.options
    if options.has_accents or options.classifier or options.stop_stage < 7:
        return
    name = next(arm.name for arm in arms if arm.needs_classifier or arm.maps)
    raise UserError(
        f"arm {name} needs an accent classifier, and {options.corpus} has no accent labels to train "
        f"one on: give one trained on another corpus with --classifier EXP, or leave the arm out of --arms"
    )


def check_features(base: dict, layout: Layout) -> None:
    """The classifier must see the recogniser's features: a map of other frames or bins masks the wrong cells.

    Args:
        base: the recogniser's configuration.

    Raises:
        UserError: `--classifier` is no trained classifier, or the features differ.
    """
    options = layout.options
    source = layout.accent_exp / "config.yaml" if options.classifier else options.accent_config
    if not source.is_file():
        raise UserError(
            f"--classifier {options.classifier}: no config.yaml there: give the folder of a trained classifier"
        )
    classifier = FeatureSettings.from_frontend_conf(section(read_yaml(source), "frontend_conf", source))
    recogniser = FeatureSettings.from_frontend_conf(section(base, "frontend_conf", options.asr_config))
    differences = classifier.difference(recogniser)
    if differences:
        raise UserError(
            f"{source} and {options.asr_config} set different features ({'; '.join(differences)}): "
            f"give both the same frontend_conf"
        )
