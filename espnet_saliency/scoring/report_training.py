"""How the arms trained: learning curves and exact commands, read from the logs of the trainings."""

from __future__ import annotations

import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

from espnet_saliency.scoring.charts import SHAPES, Curve, Series, line_chart, number
from espnet_saliency.scoring.report_cells import Cell, Column, Table, links
from espnet_saliency.scoring.report_figures import Figure, arm_series, legend
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_section import Block, Section
from espnet_saliency.scoring.report_words import arm_title

LOG = "train.log"
_EPOCH = re.compile(r"(\d+)epoch results: .*\[valid\]([^\[]*)")
_FIGURES = {"loss": ("Validation loss", 1.0, ""), "acc": ("Validation accuracy", 100.0, ", %")}


@dataclass(frozen=True)
class TrainingLog:
    """What ESPnet's log says of one training."""

    command: str
    """The program that ran, last started; "" where the log does not say."""
    epochs: Mapping[int, Mapping[str, float]]
    """Epoch -> figures on the validation set that are numbers: loss, acc, cer_ctc, …"""


def read_log(path: Path) -> TrainingLog:
    """Read an ESPnet training's log; of an epoch that was trained twice the last counts."""
    command, before = "", ""
    epochs: dict[int, dict[str, float]] = {}
    with open(path, encoding="utf-8", errors="replace") as handle:
        for line in handle:
            if line.startswith("# started ") and before.startswith("# "):
                command = before[2:].strip()
            before = line
            match = _EPOCH.search(line)
            if match:
                found = re.findall(r"\b(\w+)=([-+\w.]+)", match[2])
                figures = {name: value for name, text in found for value in [_number(text)]}
                epochs[int(match[1])] = {k: v for k, v in figures.items() if math.isfinite(v)}
    return TrainingLog(command, dict(sorted(epochs.items())))


def training_logs(inputs: ReportInputs) -> dict[str, list[tuple[str, Path, TrainingLog]]]:
    """Arm -> (label, path, log) of its trainings that left a log, one a seed."""
    found: dict[str, list[tuple[str, Path, TrainingLog]]] = {}
    for arm in inputs.arms:
        folders = inputs.experiments(arm)
        labels = [f"{arm}, seed {seed}" for seed in inputs.seeds] if len(folders) > 1 else [arm]
        for label, folder in zip(labels, folders):
            path = folder / LOG
            if path.is_file():
                found.setdefault(arm, []).append((label, path, read_log(path)))
    return found


Logs = Mapping[str, Sequence[tuple[str, Path, TrainingLog]]]

_LAST = 0.2  # the end of a training, as a share of its epochs
_FALL, _SHARE = 0.15, 0.03
_EPOCHS = 5  # fewer say nothing about how a loss falls


def unfinished(logs: Logs) -> dict[str, float]:
    """Arms that were still learning when training ended: arm -> how far their loss fell at the end.

    The end is the last fifth of the epochs. Two things must be so, in the mean over the trainings:
    the lowest validation loss fell by 15 % in it, and by 3 % of the way from the first epoch's loss
    to the lowest (a loss near zero falls by much of itself and by little of what was learnt).

    Returns:
        The fall of the lowest validation loss in the last fifth, in [0.15, 1).
    """
    found = {}
    for arm, trainings in logs.items():
        ends = [end for _, _, log in trainings for end in [_end(log)] if end]
        if ends:
            fall, share = (statistics.fmean(values) for values in zip(*ends))
            if fall >= _FALL and share >= _SHARE:
                found[arm] = fall
    return found


def _end(log: TrainingLog) -> tuple[float, float] | None:
    """Fall of the lowest loss in the last epochs: of what it was before, and of all it fell."""
    losses = [figures["loss"] for figures in log.epochs.values() if "loss" in figures]
    if len(losses) < _EPOCHS:
        return None
    lowest, before = min(losses), min(losses[: -max(1, round(_LAST * len(losses)))])
    learnt = losses[0] - lowest
    if before <= 0 or learnt <= 0:
        return 0.0, 0.0
    return (before - lowest) / before, (before - lowest) / learnt


def learning_curves(inputs: ReportInputs, folder: Path, logs: Logs) -> Section | None:
    """Validation loss and accuracy by epoch; None where no log has an epoch."""
    figures = [figure for name in _FIGURES for figure in _charts(inputs, logs, name)]
    if not figures:
        return None
    text = "On the validation set, which training did not see, without any augmentation."
    if inputs.seeds:
        text += " Curves are means over the seeds, of the epochs that all of them reached."
    block = Block("", None, [_table(inputs, folder, logs)], figures=figures)
    return Section("curves", "Learning curves", "Learning curves", [text], [block])


def _mean(logs: Sequence[tuple[str, Path, TrainingLog]], name: str) -> dict[int, float]:
    """Epoch -> mean over trainings of a figure, of the epochs that all of them have."""
    each = [{e: f[name] for e, f in log.epochs.items() if name in f} for _, _, log in logs]
    shared = sorted(set.intersection(*map(set, each)))
    return {epoch: statistics.fmean(one[epoch] for one in each) for epoch in shared}


def _charts(inputs: ReportInputs, logs: Logs, name: str) -> list[Figure]:
    """One chart of a figure for every six arms, or none where no arm has it."""
    title, factor, unit = _FIGURES[name]
    means = {arm: _mean(found, name) for arm, found in logs.items()}
    arms = [arm for arm in inputs.charted if means.get(arm)]
    arms += [arm for arm in inputs.arms if means.get(arm) and arm not in arms]
    styles = dict(zip(inputs.charted, arm_series(inputs)))
    charts = []
    for place in range(0, len(arms), SHAPES):
        group = arms[place : place + SHAPES]
        curves = []
        for free, arm in enumerate(group):
            style = styles[arm].style if arm in styles else free
            curve = Curve(
                arm_title(arm), style,
                [factor * y for y in means[arm].values()], list(means[arm]),
            )  # fmt: skip
            curves.append(curve)
        last = "; ".join(f"{curve.name} {number(curve.ys[-1])}" for curve in curves)
        svg = line_chart(
            sorted({epoch for curve in curves for epoch in curve.xs or ()}),
            curves,
            name=f"figure-{name}-{place}",
            title=f"{title} by epoch",
            desc=f"After the last epoch: {last}.",
            x_axis="Epoch",
            y_axis=f"{title}{unit}",
        )
        series = [Series(curve.name, curve.style) for curve in curves]
        charts.append(Figure(f"{name}-{place}", svg, f"{title} by epoch", legend(series)))
    return charts


def _table(inputs: ReportInputs, folder: Path, logs: Logs) -> Table:
    """Last and best epoch of each training."""
    rows, paths = [], {}
    for found in logs.values():
        for label, path, log in found:
            paths[f"{label}: {path.name}"] = path
            losses = {e: f["loss"] for e, f in log.epochs.items() if "loss" in f}
            if losses:
                best = min(losses, key=losses.get)
                last = max(log.epochs)
                rows.append([
                    Cell(label, label),
                    Cell(str(last), last),
                    Cell(number(losses.get(last), 2), losses.get(last)),
                    Cell(number(losses[best], 2), losses[best]),
                    Cell(str(best), best),
                ])
    labels = ("Epochs", "Last loss", "Lowest loss", "At epoch")
    return Table(
        name="curves-table",
        caption="Validation loss of each training",
        columns=[Column("Training", numeric=False), *map(Column, labels)],
        rows=rows,
        sources=links(inputs, folder, paths),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
