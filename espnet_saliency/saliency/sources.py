"""Where the maps of a batch come from: the accent classifier, or maps that were stored beforehand.

A source of accent maps gives one map an utterance; a map of zeros says nothing, and such an
utterance gets random masks (`masking.place`). That is the one way by which a source says that a map
is not to be trusted. What the words need (`PhoneticMaps`) lowers such a map where it is high.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Sequence

import torch
from torch import Tensor

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.cam import layers_of, saliency_map
from espnet_saliency.saliency.outside import Outside
from espnet_saliency.saliency.targets import contrast, sample

if TYPE_CHECKING:
    from espnet_saliency.accent.classifier import AccentClassifier
    from espnet_saliency.accent.features import FeatureSettings
    from espnet_saliency.saliency.archive import Archive
    from espnet_saliency.saliency.stored import MapArchive

STREAMS = {
    "accent": "FILE,accent,text_int (per utterance the number of its accent among the classifier's "
    "accents, from 0; -1: unknown)",
    "saliency": "FILE,saliency,kaldi_ark (the stored maps)",
    "phonetic": "FILE,phonetic,kaldi_ark (the stored phonetic maps)",
}
"""Data streams that a source may need, and how ESPnet is told of them."""


class Participants(NamedTuple):
    """The utterances of a batch that take part in the masking."""

    feats: Tensor
    """(B, T, F), log-mel, not normalised."""
    lengths: Tensor
    """(B,), valid frames."""
    names: Sequence[str]
    """What messages call each of them."""
    streams: dict[str, Tensor]
    """Those that ESPnet handed over, by name, first dimension B; the cells in time of stored maps
    `saliency` are `saliency_lengths`."""
    uniform: Tensor | None
    """(B,) in [0, 1), on the CPU: the draw from each posterior, where the target is `sample`."""


class ClassifierMaps:
    """Maps made while training, of the features as they come.

    Args:
        path: experiment folder of the accent classifier, or its weights beside config.yaml.
        method: one of `cam.METHODS`.
        layer: a layer's name, several, or None for the last convolution.
        target: one of `targets.TARGETS`.
        reference_accent: what target `contrast` holds the accent against.
        min_confidence: least posterior of the target class (of the likeliest, for `sample`), in
            [0, 1]; the map of an utterance below it is zero.
    """

    def __init__(
        self,
        path: str,
        method: str,
        layer: str | Sequence[str] | None,
        target: str,
        reference_accent: str | None,
        min_confidence: float,
    ):
        self.classifier = Outside(path, self._check)
        self.method, self.layer, self.target = method, layer, target
        self.reference_accent, self.min_confidence = reference_accent, min_confidence
        self.streams = ("accent",) if target == "true" else ()

    def bind(self, features: FeatureSettings) -> None:
        self.classifier.bind(features)

    def _check(self, network: AccentClassifier) -> None:
        if self.layer is not None:
            known = layers_of(network)
            for name in [self.layer] if isinstance(self.layer, str) else self.layer:
                if name not in known:
                    raise UserError(
                        f"specaug_conf.layer: {self.classifier.path} has no layer {name!r}; it has "
                        f"{', '.join(known)}"
                    )
        if self.target == "contrast" and self.reference_accent not in network.accents:
            raise UserError(
                f"specaug_conf.reference_accent: {self.reference_accent!r} is not an accent of "
                f"{self.classifier.path}: {', '.join(network.accents)}"
            )

    def __call__(self, given: Participants) -> Tensor:
        """(B, T, F) in [0, 1]; zero where an accent is unknown or the classifier is in doubt."""
        network = self.classifier.get(given.feats)
        target, known = None, None
        if self.target == "true":
            accent = _accents(given, network.linear_weight.size(0)).to(given.feats.device)
            target, known = accent.clamp_min(0), accent >= 0
        elif self.target == "sample":
            target = sample(given.uniform)
        elif self.target == "contrast":
            target = contrast(network.accents.index(self.reference_accent))
        maps, cam = saliency_map(
            network, given.feats, given.lengths, target, self.method, self.layer
        )
        trusted = known
        if self.min_confidence > 0:
            posterior = cam.logits.softmax(dim=-1)
            confidence = posterior.gather(1, cam.target[:, None])[:, 0]
            if self.target == "sample":
                confidence = posterior.amax(dim=-1)
            sure = confidence >= self.min_confidence
            trusted = sure if known is None else sure & known
        return maps if trusted is None else maps * trusted[:, None, None]


def _accents(given: Participants, classes: int) -> Tensor:
    """(B,), the class of each utterance, -1 where it is unknown."""
    accent = given.streams["accent"].reshape(len(given.names), -1)[:, 0].long()
    wrong = ((accent < -1) | (accent >= classes)).nonzero()[:, 0].tolist()
    if wrong:
        raise UserError(
            f"stream accent: {given.names[wrong[0]]} has {int(accent[wrong[0]])}, and the "
            f"classifier's accents are numbered 0 to {classes - 1} (-1: unknown)"
        )
    return accent


class _Stored:
    """An archive that is opened where it is first needed, and read as a data stream."""

    streams: tuple[str, str]
    """The maps and their lengths."""

    def __init__(self, folder: str):
        self.folder = folder
        self._archive: Archive | None = None
        self._features: FeatureSettings | None = None

    def bind(self, features: FeatureSettings) -> None:
        """Tell the recogniser's features; opens the archive where it exists."""
        self._features = features
        if self._archive is not None:
            self._archive.bind(features)
        elif Path(self.folder).exists():
            self._open()

    def _read(self) -> Archive:
        raise NotImplementedError

    def _open(self) -> Archive:
        archive = self._read()
        if self._features is not None:
            archive.bind(self._features)
        self._archive = archive
        return archive

    def __call__(self, given: Participants) -> Tensor:
        """(B, T, F) in [0, 1]."""
        archive = self._archive or self._open()
        stream, lengths = (given.streams[name] for name in self.streams)
        size = (given.feats.size(1), given.feats.size(2))
        return archive.maps(stream, lengths, given.lengths, size, given.names)


class StoredMaps(_Stored):
    """Maps that stage 9 has stored, which ESPnet reads as the data stream `saliency`.

    Args:
        folder: of the archive.
        method, layer, target, reference_accent: what the recogniser's configuration asks for; the
            archive must have been made with the same.
    """

    streams = ("saliency", "saliency_lengths")

    def __init__(
        self,
        folder: str,
        method: str,
        layer: str | Sequence[str] | None,
        target: str,
        reference_accent: str | None = None,
    ):
        super().__init__(folder)
        self._asked = {"method": method, "layer": layer, "target": target}
        if target == "contrast":
            self._asked["reference_accent"] = reference_accent

    def check(self, digest: str) -> None:
        """Refuse maps of another classifier than the one with this digest."""
        (self._archive or self._open()).check(digest)

    def _read(self) -> MapArchive:
        from espnet_saliency.saliency.stored import MapArchive

        archive = MapArchive.open(Path(self.folder))
        for option, asked in self._asked.items():
            stored = getattr(archive, option)
            if _plain(stored) != _plain(asked):
                raise UserError(
                    f"specaug_conf.stored_maps: {self.folder} was made with {option} {stored}, and "
                    f"the configuration says {asked}: make the two agree, or store maps anew"
                )
        return archive


class PhoneticMaps(_Stored):
    """What a first recogniser needs, stored by stage 9, which ESPnet reads as `phonetic`.

    Args:
        folder: of the archive.
    """

    streams = ("phonetic", "phonetic_lengths")

    def _read(self) -> Archive:
        from espnet_saliency.saliency.stored_phonetic import PhoneticArchive

        return PhoneticArchive.open(Path(self.folder))


def phonetic_maps(protection: str, folder: str | None) -> PhoneticMaps | None:
    """The source of what is spared; None where `protect` needs none.

    Raises:
        UserError: the folder is missing, or has no say.
    """
    if protection != "recogniser":
        if folder:
            raise UserError(
                f"specaug_conf.protect_maps: {folder} has no say in protect {protection}, only in "
                "recogniser; remove it"
            )
        return None
    if not folder:
        raise UserError(
            "specaug_conf.protect_maps: protect recogniser needs a folder of stored phonetic maps: "
            "the recipe makes it with --first_recogniser EXP (or choose protect: change)"
        )
    return PhoneticMaps(str(folder))


def _plain(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
