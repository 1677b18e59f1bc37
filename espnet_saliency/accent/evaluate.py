"""Evaluation of an accent classifier on sets of a dump folder: figures, tables and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

import numpy as np
import soundfile
import torch

from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.accent.metrics import Prediction, score
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.progress import Progress

BATCH_SECONDS = 120.0
"""Audio in a batch, padding included; a longer utterance makes a batch of its own."""


def evaluate(
    classifier: AccentClassifier,
    sets: Mapping[str, Path],
    folder: Path,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Recognise the accents of whole sets and write how well that went.

    In `folder`: results.json (what is returned), RESULTS.md, and for each set predictions.tsv and
    confusion.png.

    Args:
        classifier: the classifier.
        sets: name -> dump folder with wav.scp, utt2accent and utt2spk.
        folder: where the files go, e.g. exp/accent_…/eval.
        device: where the classifier runs.
        seed: of the bootstrap.

    Returns:
        {"sets": {name: figures}}, see `metrics.score`.

    Raises:
        UserError: a file is missing, unreadable, or of another sampling rate.
    """
    results: dict[str, Any] = {"sets": {}}
    for name, data in sets.items():
        predictions = predict(classifier, data, name, device)
        results["sets"][name] = score(predictions, classifier.accents, seed)
        _write_predictions(folder / name / "predictions.tsv", predictions, classifier.accents)
        _draw_confusion(folder / name / "confusion.png", name, results["sets"][name])
    with atomic_file(folder / "RESULTS.md") as handle:
        handle.write(markdown(results))
    with atomic_file(folder / "results.json") as handle:
        json.dump(results, handle, indent=1, ensure_ascii=False)
        handle.write("\n")
    return results


def predict(
    classifier: AccentClassifier, data: Path, name: str = "", device: str | torch.device = "cpu"
) -> list[Prediction]:
    """The classifier's predictions for every utterance of a dump folder, in order of id.

    Raises:
        UserError: a file is missing, unreadable, or of another sampling rate.
    """
    wav, accents, speakers = (read_table(data / f) for f in ("wav.scp", "utt2accent", "utt2spk"))
    for table, file in ((accents, "utt2accent"), (speakers, "utt2spk")):
        if table.keys() != wav.keys():
            odd = min(table.keys() ^ wav.keys())
            raise UserError(f"{data}: wav.scp and {file} disagree on {odd}; format the audio again")
    classifier = classifier.to(device)
    predictions = []
    with Progress(f"recognising accents of {name or data.name}", len(wav)) as progress:
        for batch in _batches(data, wav, classifier.features.fs):
            speech, lengths = _read_batch([wav[utt_id] for utt_id in batch], classifier.features)
            with torch.inference_mode():
                feats, frames = classifier.frontend(speech.to(device), lengths.to(device))
                posteriors = classifier(feats, frames).softmax(dim=-1).cpu()
            for utt_id, posterior in zip(batch, posteriors):
                predictions.append(
                    Prediction(
                        utt_id,
                        speakers[utt_id],
                        accents[utt_id],
                        classifier.accents[int(posterior.argmax())],
                        tuple(posterior.tolist()),
                    )
                )
            progress.advance(len(batch))
    return sorted(predictions, key=lambda p: p.utt_id)


def _batches(data: Path, wav: Mapping[str, str], fs: int) -> Iterator[list[str]]:
    """Utterance ids in batches of similar length."""
    if (data / "utt2num_samples").exists():
        samples = {utt_id: int(n) for utt_id, n in read_table(data / "utt2num_samples").items()}
    else:
        samples = {utt_id: _open(path, fs).frames for utt_id, path in wav.items()}
    batch: list[str] = []
    for utt_id in sorted(wav, key=lambda utt_id: (samples[utt_id], utt_id)):
        # In order of length, this one is the longest.
        if batch and (len(batch) + 1) * samples[utt_id] > BATCH_SECONDS * fs:
            yield batch
            batch = []
        batch.append(utt_id)
    if batch:
        yield batch


def _open(path: str, fs: int) -> Any:
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(
            f"{path}: not readable as audio; format the audio again (stage 3)"
        ) from error
    if info.samplerate != fs:
        raise UserError(
            f"{path}: {info.samplerate} Hz, but the classifier hears {fs} Hz; format the audio "
            "(stage 3)"
        )
    return info


def _read_batch(
    paths: Sequence[str], features: FeatureSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Audio files -> (B, samples), zero-padded, and lengths (B,)."""
    waves = []
    for path in paths:
        _open(path, features.fs)
        wave, _ = soundfile.read(path, dtype="float32", always_2d=True)
        waves.append(torch.from_numpy(wave[:, 0]))
    lengths = torch.tensor([len(wave) for wave in waves])
    speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    # The transform reflects half a window at each end, and so takes no audio shorter than that.
    missing = max(0, features.n_fft - speech.size(1))
    return torch.nn.functional.pad(speech, (0, missing)), lengths


def warnings(results: Mapping[str, Any]) -> list[str]:
    """One line for each set whose accents the classifier does not tell apart; print them loudly."""
    return [
        f"{name}: balanced accuracy {_percent(r['balanced_accuracy'])} % [{_percent(r['low'])}, "
        f"{_percent(r['high'])}] over {r['speakers']} speakers is near chance "
        f"({_percent(r['chance'])} %): this classifier's saliency maps do not show accents"
        for name, r in results["sets"].items()
        if r["near_chance"]
    ]


def markdown(results: Mapping[str, Any]) -> str:
    """The figures as a page: a table of sets, and for each set tables of accents and confusions."""
    lines = [
        "# Accent classifier",
        "",
        "|set|utterances|speakers|accents|accuracy %|balanced %|95 % interval|macro F1 %|chance %|",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in results["sets"].items():
        row = [name, r["utterances"], r["speakers"], len(r["per_accent"]), _percent(r["accuracy"])]
        row += [_percent(r["balanced_accuracy"]), f"{_percent(r['low'])} to {_percent(r['high'])}"]
        row += [_percent(r["macro_f1"]), _percent(r["chance"])]
        lines.append("|" + "|".join(map(str, row)) + "|")
    lines += ["", "Balanced: mean recall over accents. Interval: bootstrap over speakers.", ""]
    lines += [f"**{line}**\n" for line in warnings(results)]
    for name, r in results["sets"].items():
        lines += ["", f"## {name}", ""]
        if r["per_accent"]:
            lines += ["|accent|utterances|precision %|recall %|F1 %|", "|---|---|---|---|---|"]
            for accent, a in r["per_accent"].items():
                rates = "|".join(_percent(a[key]) for key in ("precision", "recall", "f1"))
                lines.append(f"|{accent}|{a['support']}|{rates}|")
            accents = r["confusion"]["accents"]
            lines += ["", "|true \\ predicted|" + "|".join(accents) + "|"]
            lines.append("|---" * (len(accents) + 1) + "|")
            for accent, row in zip(accents, r["confusion"]["counts"]):
                if accent in r["per_accent"]:
                    lines.append(f"|{accent}|" + "|".join(map(str, row)) + "|")
        if r["unknown_accents"]:
            lines += ["", "Accents that it does not know, and what it took them for:", ""]
            for accent, u in r["unknown_accents"].items():
                taken = sorted(u["predicted"].items(), key=lambda item: (-item[1], item[0]))
                said = ", ".join(f"{predicted} {count}" for predicted, count in taken)
                lines.append(f"- {accent} ({u['utterances']} utterances): {said}")
    return "\n".join(lines) + "\n"


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}"


def _write_predictions(
    path: Path, predictions: Sequence[Prediction], accents: Sequence[str]
) -> None:
    with atomic_file(path) as handle:
        handle.write("\t".join(["utt_id", "speaker", "accent", "predicted", *accents]) + "\n")
        for p in predictions:
            posterior = [f"{value:.4f}" for value in p.posterior]
            handle.write("\t".join([p.utt_id, p.speaker, p.accent, p.predicted, *posterior]) + "\n")


def _draw_confusion(path: Path, name: str, result: Mapping[str, Any]) -> None:
    """Rows are true accents, as shares of each row; those that the classifier lacks come last."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    accents = result["confusion"]["accents"]
    rows = {
        accent: counts
        for accent, counts in zip(accents, result["confusion"]["counts"])
        if accent in result["per_accent"]
    }
    for accent, unknown in result["unknown_accents"].items():
        title = f"({accent})"
        rows[title] = [unknown["predicted"].get(predicted, 0) for predicted in accents]
    counts = np.array(list(rows.values()), dtype=float).reshape(len(rows), len(accents))
    shares = counts / counts.sum(axis=1, keepdims=True)
    figure = Figure((3 + 0.45 * len(accents), 2 + 0.4 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if rows:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(accents)), accents, rotation=60, ha="right", parse_math=False)
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (in brackets: not in training)")
    axes.set_title(f"{name}: share of the row in %", fontsize=10)
    for i, j in np.ndindex(shares.shape):
        if counts[i, j]:
            colour = "white" if shares[i, j] > 0.5 else "black"
            text = f"{100 * shares[i, j]:.0f}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=110)
