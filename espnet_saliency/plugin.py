"""Registration with ESPnet: the one place that touches its registries.

ESPnet's tasks look classes up by name in registries of their own (`specaug_choices` and the like).
`register()` adds the augmentation to those of the recognisers, and the classifier's parts to that
of the classification task `cls`.
"""

from __future__ import annotations

import functools
import importlib
from typing import Iterable

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

    Adds `specaug: saliency` to the recognisers, and `encoder: accent_resnet | espnet_resnet`,
    `specaug: crop_specaug` and `normalize: masked_utterance_mvn` to `cls`.

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
    else:
        from espnet_saliency.saliency.specaug import SaliencySpecAug

        module.specaug_choices.classes["saliency"] = SaliencySpecAug
        _bind_when_built(getattr(module, RECOGNISERS[task]))


def _bind_when_built(task: type) -> None:
    """Have `task.build_model` tell the augmentation which features the recogniser computes."""
    original = task.__dict__["build_model"].__func__
    if hasattr(original, "binds_saliency"):
        return

    @functools.wraps(original)
    def build_model(cls, args):
        from espnet_saliency.accent.features import FeatureSettings
        from espnet_saliency.saliency.specaug import SaliencySpecAug

        model = original(cls, args)
        specaug = model.specaug
        # Random masks need no classifier, so any frontend will do for them.
        if isinstance(specaug, SaliencySpecAug) and specaug.classifier is not None:
            specaug.bind(FeatureSettings.from_frontend(model.frontend))
        return model

    build_model.binds_saliency = True
    task.build_model = classmethod(build_model)
