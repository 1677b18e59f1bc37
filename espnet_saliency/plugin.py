"""Registration with ESPnet: the one place that touches its registries.

ESPnet's tasks look classes up by name in registries of their own (`specaug_choices` and the like).
`register()` adds the augmentation and the probe's frontend to those of the recognisers, and the
classifier's parts to that of the classification task `cls`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
from pathlib import Path
from typing import Any, Callable, Iterable

from espnet_saliency.errors import UserError

RECOGNISERS = {
    "asr": "ASRTask",
    "asr_transducer": "ASRTransducerTask",
    "s2t": "S2TTask",
    "st": "STTask",
    "slu": "SLUTask",
}
"""Tasks of ESPnet that train with `specaug: saliency`, and their classes."""

TASKS = (*RECOGNISERS, "cls")
"""All tasks that something is added to."""


def register(tasks: Iterable[str] = TASKS) -> None:
    """Make this package's classes known to ESPnet's tasks; calling it again changes nothing.

    Adds `specaug: saliency` and `frontend: masked_default` to the recognisers, and `encoder:
    accent_resnet | espnet_resnet`, `specaug: crop_specaug` and `normalize: masked_utterance_mvn` to
    `cls`, whose classifiers with one of these encoders are validated by balanced accuracy.

    Args:
        tasks: names of TASKS; their modules are imported, which takes seconds the first time.
    """
    for task in tasks:
        _register(task)


def _register(task: str) -> None:
    module = importlib.import_module(f"espnet2.tasks.{task}")
    if task == "cls":
        from espnet_saliency.accent.augment import CropSpecAug
        from espnet_saliency.accent.espnet_resnet import EspnetResNet
        from espnet_saliency.accent.normalize import MaskedUtteranceMVN
        from espnet_saliency.accent.resnet import AccentResNet

        module.encoder_choices.classes["accent_resnet"] = AccentResNet
        module.encoder_choices.classes["espnet_resnet"] = EspnetResNet
        module.specaug_choices.classes["crop_specaug"] = CropSpecAug
        module.normalize_choices.classes["masked_utterance_mvn"] = MaskedUtteranceMVN
        _when_built(module.CLSTask, _balance)
    else:
        from espnet_saliency.saliency.probe import MaskedFrontend
        from espnet_saliency.saliency.specaug import SaliencySpecAug

        module.frontend_choices.classes["masked_default"] = MaskedFrontend
        module.specaug_choices.classes["saliency"] = SaliencySpecAug
        _when_built(getattr(module, RECOGNISERS[task]), _bind)
        _count_on_when_resumed()


def _count_on_when_resumed() -> None:
    """Have ESPnet's trainer tell the augmentation how many batches a resumed training has seen."""
    from espnet2.train.trainer import Trainer

    original = Trainer.resume
    if hasattr(original, "counts_batches"):
        return

    @functools.wraps(original)
    def resume(checkpoint, model, reporter, *args, **kwargs):
        original(checkpoint, model, reporter, *args, **kwargs)
        specaug = getattr(model, "specaug", None)
        train = reporter.stats.get(reporter.get_epoch(), {}).get("train", {})
        if hasattr(specaug, "resume") and "total_count" in train:
            specaug.resume(train["total_count"])

    resume.counts_batches = True
    Trainer.resume = staticmethod(resume)


STREAMS = tuple(
    name for stream in ("saliency", "phonetic", "accent") for name in (stream, f"{stream}_lengths")
)
"""Parts of ESPnet's batch that are for the augmentation, and not for the model."""


def _hand_over(model, inputs: tuple, batch: dict) -> tuple[tuple, dict]:
    """Ahead of the model's forward: give the augmentation its streams and the utterance ids."""
    streams = {name: batch[name] for name in STREAMS if name in batch}
    ids = batch.get("utt_id", ())
    if model.training and len(ids) == len(batch["speech"]):
        model.specaug.receive(ids, streams)
    elif model.training and model.specaug.needed_streams:
        # torch's DataParallel gives each GPU all the ids, beside its own part of the batch.
        raise UserError(
            f"specaug saliency: {len(ids)} utterance ids came with a batch of {len(batch['speech'])}; "
            "train on several GPUs with --multiprocessing_distributed true"
        )
    return inputs, {name: value for name, value in batch.items() if name not in streams}


def _check_streams(specaug, streams: Iterable[tuple[str, str, str]]) -> None:
    """Refuse stored maps of one folder where the training reads those of another.

    Args:
        specaug: the model's `SaliencySpecAug`.
        streams: ESPnet's --train_data_path_and_name_and_type.
    """
    for path, name, _ in streams:
        folder = specaug.stored_folders.get(name)
        if folder is not None and Path(path).resolve() != (Path(folder) / "maps.scp").resolve():
            raise UserError(
                f"--train_data_path_and_name_and_type {path},{name},…: the augmentation's maps are those of "
                f"{folder}: give {Path(folder) / 'maps.scp'}, or name the other folder in specaug_conf"
            )


def _when_built(task: type, finish: Callable[[Any, argparse.Namespace], None]) -> None:
    """Have `task.build_model` call `finish(model, args)` on what it has built; once, however often."""
    original = task.__dict__["build_model"].__func__
    if hasattr(original, "finishes"):
        return

    @functools.wraps(original)
    def build_model(cls, args):
        model = original(cls, args)
        finish(model, args)
        return model

    build_model.finishes = True
    task.build_model = classmethod(build_model)


def _bind(model: Any, args: argparse.Namespace) -> None:
    """Tell the augmentation which features the recogniser computes."""
    from espnet_saliency.accent.features import FeatureSettings
    from espnet_saliency.saliency.specaug import SaliencySpecAug

    specaug = model.specaug
    if isinstance(specaug, SaliencySpecAug):
        # Random masks need no map, so any frontend will do for them.
        if specaug.needs_features:
            specaug.bind(FeatureSettings.from_frontend(model.frontend))
        _check_streams(specaug, getattr(args, "train_data_path_and_name_and_type", None) or ())
        model.register_forward_pre_hook(_hand_over, with_kwargs=True)


def _balance(model: Any, args: argparse.Namespace) -> None:
    """Validate the accent classifier by balanced accuracy; ESPnet's own classifiers stay as they are."""
    from espnet_saliency.accent.validation import balance_validation

    if hasattr(model.encoder, "activations") and model.classification_type == "multi-class":
        balance_validation(model, getattr(args, "valid_data_path_and_name_and_type", None) or ())
