"""Stored maps: made once for a training set, read by ESPnet as one more data stream.

The classifier hears features that nothing has augmented, so an utterance's map never changes. It is
kept at the resolution of the layer, scaled to [0, 1], in 8 bits (kaldiio's compressed matrices), a
few hundred bytes to a few kB an utterance:

    <folder>/maps.scp             utterance -> place in an archive; ESPnet's `…,saliency,kaldi_ark`
    <folder>/parts/maps.N.ark     the archives, 200 utterances each, with their own .scp
    <folder>/maps.json            what they are maps of; written last

A map of zeros says nothing, and its utterance gets random masks: where the true accent is not known
or the classifier is in doubt (`min_confidence`).
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Iterator, Sequence

import kaldiio
import torch
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress
from espnet_saliency.saliency.cam import class_activation, scale01, upsample
from espnet_saliency.saliency.heldout import Labelled, batches
from espnet_saliency.saliency.map_settings import MapSettings
from espnet_saliency.saliency.targets import contrast

FORMAT = 1
CHUNK = 200
"""Utterances of one archive: what is done again after a kill, at most, for each process."""

_ZERO_ONE = 7
"""Kaldi's kOneByteZeroOne: one byte a value, 0 to 255 for 0 to 1."""


def write_maps(
    path: Path,
    data: Path,
    folder: Path,
    settings: MapSettings = MapSettings(),
    device: str = "cpu",
    nj: int = 1,
) -> dict[str, Any]:
    """Store the maps of a dump folder's utterances; what an earlier run has finished is kept.

    Args:
        path: the accent classifier's experiment folder.
        data: dump folder with wav.scp, utt2num_samples and, for the true accents, utt2accent.
        folder: where they go.
        settings: what maps.
        device: where the classifier runs.
        nj: processes (one, on a GPU).

    Returns:
        The content of maps.json: settings, "digest" of the classifier, "features", "accents",
        "stride", "count", "without_map" (utterances whose map is zero by choice) and "format".

    Raises:
        UserError: the classifier or an audio file cannot be read; a target that cannot be stored.
    """
    if not settings.storable:
        raise UserError(f"target {settings.target} is drawn anew each time: its maps cannot be stored")
    classifier = AccentClassifier.load(path)
    about = {
        "format": FORMAT,
        **dataclasses.asdict(settings),
        "digest": classifier.digest,
        "features": dataclasses.asdict(classifier.features),
        "accents": list(classifier.accents),
    }
    about = json.loads(json.dumps(about))  # as it will be read
    utterances = _utterances(data, classifier)
    parts = folder / "parts"
    _start_anew_unless(folder, {**about, "utterances": [[u.utt_id, u.samples, u.accent] for u in utterances]})
    chunks = [utterances[n : n + CHUNK] for n in range(0, len(utterances), CHUNK)]
    todo = [n for n in range(len(chunks)) if not (parts / f"maps.{n}.scp").exists()]
    seconds = sum(u.samples for u in utterances) / classifier.features.fs
    with Progress(f"maps of {data.name} ({seconds / 3600:.1f} h)", len(utterances)) as progress:
        progress.advance(sum(len(chunks[n]) for n in range(len(chunks)) if n not in todo))
        for n in _work(todo, chunks, classifier, settings, parts, device, nj):
            progress.advance(len(chunks[n]))
    lines: list[str] = []
    without = 0
    for n in range(len(chunks)):
        lines += (parts / f"maps.{n}.scp").read_text(encoding="utf-8").splitlines(keepends=True)
        without += int((parts / f"maps.{n}.without").read_text())
    with atomic_file(folder / "maps.scp") as handle:
        handle.writelines(sorted(lines))
    about |= {"stride": _stride(classifier, settings, device), "count": len(lines)}
    about["without_map"] = without
    with atomic_file(folder / "maps.json") as handle:
        json.dump(about, handle, indent=1, sort_keys=True)
    return about


def _utterances(data: Path, classifier: AccentClassifier) -> list[Labelled]:
    wav, samples = read_table(data / "wav.scp"), read_table(data / "utt2num_samples")
    table = data / "utt2accent"
    accents = read_table(table) if table.exists() else {}
    index = {accent: number for number, accent in enumerate(classifier.accents)}
    missing = sorted(wav.keys() - samples.keys())
    if missing:
        raise UserError(f"{data / 'utt2num_samples'}: {missing[0]} of wav.scp is missing; redo stage 3")
    return [
        Labelled(utt_id, "", index.get(accents.get(utt_id, ""), -1), wav[utt_id], int(samples[utt_id]))
        for utt_id in sorted(wav)
    ]


def _start_anew_unless(folder: Path, plan: dict[str, Any]) -> None:
    """Keep the parts of an earlier run of the same plan; remove those of another."""
    note = folder / "parts" / "plan.json"
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) == plan:
        return
    for path in [folder / "maps.json", folder / "maps.scp", *sorted((folder / "parts").glob("*"))]:
        path.unlink(missing_ok=True)
    with atomic_file(note) as handle:
        json.dump(plan, handle)


def _work(todo, chunks, classifier, settings, parts, device, nj) -> Iterator[int]:
    """Write the chunks `todo`, yielding each as it is done."""
    if nj == 1 or device != "cpu" or len(todo) < 2:
        for n in todo:
            _write_chunk(n, chunks[n], classifier, settings, parts, device)
            yield n
        return
    # Forks share the classifier; it is small, and nothing here has started threads of its own.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(nj, len(todo)), mp_context=context) as pool:
        jobs = [
            pool.submit(_write_chunk, n, chunks[n], classifier, settings, parts, device)
            for n in todo
        ]
        for job in as_completed(jobs):
            yield job.result()


def _write_chunk(n, utterances, classifier, settings, parts, device) -> int:
    torch.set_num_threads(1)
    maps: dict[str, Any] = {}
    without = 0
    classifier = classifier.to(device)
    for batch in batches(utterances, classifier, device):
        low, trusted = low_maps(classifier, batch.feats, batch.lengths, batch.accents, settings)
        if not torch.isfinite(low.map).all():
            raise UserError(
                f"the maps of {batch.utterances[0].utt_id} and others are NaN: the classifier is "
                "broken; train it anew"
            )
        without += int((~trusted).sum())
        for one, utterance, cells in zip(low.map.cpu().numpy(), batch.utterances, low.lengths.tolist()):
            maps[utterance.utt_id] = one[:cells].copy()
    ark, scp = parts / f"maps.{n}.ark", parts / f"maps.{n}.scp"
    places: dict[str, int] = {}
    with atomic_file(ark, "wb") as handle:
        for utt_id in sorted(maps):
            # The place of a matrix is where its data begin, behind the id and a blank.
            places[utt_id] = handle.tell() + len(utt_id.encode()) + 1
            kaldiio.save_ark(handle, {utt_id: maps[utt_id]}, compression_method=_ZERO_ONE)
    with atomic_file(parts / f"maps.{n}.without") as handle:
        handle.write(str(without))
    with atomic_file(scp) as handle:  # last: it says that the part is whole
        handle.writelines(f"{utt_id} {ark.absolute()}:{place}\n" for utt_id, place in places.items())
    return n


def low_maps(
    classifier: AccentClassifier,
    feats: Tensor,
    lengths: Tensor,
    accents: Tensor,
    settings: MapSettings,
):
    """Maps of a batch at the layer's resolution, in [0, 1].

    Args:
        classifier: the accent classifier.
        feats: (B, T, F), log-mel, not normalised.
        lengths: (B,), valid frames.
        accents: (B,), true accents, -1 where unknown.
        settings: what maps.

    Returns:
        `cam.ClassActivation` with the scaled map; (B,) bool, false where it is zero by choice.
    """
    target = None
    if settings.target == "true":
        target = accents.clamp_min(0)
    elif settings.target == "contrast":
        if settings.reference_accent not in classifier.accents:
            raise UserError(
                f"specaug_conf.reference_accent: {settings.reference_accent!r} is not one of "
                f"{', '.join(classifier.accents)}"
            )
        target = contrast(classifier.accents.index(settings.reference_accent))
    with torch.no_grad():
        cam = class_activation(classifier, feats, lengths, target, settings.method, settings.layer)
        trusted = torch.ones_like(lengths, dtype=torch.bool)
        if settings.target == "true":
            trusted &= accents >= 0
        if settings.min_confidence > 0:
            posterior = cam.logits.softmax(dim=-1).gather(1, cam.target[:, None])[:, 0]
            trusted &= posterior >= settings.min_confidence
        low = scale01(cam.map, cam.lengths) * trusted[:, None, None]
    return cam._replace(map=low), trusted


def _stride(classifier: AccentClassifier, settings: MapSettings, device: str) -> list[int]:
    # Of a blank long enough to tell: a short utterance fits several strides.
    blank = torch.zeros(1, 1024, classifier.features.n_mels, device=device)
    lengths = torch.tensor([blank.size(1)], device=device)
    layer = settings.layer
    return list(class_activation(classifier, blank, lengths, method=settings.method, layer=layer).stride)


class MapArchive:
    """Stored maps, as the augmentation reads them back from ESPnet's data stream."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder = folder
        self.digest: str = about["digest"]
        self.features = FeatureSettings(**about["features"])
        self.method: str = about["method"]
        layer = about["layer"]
        self.layer: str | tuple[str, ...] | None = tuple(layer) if isinstance(layer, list) else layer
        self.target: str = about["target"]
        self.reference_accent: str | None = about["reference_accent"]
        self.accents = tuple(about["accents"])
        self.stride = tuple(about["stride"])

    @classmethod
    def open(cls, folder: Path) -> MapArchive:
        """Read maps.json.

        Raises:
            UserError: there are no finished maps, or they are of another format.
        """
        path = Path(folder) / "maps.json"
        if not path.exists():
            raise UserError(f"{folder}: no stored maps there (no maps.json): make them with stage 9")
        about = json.loads(path.read_text(encoding="utf-8"))
        if about.get("format") != FORMAT:
            raise UserError(
                f"{path}: format {about.get('format')}, this version reads {FORMAT}: make the maps "
                "anew with stage 9"
            )
        return cls(Path(folder), about)

    def check(self, digest: str) -> None:
        """Refuse maps of another classifier than the one with this digest."""
        if digest != self.digest:
            raise UserError(
                f"{self.folder}: maps of another classifier (digest {self.digest[:12]}, asked for "
                f"{digest[:12]}): make them anew with stage 9"
            )

    def bind(self, features: FeatureSettings) -> None:
        """Refuse a recogniser that hears other features than the maps were made of."""
        differences = self.features.difference(features)
        if differences:
            raise UserError(
                f"{self.folder}: the maps were made of other features than the recogniser hears: "
                f"{'; '.join(differences)}; give classifier and recogniser the same frontend_conf"
            )

    def maps(
        self,
        stream: Tensor,
        stream_lengths: Tensor,
        lengths: Tensor,
        size: tuple[int, int],
        names: Sequence[str] | None = None,
    ) -> Tensor:
        """Bring a batch's maps to the features.

        Args:
            stream: (B, T', F') in [0, 1].
            stream_lengths: (B,), valid cells in time.
            lengths: (B,), valid frames of the features.
            size: (T, F) of the features.
            names: what messages call the utterances.

        Returns:
            (B, T, F) in [0, 1], zero in padding.

        Raises:
            UserError: a map is of another length than its utterance, or has other bands.
        """
        bands = -(-size[1] // self.stride[1])
        if stream.dim() != 3 or stream.size(2) != bands:
            raise UserError(
                f"stream saliency: maps of shape {tuple(stream.shape[1:])}, and those of "
                f"{self.folder} have {bands} bands: give its maps.scp"
            )
        lengths = lengths.to(stream.device)
        stream_lengths = stream_lengths.to(stream.device)
        wanted = torch.div(lengths + self.stride[0] - 1, self.stride[0], rounding_mode="floor")
        wrong = (wanted != stream_lengths).nonzero()[:, 0].tolist()
        if wrong:
            one = wrong[0]
            raise UserError(
                f"{self.folder}: the map of {names[one] if names else f'utterance {one + 1}'} has "
                f"{int(stream_lengths[one])} cells in time, its {int(lengths[one])} frames make "
                f"{int(wanted[one])}: it is of other audio; make the maps anew with stage 9"
            )
        return upsample(stream, stream_lengths, lengths, size, self.stride)
