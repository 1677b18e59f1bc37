"""Tables of the accent classifier: how well it tells accents, and what it confuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

from espnet_saliency.scoring.charts import Interval, number
from espnet_saliency.scoring.report_cells import Cell, Column, Link, Table, count_cell, range_text
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_tables import source
from espnet_saliency.scoring.report_words import accent_name


@dataclass(frozen=True)
class Confusion:
    """Rows of (true accent, utterances, [(accent heard, count, share of the row)])."""

    name: str
    caption: str
    accents: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[tuple[str, int, float]]]]
    sources: Sequence[Link] = ()


def classifier_sets(inputs: ReportInputs, folder: Path) -> Table:
    """Accuracy of the accent classifier on each set."""
    rows = []
    for name, one in inputs.classifier["sets"].items():
        balanced = Interval(*(_percent(one.get(k)) for k in ("balanced_accuracy", "low", "high")))
        rows.append([
            Cell(name, name),
            Cell(number(balanced.value), balanced.value, note=range_text(balanced)),
            *(
                Cell(number(_percent(one[key])), _percent(one[key]))
                for key in ("chance", "accuracy", "macro_f1")
            ),
            count_cell(one["utterances"]),
            count_cell(one["speakers"]),
        ])
    labels = ("Balanced accuracy", "Chance", "Accuracy", "Macro F1", "Utterances", "Speakers")
    return Table(
        name="classifier-sets",
        caption="Accent classifier, in %",
        columns=[Column("Set", numeric=False), *map(Column, labels)],
        rows=rows,
        sources=source(inputs, folder, "classifier"),
    )


def classifier_accents(inputs: ReportInputs, folder: Path, name: str) -> Table:
    """Precision, recall and F1 of each accent in one set."""
    per_accent = inputs.classifier["sets"][name]["per_accent"]
    rows = []
    for accent, one in per_accent.items():
        values = [_percent(one[key]) for key in ("precision", "recall", "f1")]
        rows.append([
            Cell(accent_name(accent), accent_name(accent)),
            *(Cell(number(value), value) for value in values),
            count_cell(one["support"]),
        ])
    return Table(
        name=f"classifier-accents-{name}",
        caption=f"Accent classifier by accent on {name}, in %",
        columns=[
            Column("Accent", numeric=False),
            *map(Column, ("Precision", "Recall", "F1", "Utterances")),
        ],
        rows=rows,
        sources=source(inputs, folder, "classifier"),
    )


def confusion(inputs: ReportInputs, folder: Path, name: str) -> Confusion | None:
    """What each accent of a set was heard as, with shares of its row; None without utterances.

    Accents that the classifier was not trained on have rows below those that it was.
    """
    one = inputs.classifier["sets"][name]
    heard_as = one["confusion"]["accents"]
    counts = dict(zip(heard_as, one["confusion"]["counts"], strict=True))
    for accent, unknown in one.get("unknown_accents", {}).items():
        counts[accent] = [unknown["predicted"].get(other, 0) for other in heard_as]
    rows = []
    for accent, row in counts.items():
        total = sum(row)
        if total:
            heard = [(accent_name(a), n, n / total) for a, n in zip(heard_as, row, strict=True)]
            rows.append((accent_name(accent), total, heard))
    if not rows:
        return None
    return Confusion(
        name=f"confusion-{name}",
        caption=f"Confusion matrix on {name}",
        accents=[accent_name(accent) for accent in heard_as],
        rows=rows,
        sources=source(inputs, folder, "classifier"),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
