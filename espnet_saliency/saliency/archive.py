"""Archives of maps: one low-resolution 8-bit map an utterance, written once for a training set.

What makes the maps hears features that nothing has augmented, so an utterance's map never changes.
It is scaled to [0, 1] and kept in 8 bits (kaldiio's compressed matrices), a few hundred bytes to a
few kB an utterance:

    <folder>/maps.scp             utterance -> place in an archive; ESPnet's `…,<stream>,kaldi_ark`
    <folder>/parts/maps.N.ark     the archives, 200 utterances each, with their own .scp
    <folder>/maps.json            what they are maps of; written last

Two kinds: what gives an accent away (`stored`), and what the words need (`stored_phonetic`).
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, ClassVar, Iterator, Mapping, NamedTuple, Protocol, Self, Sequence

import kaldiio
import torch
from torch import Tensor, nn

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress
from espnet_saliency.saliency.heldout import Batch, Labelled, batches
from espnet_saliency.saliency.maps import upsample

FORMAT = 1
CHUNK = 200
"""Utterances of one archive: what is done again after a kill, at most, for each process."""

_ZERO_ONE = 7
"""Kaldi's kOneByteZeroOne: one byte a value, 0 to 255 for 0 to 1."""


class LowMaps(NamedTuple):
    """Maps of a batch at the resolution that they are kept at."""

    maps: Tensor
    """(B, T', F') in [0, 1]."""
    lengths: Tensor
    """(B,), valid cells in time."""
    without: int
    """Utterances whose map is zero by choice."""


class Maker(Protocol):
    """What makes the maps of an archive."""

    title: str
    """What the console calls them: "maps"."""
    made_by: str
    """What messages call `network`: "classifier"."""
    network: nn.Module
    """Has `features` (FeatureSettings) and a `frontend`; one copy a process."""
    about: dict[str, Any]
    """What they are maps of, as maps.json holds it; maps of anything else are made anew."""

    def __call__(self, batch: Batch) -> LowMaps:
        """The maps of a batch."""

    def measure(self, device: str) -> dict[str, Any]:
        """What maps.json holds beside `about` and has to be computed: "stride"."""


def write_archive(
    maker: Maker, utterances: list[Labelled], data: Path, folder: Path, device: str, nj: int
) -> dict[str, Any]:
    """Store the maps of `utterances`; what an earlier run has finished of the same maps is kept.

    Args:
        maker: what makes them.
        utterances: in order of id.
        data: the dump folder that they are of.
        folder: where they go.
        device: where the network runs.
        nj: processes (one, on a GPU).

    Returns:
        The content of maps.json: `maker.about`, "features", "format", "stride", "count" and
        "without_map" (utterances whose map is zero by choice).

    Raises:
        UserError: an audio file cannot be read, or a map is NaN.
    """
    features = maker.network.features
    about = {"format": FORMAT, "features": dataclasses.asdict(features), **maker.about}
    about = json.loads(json.dumps(about))  # as it will be read
    parts = folder / "parts"
    audio = [[one.utt_id, one.samples, one.accent] for one in utterances]
    _start_anew_unless(folder, {**about, "utterances": audio})
    chunks = [utterances[n : n + CHUNK] for n in range(0, len(utterances), CHUNK)]
    todo = [n for n in range(len(chunks)) if not (parts / f"maps.{n}.scp").exists()]
    hours = sum(one.samples for one in utterances) / features.fs / 3600
    with Progress(f"{maker.title} of {data.name} ({hours:.1f} h)", len(utterances)) as progress:
        progress.advance(sum(len(chunks[n]) for n in range(len(chunks)) if n not in todo))
        for n in _work(maker, todo, chunks, parts, device, nj):
            progress.advance(len(chunks[n]))
    lines: list[str] = []
    without = 0
    for n in range(len(chunks)):
        lines += (parts / f"maps.{n}.scp").read_text(encoding="utf-8").splitlines(keepends=True)
        without += int((parts / f"maps.{n}.without").read_text())
    with atomic_file(folder / "maps.scp") as handle:
        handle.writelines(sorted(lines))
    about |= {**maker.measure(device), "count": len(lines), "without_map": without}
    with atomic_file(folder / "maps.json") as handle:
        json.dump(about, handle, indent=1, sort_keys=True)
    return about


def read_utterances(data: Path, accents: Mapping[str, int] = {}) -> list[Labelled]:
    """All utterances of a dump folder, in order of id.

    Args:
        data: with wav.scp, utt2num_samples and, where `accents` are asked for, utt2accent.
        accents: number of each accent; -1 stands for any other, and for none.

    Raises:
        UserError: an utterance has no length.
    """
    wav, samples = read_table(data / "wav.scp"), read_table(data / "utt2num_samples")
    table = data / "utt2accent"
    accent_of = read_table(table) if accents and table.exists() else {}
    missing = sorted(wav.keys() - samples.keys())
    if missing:
        raise UserError(
            f"{data / 'utt2num_samples'}: {missing[0]} of wav.scp is missing; redo stage 3"
        )

    def accent(utt_id: str) -> int:
        return accents.get(accent_of.get(utt_id, ""), -1)

    return [
        Labelled(utt_id, "", accent(utt_id), wav[utt_id], int(samples[utt_id]))
        for utt_id in sorted(wav)
    ]


def _start_anew_unless(folder: Path, plan: dict[str, Any]) -> None:
    """Keep the parts of an earlier run of the same plan; remove those of another."""
    note = folder / "parts" / "plan.json"
    try:
        if json.loads(note.read_text(encoding="utf-8")) == plan:
            return
    except (FileNotFoundError, ValueError):
        pass  # nothing there, or nothing that can be told to be of the same plan
    for path in [folder / "maps.json", folder / "maps.scp", *sorted((folder / "parts").glob("*"))]:
        path.unlink(missing_ok=True)
    with atomic_file(note) as handle:
        json.dump(plan, handle)


def _work(
    maker: Maker, todo: list[int], chunks: list[list[Labelled]], parts: Path, device: str, nj: int
) -> Iterator[int]:
    """Write the chunks `todo`, yielding each as it is done."""
    if nj == 1 or device != "cpu" or len(todo) < 2:
        for n in todo:
            yield _write_chunk(n, chunks[n], maker, parts, device)
        return
    # Forks share the network; it is small, and nothing here has started threads of its own.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(nj, len(todo)), context, _take_over, (maker,)) as pool:
        jobs = [pool.submit(_write_chunk, n, chunks[n], None, parts, device) for n in todo]
        for job in as_completed(jobs):
            yield job.result()


_in_fork: Maker | None = None
"""What a fork has taken over: a network is not pickled for each chunk, nor need it be picklable."""


def _take_over(maker: Maker) -> None:
    global _in_fork
    _in_fork = maker


def _write_chunk(
    n: int, utterances: list[Labelled], maker: Maker | None, parts: Path, device: str
) -> int:
    torch.set_num_threads(1)
    maker = maker or _in_fork
    maps: dict[str, Any] = {}
    without = 0
    maker.network.to(device)
    for batch in batches(utterances, maker.network, device):
        low = maker(batch)
        if not torch.isfinite(low.maps).all():
            raise UserError(
                f"the maps of {batch.utterances[0].utt_id} and others are NaN: the "
                f"{maker.made_by} is broken; train it anew"
            )
        without += low.without
        cells = low.lengths.tolist()
        for one, utterance, valid in zip(low.maps.cpu().numpy(), batch.utterances, cells):
            maps[utterance.utt_id] = one[:valid].copy()
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
        where = ark.absolute()
        handle.writelines(f"{utt_id} {where}:{place}\n" for utt_id, place in places.items())
    return n


class Archive:
    """Stored maps, as the augmentation reads them back from ESPnet's data stream."""

    kind: ClassVar[str]
    """What maps.json calls them."""
    stream: ClassVar[str]
    """The data stream that they come as."""
    made_by: ClassVar[str]
    """What messages call the network that they are of."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder = folder
        self.digest: str = about["digest"]
        self.features = FeatureSettings(**about["features"])
        self.stride: tuple[int, int] = tuple(about["stride"])
        self.centre: tuple[float, float] = tuple(about.get("centre", (0.0, 0.0)))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read maps.json.

        Raises:
            UserError: there are no finished maps, or they are of another kind or format.
        """
        path = Path(folder) / "maps.json"
        if not path.exists():
            raise UserError(
                f"{folder}: no stored maps there (no maps.json): make them with stage 9"
            )
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            return cls._of(path, about)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: damaged ({error!r}): make the maps anew with stage 9") from error

    @classmethod
    def _of(cls, path: Path, about: dict[str, Any]) -> Self:
        if about.get("format") != FORMAT:
            raise UserError(
                f"{path}: format {about.get('format')}, this version reads {FORMAT}: make the maps "
                "anew with stage 9"
            )
        kind = about.get("kind", "accent")
        if kind != cls.kind:
            raise UserError(
                f"{path.parent}: {kind} maps, where {cls.kind} maps are asked for: stage 9 makes each "
                "kind in a folder of its own"
            )
        return cls(path.parent, about)

    def bind(self, features: FeatureSettings) -> None:
        """Refuse a recogniser that hears other features than the maps were made of."""
        if differences := feature_differences(self.features, self.made_by, features):
            raise UserError(
                f"{self.folder}: the maps were made of other features than the recogniser hears: "
                f"{differences}; give {self.made_by} and recogniser the same frontend_conf"
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
            UserError: a map is of another length than its utterance, has other bands, or values
                outside [0, 1]. Other audio of the same id and length cannot be told.
        """
        bands = -(-size[1] // self.stride[1])
        if stream.dim() != 3 or stream.size(2) != bands:
            raise UserError(
                f"stream {self.stream}: maps of shape {tuple(stream.shape[1:])}, and those of "
                f"{self.folder} have {bands} bands: give its maps.scp"
            )
        if stream.numel() and not (stream.min() >= 0 and stream.max() <= 1):  # NaN is neither
            low, high = float(stream.min()), float(stream.max())
            raise UserError(
                f"stream {self.stream}: values from {low:g} to {high:g}, and maps lie within [0, 1]: give "
                f"{self.folder / 'maps.scp'}"
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
        return upsample(stream, stream_lengths, lengths, size, self.stride, self.centre)


def feature_differences(
    mine: FeatureSettings, made_by: str, recogniser: FeatureSettings
) -> str:
    """What sets features apart: "hop_length: classifier 160, recogniser 128; …"; "" for nothing."""
    theirs = dataclasses.asdict(recogniser)
    return "; ".join(
        f"{name}: {made_by} {value}, recogniser {theirs[name]}"
        for name, value in dataclasses.asdict(mine).items()
        if value != theirs[name]
    )
