"""`specaug: saliency`: the augmentation as ESPnet's training calls it."""

from __future__ import annotations

import inspect
import zlib
from typing import TYPE_CHECKING, Sequence

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from espnet2.asr.specaug.specaug import SpecAug
from torch import Tensor

from espnet_saliency.errors import UserError
from espnet_saliency.saliency import cam
from espnet_saliency.saliency.checks import (
    check_choice,
    check_finite,
    check_layer,
    check_number,
)
from espnet_saliency.saliency.controls import DERIVED, energy
from espnet_saliency.saliency.masking import Draws, MaskPolicy, draw, fill, freeze, place
from espnet_saliency.saliency.outside import Outside
from espnet_saliency.saliency.phonetic import phonetic_change, protect
from espnet_saliency.saliency.policy import CHANGES
from espnet_saliency.saliency.sources import (
    STREAMS,
    ClassifierMaps,
    Participants,
    PhoneticMaps,
    StoredMaps,
    phonetic_maps,
)
from espnet_saliency.saliency.targets import TARGETS
from espnet_saliency.saliency.transfer import change, draw_chances

if TYPE_CHECKING:
    from espnet_saliency.accent.classifier import AccentClassifier
    from espnet_saliency.accent.features import FeatureSettings

MAPLESS = ("random", "frozen", "energy")
"""Controls that need no map of a classifier."""
METHODS = (*cam.METHODS, *DERIVED, *MAPLESS)


def needs_classifier(specaug_conf: dict) -> bool:
    """Whether `specaug_conf` needs the experiment folder of an accent classifier."""
    if specaug_conf.get("fill") in CHANGES:
        return True
    mapless = specaug_conf.get("method", "grad_cam") in MAPLESS
    return not mapless and not specaug_conf.get("stored_maps")


class SaliencySpecAug(AbsSpecAug):
    """Mask, at random, time-frequency patches that give an accent away, while a recogniser trains.

    For each utterance that takes part: class activation map of a frozen accent classifier
    (`saliency.sources`), patches drawn in proportion to it (`saliency.masking`), fill, and then,
    where it is asked for, ESPnet's own SpecAugment. ESPnet calls it in training only, on
    un-normalised log-mel features.

    The classifier is no part of this module's tree: it is in no checkpoint, no optimiser and no
    `model.train()`, ESPnet's `init` does not reach it, and a recogniser decodes without it. It is
    loaded where it is first needed and follows the features to their device. Nor is anything else
    in the module's state: plain ESPnet decodes with the checkpoint.

    Args:
        method: `grad_cam`, `grad_cam_plus_plus`, `hires_cam`, `layer_cam` mask what is salient
            (`saliency.cam`). The others are controls, with the same participants, shares, patches
            and fill: `random` at places drawn evenly; `rolled` by the map moved half the utterance
            in time; `shuffled` by the map of another utterance that takes part in the same batch,
            stretched to this one's length (`rolled` where there is none); `least` by one minus the
            map; `frozen` at places drawn evenly, once for each utterance id and `seed`; `energy` by
            what is loud, the log-mel scaled to [0, 1].
        classifier: experiment folder of the accent classifier, or its weights beside config.yaml.
        map_method: method of the map that `rolled`, `shuffled` and `least` start from, grad_cam
            where it is None; the other methods refuse it.
        layer: convolution of the classifier that the map is of, or several, whose maps are fused;
            the last one where it is None.
        target: class that the map is for: `predicted`; `true`, the utterance's accent, which the
            data stream `accent` tells (random masks where it is -1: unknown); `sample`, a draw from
            the posterior; `contrast`, the likeliest other accent against `reference_accent`.
        reference_accent: an accent of the classifier, for the target `contrast`.
        min_confidence: posterior of the target class, in [0, 1], below which an utterance gets
            random masks (for `sample`: the posterior of the likeliest class); 0: never.
        stored_maps: folder of stored maps, which come as the data stream `saliency`: then no
            classifier is loaded. They must be of the same method, layer and target.
        protect_maps: folder of stored phonetic maps, for `protect: recogniser`; they come as the
            data stream `phonetic`.
        specaug: keyword arguments of ESPnet's SpecAug, which is applied afterwards; None for none.
        specaug_for: `all` utterances get that SpecAugment, or only the `unmasked` ones: either the
            one augmentation or the other.
        patch_frames, patch_bins, mask_ratio, apply_prob, temperature, uniform_mix,
            min_unmasked_frames, shift_grid, fill, weight_by, axis, warmup_batches, seed, mix_alpha,
            shift_step, protect, protect_strength: see `MaskPolicy`.

    Raises:
        UserError: an option outside its range, or no classifier where the method needs one.
    """

    def __init__(
        self,
        method: str = "grad_cam",
        classifier: str | None = None,
        target: str = "predicted",
        patch_frames: int = MaskPolicy.patch_frames,
        patch_bins: int = MaskPolicy.patch_bins,
        mask_ratio: Sequence[float] | float = MaskPolicy.mask_ratio,
        apply_prob: float = MaskPolicy.apply_prob,
        temperature: float = MaskPolicy.temperature,
        uniform_mix: float = MaskPolicy.uniform_mix,
        min_unmasked_frames: int = MaskPolicy.min_unmasked_frames,
        shift_grid: bool = MaskPolicy.shift_grid,
        fill: str = MaskPolicy.fill,
        weight_by: str = MaskPolicy.weight_by,
        axis: str = MaskPolicy.axis,
        warmup_batches: int = MaskPolicy.warmup_batches,
        seed: int = MaskPolicy.seed,
        mix_alpha: float = MaskPolicy.mix_alpha,
        shift_step: float = MaskPolicy.shift_step,
        protect: str = MaskPolicy.protect,
        protect_strength: float = MaskPolicy.protect_strength,
        map_method: str | None = None,
        layer: str | Sequence[str] | None = None,
        reference_accent: str | None = None,
        min_confidence: float = 0.0,
        stored_maps: str | None = None,
        protect_maps: str | None = None,
        specaug: dict | None = None,
        specaug_for: str = "all",
        **unknown,
    ):
        super().__init__()
        if unknown:
            known = [name for name in inspect.signature(type(self)).parameters if name != "unknown"]
            raise UserError(f"specaug_conf.{min(unknown)}: unknown; known are {', '.join(known)}")
        self.method = check_choice("method", method, METHODS)
        # YAML reads a bare `true` as a truth value.
        self.target = target = check_choice("target", "true" if target is True else target, TARGETS)
        self.policy = MaskPolicy(
            patch_frames=patch_frames,
            patch_bins=patch_bins,
            mask_ratio=mask_ratio,
            apply_prob=apply_prob,
            temperature=temperature,
            uniform_mix=uniform_mix,
            min_unmasked_frames=min_unmasked_frames,
            shift_grid=shift_grid,
            fill=fill,
            weight_by=weight_by,
            axis=axis,
            warmup_batches=warmup_batches,
            seed=seed,
            mix_alpha=mix_alpha,
            shift_step=shift_step,
            protect=protect,
            protect_strength=protect_strength,
        )
        self.batches = 0
        """Training batches seen. A resumed training sets it (`resume`), for `warmup_batches`."""
        if map_method is not None:
            check_choice("map_method", map_method, cam.METHODS)
            if method not in DERIVED:
                raise UserError(
                    f"specaug_conf.map_method: {map_method} has no say in method {method}, only in "
                    f"{', '.join(DERIVED)}; remove it"
                )
        min_confidence = check_number("min_confidence", min_confidence, 1.0)
        layer = check_layer(layer)
        if target == "contrast" and not reference_accent:
            raise UserError(
                "specaug_conf.reference_accent: target contrast needs one of the classifier's "
                "accents to hold the others against"
            )
        silent = {
            "layer": layer, "reference_accent": reference_accent, "stored_maps": stored_maps,
            "min_confidence": min_confidence,
        }  # fmt: skip
        for option in (name for name in silent if silent[name] and method in MAPLESS):
            raise UserError(
                f"specaug_conf.{option}: {silent[option]} has no say in method {method}, which needs no "
                "map of a classifier; remove it"
            )
        if stored_maps and classifier and fill not in CHANGES:
            raise UserError(
                f"specaug_conf.classifier: {classifier} has no say beside stored_maps {stored_maps}, "
                "which take its place; remove one of the two"
            )
        self.source: ClassifierMaps | StoredMaps | None = None
        of = method if method in cam.METHODS else map_method or "grad_cam"
        if method in MAPLESS:
            pass
        elif stored_maps:
            if min_confidence > 0:
                raise UserError(
                    f"specaug_conf.min_confidence: {min_confidence:g} needs the classifier, which "
                    "stored_maps does without; remove one of the two"
                )
            self.source = StoredMaps(str(stored_maps), of, layer, target, reference_accent)
        elif not classifier:
            raise UserError(
                f"specaug_conf.classifier: method {method} needs the experiment folder of an "
                "accent classifier (or choose method: random)"
            )
        else:
            self.source = ClassifierMaps(
                str(classifier), of, layer, target, reference_accent, min_confidence
            )
        self.spared = phonetic_maps(protect, protect_maps)
        self.changer: Outside | None = None
        if fill in CHANGES:
            if not classifier:
                raise UserError(
                    f"specaug_conf.classifier: fill {fill} needs the experiment folder of an accent "
                    "classifier (or choose fill: mean)"
                )
            self.changer = self.classifier or Outside(str(classifier), self._same_as_stored)
        self.specaug = None if specaug is None else stock_specaug(specaug, "specaug_conf.specaug")
        self.specaug_for = check_choice("specaug_for", specaug_for, ("all", "unmasked"))
        if specaug is None and specaug_for == "unmasked":
            raise UserError("specaug_conf.specaug_for: unmasked has no say without specaug; remove it")
        self._received: tuple[list[str], dict[str, Tensor]] | None = None

    def _same_as_stored(self, network: AccentClassifier) -> None:
        if isinstance(self.source, StoredMaps):
            self.source.check(network.digest)

    @property
    def classifier(self) -> Outside | None:
        """What holds the classifier; None where none is needed."""
        return getattr(self.source, "classifier", None)

    @property
    def needed_streams(self) -> tuple[str, ...]:
        """Data streams that `receive` must be given, beside the utterance ids."""
        return tuple(name for one in (self.source, self.spared) if one for name in one.streams)

    @property
    def stored_folders(self) -> dict[str, str]:
        """Data stream of stored maps -> the folder that they are to come from."""
        stored = (one for one in (self.source, self.spared) if isinstance(one, (StoredMaps, PhoneticMaps)))
        return {one.streams[0]: one.folder for one in stored}

    @property
    def needs_features(self) -> bool:
        """Whether it must know the recogniser's features: it has maps, or a classifier."""
        return any(one is not None for one in (self.source, self.spared, self.changer))

    def extra_repr(self) -> str:
        path = "" if self.classifier is None else f"classifier={self.classifier.path}, "
        return f"method={self.method}, {path}target={self.target}, {self.policy}"

    def bind(self, features: FeatureSettings) -> None:
        """Tell the recogniser's features; a classifier or maps of other features are refused.

        The classifier is loaded here where it exists, so that a mistake shows before training; a
        missing one is no error until it is needed, since decoding does without.

        Raises:
            UserError: the features differ; the message names what, with both values.
        """
        for maps in (self.source, self.spared):
            if maps is not None:
                maps.bind(features)
        if self.changer is not None and self.changer is not self.classifier:
            self.changer.bind(features)

    def use(self, classifier: AccentClassifier) -> None:
        """Take a classifier that is loaded already, in the place of the one at `classifier`."""
        for holder in {id(h): h for h in (self.classifier, self.changer) if h is not None}.values():
            holder.take(classifier)

    def resume(self, batches: int) -> None:
        """Go on as after `batches` training batches.

        The count is in no checkpoint, since plain ESPnet would refuse one that has it; ESPnet's own
        count of training batches, in its reporter, is what it is set to.
        """
        self.batches = batches

    def receive(self, utt_id: Sequence[str], streams: dict[str, Tensor]) -> None:
        """Take what ESPnet's batch holds for the next `forward`, and for that one alone.

        Args:
            utt_id: B utterance ids.
            streams: data streams by name, (B, …) each; see `needed_streams`.
        """
        self._received = (list(utt_id), streams)

    def forward(
        self, x: Tensor, x_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Mask a batch.

        Args:
            x: (B, T, F), log-mel, not normalised; it is left as it is.
            x_lengths: (B,), valid frames; all frames are valid where it is None.

        Returns:
            (B, T, F) and the lengths.

        Raises:
            UserError: NaN or infinity in `x`, another number of mel bins than the classifier's, or
                a data stream is missing, of another batch, or out of range.
        """
        lengths = x_lengths
        if lengths is None:
            lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        mask = self.mask(x, lengths.to(x.device))
        self.batches += self.training
        masked = x
        if mask is not None:
            masked = self._fill(x, mask, lengths.to(x.device))
        if self.specaug is not None:
            # SpecAug writes into what it is given.
            kept = masked is x or self.specaug_for == "unmasked"
            stock, x_lengths = self.specaug(masked.clone() if kept else masked, x_lengths)
            if self.specaug_for == "all" or mask is None:
                return stock, x_lengths
            # Not those with a mask: accent_mix without another accent in the batch changes nothing.
            changed = (masked != x).flatten(1).any(dim=1)
            return torch.where(changed[:, None, None], masked, stock), x_lengths
        return masked, x_lengths

    def _fill(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        if self.changer is None:
            return fill(x, mask, lengths, self.policy.fill)
        chances = draw_chances(x.size(0), self.policy)
        with torch.autocast(x.device.type, enabled=False):
            return change(self.changer.get(x), x, mask, lengths, self.policy, chances)

    @torch.no_grad()
    def mask(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        """(B, T, F), (B,) -> (B, T, F) bool; None where no utterance of the batch takes part."""
        with torch.autocast(x.device.type, enabled=False):  # the masks are those of single precision
            return self._mask(x.float(), lengths)

    def _mask(self, x: Tensor, lengths: Tensor) -> Tensor | None:
        ids, streams = self._take(x.size(0))
        names = ids or [f"utterance {n + 1} of a batch of {x.size(0)}" for n in range(x.size(0))]
        check_finite(x, lengths, names)
        size = (x.size(1), x.size(2))
        draws = draw(x.size(0), size, self.policy)
        draws = draws._replace(share=draws.share * self.policy.warmed_up(self.batches))
        # Only those that take part cost a pass of the classifier.
        taking_part = draws.active.nonzero()[:, 0]
        uniform = torch.rand(x.size(0))[taking_part] if self._samples else None
        if len(taking_part) == 0:
            return None
        draws = Draws(*(drawn[taking_part] for drawn in draws))
        names = [names[number] for number in taking_part.tolist()]
        if self.method == "frozen":
            keys = [zlib.crc32(f"{self.policy.seed} {name}".encode()) for name in names]
            draws = freeze(draws, keys, lengths[taking_part], size, self.policy)
        taking_part = taking_part.to(x.device)
        streams = {name: rows[taking_part.to(rows.device)] for name, rows in streams.items()}
        given = Participants(x[taking_part], lengths[taking_part], names, streams, uniform)
        masks = place(draws, self._maps(given), given.lengths, size, self.policy)
        mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        return mask.index_copy_(0, taking_part, masks)

    @property
    def _samples(self) -> bool:
        return isinstance(self.source, ClassifierMaps) and self.target == "sample"

    def _maps(self, given: Participants) -> Tensor | None:
        """(B, T, F), >= 0, what masks are drawn by; None for evenly."""
        maps = self._unprotected(given)
        if self.policy.protect == "none":
            return maps
        if self.spared is None:
            needed = phonetic_change(given.feats, given.lengths)
        else:
            needed = self.spared(given).to(given.feats)
        # Evenly, but for what is spared: the control of a map that is protected.
        maps = torch.ones_like(given.feats) if maps is None else maps
        return protect(maps, needed, self.policy.protect_strength)

    def _unprotected(self, given: Participants) -> Tensor | None:
        if self.source is None:
            return energy(given.feats, given.lengths) if self.method == "energy" else None
        maps = self.source(given)
        if self.method in DERIVED:
            # Those without a map of their own get random masks here too.
            has_map = maps.amax(dim=(1, 2), keepdim=True) > 0
            maps = DERIVED[self.method](maps, given.lengths) * has_map
        return maps

    def _take(self, batch: int) -> tuple[list[str] | None, dict[str, Tensor]]:
        """What `receive` was given for this batch, each stream checked to be there."""
        ids, streams = self._received or (None, {})
        self._received = None
        if ids is not None and len(ids) != batch:
            raise UserError(
                f"specaug saliency: utterance ids and streams of a batch of {len(ids)} came before "
                f"features of a batch of {batch}; start ESPnet by python -m espnet_saliency"
            )
        if self.method == "frozen" and ids is None:
            raise UserError(
                "specaug_conf.method: frozen needs the utterance ids; start ESPnet's training by "
                "python -m espnet_saliency"
            )
        wanted = {name: streams[name] for name in self.needed_streams if name in streams}
        for name in self.needed_streams:
            if name not in wanted:
                stream = name.removesuffix("_lengths")
                option = {
                    "accent": f"target: {self.target}",
                    "saliency": "stored_maps",
                    "phonetic": "protect: recogniser",
                }[stream]
                raise UserError(
                    f"specaug_conf.{option} needs the data stream {stream}, and this batch has "
                    "none: start ESPnet's training by python -m espnet_saliency, with "
                    f"--train_data_path_and_name_and_type {STREAMS[stream]}"
                )
        return ids, wanted


def stock_specaug(options: dict, where: str = "specaug_conf") -> SpecAug:
    """ESPnet's SpecAug.

    Args:
        options: its arguments.
        where: the key that they stand under, for messages.

    Raises:
        UserError: it refuses them.
    """
    if not isinstance(options, dict):
        raise UserError(f"{where}: {options!r} is no mapping of options to values")
    try:
        return SpecAug(**options)
    except Exception as error:  # its checks raise TypeError, ValueError, assertions and typeguard's
        reason = " ".join(str(error).split()).rpartition("__init__() ")[2]
        raise UserError(f"{where}: {reason or type(error).__name__}") from error
