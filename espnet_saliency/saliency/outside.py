"""A classifier held where torch.nn.Module does not look for its parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor

from espnet_saliency.errors import UserError

if TYPE_CHECKING:
    from espnet_saliency.accent.classifier import AccentClassifier
    from espnet_saliency.accent.features import FeatureSettings


class Outside:
    """An accent classifier that is loaded where it is first needed and follows the features.

    Copies and pickles carry the path and load anew.

    Args:
        path: experiment folder of the classifier, or its weights beside config.yaml.
        check: is given the network once it is there; raises UserError where it will not do.
    """

    def __init__(self, path: str, check: Callable[[AccentClassifier], None] | None = None):
        self.path, self._check = path, check
        self._features: FeatureSettings | None = None
        self._network: AccentClassifier | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_network": None}

    def bind(self, features: FeatureSettings) -> None:
        """Tell the recogniser's features; loads the classifier where it exists."""
        self._features = features
        if self._network is not None:
            self.take(self._network)
        elif Path(self.path).exists():
            self._load()

    def take(self, network: AccentClassifier) -> None:
        """Hold a network that is loaded already."""
        if self._features is not None:
            differences = network.features.difference(self._features)
            if differences:
                raise UserError(
                    f"{self.path}: the accent classifier hears other features than the recogniser: "
                    f"{'; '.join(differences)}; train one with the recogniser's frontend_conf"
                )
        if self._check is not None:
            self._check(network)
        self._network = network

    def get(self, x: Tensor) -> AccentClassifier:
        """The classifier on the device of `x` (B, T, F), with as many mel bins."""
        if self._network is None:
            self._load()
        if self._network.linear_weight.device != x.device:
            self._network.to(x.device)
        n_mels = self._network.features.n_mels
        if n_mels != x.size(2):
            raise UserError(
                f"{self.path}: the accent classifier hears {n_mels} mel bins, the recogniser "
                f"{x.size(2)}; train one with the recogniser's frontend_conf"
            )
        return self._network

    def _load(self) -> None:
        from espnet_saliency.accent.classifier import AccentClassifier

        # Building a network draws random numbers, which would change the masks that follow.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            network = AccentClassifier.load(self.path)
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise UserError(
                    f"{self.path}: NaN or infinity in {name}; train the classifier anew"
                )
        self.take(network)
