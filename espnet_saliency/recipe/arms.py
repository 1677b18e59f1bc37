"""Arms: one recogniser configuration, and augmentations that are all that sets its trainings apart."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import ROOT, find_config, read_yaml
from espnet_saliency.saliency.specaug import SaliencySpecAug


@dataclass(frozen=True)
class Arm:
    """One augmentation under comparison."""

    name: str
    config: dict
    """The recogniser's whole ESPnet configuration, augmentation included."""
    needs_classifier: bool


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
    arms = tuple(_load_arm(name, base, layout, folder) for name in options.arms)
    if any(arm.needs_classifier for arm in arms):
        _check_classifier(arms, layout)
        _check_features(base, layout)
    return arms


def _load_arm(name: str, base: dict, layout: Layout, folder: Path) -> Arm:
    path = _find_arm(name, folder)
    augmentation = read_yaml(path)
    extra = sorted(set(augmentation) - {"specaug", "specaug_conf"})
    if extra:
        raise UserError(f"{path}: key {extra[0]} does not belong: an arm sets specaug and specaug_conf alone")
    config = {**copy.deepcopy(base), **augmentation}
    conf = config.setdefault("specaug_conf", {}) or {}
    needs_classifier = False
    if config.get("specaug") == "saliency":
        conf = dict(conf)
        needs_classifier = conf.get("method", "grad_cam") != "random"
        if needs_classifier and not conf.get("classifier"):
            conf["classifier"] = str(layout.accent_exp)
        config["specaug_conf"] = conf
        try:
            SaliencySpecAug(**conf)
        except TypeError as error:
            raise UserError(f"{path}: specaug_conf: {str(error).rpartition('__init__() ')[2]}") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return Arm(name, config, needs_classifier)


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
    name = next(arm.name for arm in arms if arm.needs_classifier)
    raise UserError(
        f"arm {name} needs an accent classifier, and {options.corpus} has no accent labels to train "
        f"one on: give one trained on another corpus with --classifier EXP, or leave the arm out of --arms"
    )


def _check_features(base: dict, layout: Layout) -> None:
    """The classifier must see the recogniser's features: a map of other frames or bins masks the wrong cells."""
    options = layout.options
    source = layout.accent_exp / "config.yaml" if options.classifier else options.accent_config
    if not source.is_file():
        raise UserError(
            f"--classifier {options.classifier}: no config.yaml there: give the folder of a trained classifier"
        )
    classifier = FeatureSettings.from_frontend_conf(read_yaml(source).get("frontend_conf") or {})
    recogniser = FeatureSettings.from_frontend_conf(base.get("frontend_conf") or {})
    differences = classifier.difference(recogniser)
    if differences:
        raise UserError(
            f"{source} and {options.asr_config} set different features ({'; '.join(differences)}): "
            f"give both the same frontend_conf"
        )
