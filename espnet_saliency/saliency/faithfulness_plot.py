"""The plot of the deletion and insertion curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from espnet_saliency.files import atomic_file

_NAMES = {
    "salient": "most salient",
    "random": "at random",
    "least": "least salient",
    "rolled": "most salient, shifted in time",
}
_STYLES = {"salient": ("C0", "o"), "random": ("C1", "s"), "least": ("C2", "v"), "rolled": ("C3", "^")}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw the curves of `faithfulness` with their intervals as a PNG: deletion left, insertion right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((10.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    insertion, auc = result["insertion"], result["auc"]
    _curves(left, result, result["untouched"], result["shares"], auc["deletion"])
    _curves(right, insertion, insertion["nothing"], result["shares"], auc["insertion"])
    chance = 100 * result["chance"]
    for axes, what in ((left, "hidden"), (right, "heard, all else hidden")):
        axes.axhline(chance, color="grey", linestyle=":", label=f"chance ({chance:.1f} %)")
        axes.set_xlabel(f"{what}, % of the spectrogram")
        axes.legend(fontsize=8)
    left.set_ylabel("accuracy of the classifier, %")
    left.set_ylim(-2, 102)
    left.set_title("deletion: lower is more faithful", fontsize=10)
    right.set_title("insertion: higher is more faithful", fontsize=10)
    figure.suptitle(
        f"{result['set']}: {result['utterances']} utterances of {result['speakers']} speakers, "
        f"balanced accuracy {100 * result['balanced_accuracy']:.1f} %",
        fontsize=10,
    )
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=120)


def _curves(axes, curves: dict[str, Any], first: float, shares: list[float], auc: dict) -> None:
    at = [0.0, *(100 * share for share in shares)]
    for order, curve in curves["curves"].items():
        colour, marker = _STYLES[order]
        accuracy = 100 * np.array([first, *curve])
        label = f"{_NAMES[order]} (AUC {100 * auc[order]['value']:.1f} %)"
        axes.plot(at, accuracy, color=colour, marker=marker, label=label)
        low, high = 100 * np.array(curves["intervals"][order]).T
        axes.fill_between(at[1:], low, high, color=colour, alpha=0.15, linewidth=0)
