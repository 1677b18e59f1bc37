"""Pictures of what a classifier hears: one utterance with map and mask, the average by accent.

    python -m espnet_saliency.saliency.picture AUDIO --classifier exp/accent_… --out picture.png
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.saliency.cam import METHODS, saliency_map
from espnet_saliency.saliency.heldout import Labelled, batches, log_mel, read_audio, read_labelled
from espnet_saliency.saliency.map_settings import map_name
from espnet_saliency.saliency.masking import MaskPolicy, sample_mask

HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16000)
"""Ticks of the frequency axes."""

POSITIONS = 40
"""Parts that the time of an utterance is divided into for averages."""


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a classifier makes of one utterance of T frames and F mel bins."""

    feats: np.ndarray
    """(T, F), log-mel, natural logarithm."""
    saliency: np.ndarray
    """(T, F), in [0, 1]."""
    mask: np.ndarray
    """(T, F) bool, one draw of the mask."""
    accent: str
    """The accent that was heard."""
    posterior: float
    """Its probability."""


def explain(
    classifier: AccentClassifier,
    feats: Tensor,
    policy: MaskPolicy = MaskPolicy(),
    seed: int = 0,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> Explanation:
    """Map and one mask of an utterance.

    Args:
        classifier: the accent classifier.
        feats: (T, F), log-mel, not normalised.
        policy: as in training, but that the utterance always takes part.
        seed: of the mask.
        method, layer: of the map, see `cam.class_activation`.

    Raises:
        UserError: an unknown method or layer.
    """
    policy = dataclasses.replace(policy, apply_prob=1.0)
    generator = torch.Generator().manual_seed(seed)
    batch, lengths = feats[None], torch.tensor([len(feats)], device=feats.device)
    with torch.no_grad():
        saliency, cam = saliency_map(classifier, batch, lengths, method=method, layer=layer)
        mask = sample_mask(saliency, lengths, tuple(feats.shape), policy, generator)
    posterior = cam.logits.softmax(dim=-1)[0]
    heard = int(posterior.argmax())
    arrays = (tensor[0].cpu().numpy() for tensor in (batch, saliency, mask))
    return Explanation(*arrays, classifier.accents[heard], float(posterior[heard]))


def caption(
    explanation: Explanation, name: str, accent: str | None = None, maps: str = ""
) -> str:
    """One line: what is shown, what was heard, how much the mask hides, and `map_name`."""
    truth = "" if accent is None else f" ({accent})"
    return (
        f"{name}{truth}: heard as {explanation.accent} ({100 * explanation.posterior:.0f} %), "
        f"{100 * explanation.mask.mean():.0f} % masked{maps and f', {maps}'}"
    )


def draw_utterance(
    explanation: Explanation, features: FeatureSettings, title: str, path: Path
) -> None:
    """Three panels as a PNG: log-mel, map, and log-mel with one mask; axes in s and Hz."""
    figure = _figure(7.0, 6.6)
    panels = figure.subplots(3, 1, sharex=True)
    frames = len(explanation.feats)
    extent = (0.0, frames * features.hop_length / features.fs, -0.5, features.n_mels - 0.5)
    shown = dict(origin="lower", aspect="auto", extent=extent, interpolation="nearest")
    low, high = np.percentile(explanation.feats, [2, 99.5])
    grey = dict(cmap="gray_r", vmin=low, vmax=high, **shown)
    panels[0].imshow(explanation.feats.T, **grey)
    panels[0].set_title("log-mel spectrogram", fontsize=10)
    panels[1].imshow(explanation.feats.T, **grey)
    shades = panels[1].imshow(
        explanation.saliency.T, cmap="magma", vmin=0, vmax=1, alpha=0.75, **shown
    )
    panels[1].set_title(f"what says “{explanation.accent}”", fontsize=10, parse_math=False)
    figure.colorbar(shades, ax=panels[1], pad=0.01, label="saliency")
    panels[2].imshow(explanation.feats.T, **grey)
    hidden = np.ma.masked_where(~explanation.mask, np.ones_like(explanation.feats))
    panels[2].imshow(hidden.T, cmap="Blues", vmin=0, vmax=1.4, alpha=0.8, **shown)
    panels[2].set_title("one draw of the mask", fontsize=10)
    panels[2].set_xlabel("time, s")
    positions, labels = _mel_ticks(features)
    for panel in panels:
        panel.set_yticks(positions, labels)
        panel.set_ylabel("frequency, Hz")
    figure.suptitle(title, fontsize=10, parse_math=False)  # a $ in a name is no formula
    _save(figure, path)


def accent_averages(
    classifier: AccentClassifier,
    utterances: Sequence[Labelled],
    device: str = "cpu",
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Average map of each accent's utterances, for their true accent: (POSITIONS, F).

    The time of an utterance is divided into POSITIONS parts; the value of a part is the mean of the
    map over it, so that the mean over positions is the mean over time. An utterance counts as one,
    however long it is.
    """
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    for batch in batches(list(utterances), classifier, device):
        maps, _ = saliency_map(
            classifier, batch.feats, batch.lengths, batch.accents, method, layer
        )
        for accent, one, length in zip(batch.accents.tolist(), maps, batch.lengths.tolist()):
            parts = over_positions(one[:length].double().cpu().numpy())
            sums[accent] = sums.get(accent, 0.0) + parts
            counts[accent] = counts.get(accent, 0) + 1
    return {classifier.accents[accent]: sums[accent] / counts[accent] for accent in sorted(sums)}


def over_positions(values: np.ndarray) -> np.ndarray:
    """(T, F) -> (POSITIONS, F), means over equal parts of the time; T may be less than POSITIONS."""
    integral = np.vstack([np.zeros(values.shape[1]), values.cumsum(axis=0)])
    edges = np.linspace(0, len(values), POSITIONS + 1)
    at = np.stack([np.interp(edges, np.arange(len(integral)), column) for column in integral.T], 1)
    return np.diff(at, axis=0) * POSITIONS / len(values)


def draw_averages(averages: dict[str, np.ndarray], features: FeatureSettings, path: Path) -> None:
    """Average saliency of each accent over frequency and position, and over frequency alone."""
    columns = min(4, len(averages))
    rows = -(-len(averages) // columns)
    profiles = {accent: average.mean(axis=0) for accent, average in averages.items()}
    figure = _figure(2.6 * columns + 0.8, 2.0 * rows + 1.4 + 0.28 * len(averages))
    above, below = figure.subfigures(2, 1, height_ratios=(2.0 * rows, 1.4 + 0.28 * len(averages)))
    ticks = _mel_ticks(features)
    panels = above.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    highest = max(average.max() for average in averages.values())
    for panel, (accent, average) in zip(panels.flat, averages.items()):
        shades = panel.imshow(
            average.T, origin="lower", aspect="auto", cmap="magma", vmin=0.0, vmax=highest,
            extent=(0, 100, -0.5, features.n_mels - 0.5),
        )  # fmt: skip
        panel.set_title(accent, fontsize=9, parse_math=False)
        panel.set_yticks(*ticks, fontsize=7)
    for panel in panels.flat[len(averages) :]:
        panel.set_axis_off()
    above.supxlabel("position in the utterance, %", fontsize=9)
    above.supylabel("frequency, Hz", fontsize=9)
    above.colorbar(shades, ax=panels, label="saliency")
    axes = below.subplots()
    shades = axes.imshow(
        np.stack(list(profiles.values())), aspect="auto", cmap="magma", interpolation="nearest"
    )
    axes.set_yticks(range(len(profiles)), list(profiles), parse_math=False)
    axes.set_xticks(*ticks)
    axes.set_xlabel("frequency, Hz")
    axes.set_title("where each accent is heard, average over time and utterances", fontsize=10)
    below.colorbar(shades, ax=axes, label="saliency")
    _save(figure, path)


def draw_pictures(
    classifier: AccentClassifier,
    data: Path,
    folder: Path,
    policy: MaskPolicy = MaskPolicy(),
    limit: int | None = 1000,
    device: str = "cpu",
    seed: int = 0,
    method: str = "grad_cam",
    layer: str | Sequence[str] | None = None,
) -> list[dict[str, str]]:
    """Pictures of a set: the first utterance of each accent, and the average by accent.

    Args:
        classifier: the accent classifier.
        data: dump folder of the set.
        folder: where the PNG files go.
        policy: of the masks that are shown.
        limit: utterances that the average is taken over, evenly spaced.
        device: where the classifier runs.
        seed: of the masks.
        method, layer: of the maps, see `cam.class_activation`.

    Returns:
        [{"png": path, "caption": text}, …], the average first.

    Raises:
        UserError: no utterance of an accent that the classifier knows; a file that cannot be read;
            an unknown method or layer.
    """
    classifier = classifier.to(device)
    utterances, _ = read_labelled(data, classifier, limit)
    path = folder / "average_by_accent.png"
    maps = map_name(method, layer)
    averages = accent_averages(classifier, utterances, device, method, layer)
    draw_averages(averages, classifier.features, path)
    pictures = [
        {
            "png": str(path),
            "caption": "Average saliency of each accent over frequency and position in the "
            f"utterance, {len(utterances)} utterances of {data.name}{maps and f', {maps}'}",
        }
    ]
    first: dict[int, Labelled] = {}
    for one in utterances:
        first.setdefault(one.accent, one)
    for number in sorted(first):
        one, accent = first[number], classifier.accents[number]
        wave = read_audio(one.path, classifier.features.fs)
        feats, lengths = log_mel(classifier, [wave], device)
        explanation = explain(classifier, feats[0, : lengths[0]], policy, seed, method, layer)
        title = caption(explanation, one.utt_id, accent, maps)
        path = folder / f"example_{number:02d}.png"
        draw_utterance(explanation, classifier.features, title, path)
        pictures.append({"png": str(path), "caption": title})
    return pictures


def _mel_ticks(features: FeatureSettings) -> tuple[list[float], list[str]]:
    """Positions in mel bins and names of HERTZ within the range of the features."""
    import librosa

    edges = librosa.mel_frequencies(
        features.n_mels + 2, fmin=features.fmin, fmax=features.fmax, htk=features.htk
    )
    ticks = [hertz for hertz in HERTZ if edges[1] <= hertz <= features.fmax]
    positions = np.interp(ticks, edges[1:-1], np.arange(features.n_mels))
    return positions.tolist(), [str(hertz) for hertz in ticks]


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> None:
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=110)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one file; 2 where the user has to mend something."""
    parser = argparse.ArgumentParser(
        prog="python -m espnet_saliency.saliency.picture",
        description="Draw what an accent classifier hears in one audio file, and one mask of it.",
    )
    parser.add_argument("audio", type=Path, help="audio file, mono or its first channel")
    parser.add_argument("--classifier", required=True, help="experiment folder of the classifier")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mask")
    parser.add_argument("--method", default="grad_cam", help=f"of the map: {', '.join(METHODS)}")
    parser.add_argument(
        "--layer",
        action="append",
        help="of the map, the classifier's last one without it; more than one, by commas or by "
        "giving the option again, are averaged",
    )
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(",".join(options.layer or ()).split(",")))
    layer = None if options.layer is None else names if len(names) > 1 else names[0]
    try:
        if options.out.suffix.lower() != ".png":
            raise UserError(f"--out {options.out}: a PNG is written: give a name that ends in .png")
        if not -(2**63) <= options.seed < 2**64:
            raise UserError(f"--seed {options.seed}: more than 64 bits: give a smaller number")
        if not options.audio.is_file():
            raise UserError(f"{options.audio}: no such audio file")
        classifier = AccentClassifier.load(options.classifier)
        wave = read_audio(options.audio, classifier.features.fs)
        feats, lengths = log_mel(classifier, [wave])
        feats = feats[0, : lengths[0]]
        explanation = explain(
            classifier, feats, seed=options.seed, method=options.method, layer=layer
        )
        title = caption(explanation, options.audio.name, maps=map_name(options.method, layer))
        try:
            draw_utterance(explanation, classifier.features, title, options.out)
        except OSError as error:
            raise UserError(f"--out {options.out}: cannot be written: {error.strerror}") from error
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.out}: {title}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
