"""A sweep of an augmentation's settings: one table and one plot of all its arms, by accent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.files import atomic_file
from espnet_saliency.scoring.score_folder import OVERALL


@dataclass(frozen=True)
class Variant:
    """One arm of a sweep."""

    arm: str
    """Its name in the comparison."""
    base: str
    """The arm that it varies."""
    values: Mapping[str, Any]
    """What the sweep sets, e.g. {"mask_ratio": 0.2}; {} for an arm that it has no say in."""


def sweep_rows(
    comparison: Mapping[str, Any], variants: Sequence[Variant], name: str
) -> list[dict[str, Any]]:
    """The WER of every variant on set `name`, the baseline's first.

    Returns:
        [{"arm", "base", "values", "rate", "low", "high", "change": points against the baseline,
        "change_low", "change_high", "p_value", "macro", "accents": {accent: rate}}]; change is None
        for the baseline itself.
    """
    scores = comparison["sets"][name]["wer"]
    baseline = comparison["baseline"]
    rows = []
    for variant in sorted(variants, key=lambda variant: variant.arm != baseline):
        groups = scores["arms"][variant.arm]["groups"]
        difference = next(
            (
                pair["groups"][OVERALL]
                for pair in scores["differences"]
                if (pair["arm"], pair["reference"]) == (variant.arm, baseline)
            ),
            {},
        )
        rows.append(
            {
                "arm": variant.arm,
                "base": variant.base,
                "values": dict(variant.values),
                "rate": groups[OVERALL]["rate"],
                "low": groups[OVERALL]["low"],
                "high": groups[OVERALL]["high"],
                "change": difference.get("absolute"),
                "change_low": difference.get("low"),
                "change_high": difference.get("high"),
                "p_value": difference.get("p_value"),
                "macro": scores["arms"][variant.arm]["macro"],
                "accents": {a: g["rate"] for a, g in groups.items() if a != OVERALL},
            }
        )
    return rows


def write_sweep(folder: Path, comparison: Mapping[str, Any], variants: Sequence[Variant]) -> Path:
    """Write sweep.json, sweep.md and sweep.png into `folder`; returns the table's path."""
    sets = {name: sweep_rows(comparison, variants, name) for name in comparison["sets"]}
    with atomic_file(folder / "sweep.json") as handle:
        json.dump(sets, handle, ensure_ascii=False, indent=1)
    with atomic_file(folder / "sweep.md") as handle:
        handle.write(_markdown(sets, comparison))
    _plot(sets, folder / "sweep.png")
    return folder / "sweep.md"


def _markdown(sets: Mapping[str, list[dict[str, Any]]], comparison: Mapping[str, Any]) -> str:
    draws = comparison["bootstrap"]["draws"]
    lines = [
        f"# Sweep on {comparison['corpus']}",
        "",
        f"WER in %, change in points against {comparison['baseline']} with its 95 % interval "
        f"({draws:,} bootstrap draws over speakers). Of many arms the best looks better than it is: "
        "what is chosen here has to be confirmed on other accents and seeds.",
    ]
    for name, rows in sets.items():
        keys = _keys(rows)
        accents = list(rows[0]["accents"])
        head = ["arm", *keys, "WER", "change", "p", "mean over accents", *map(_accent, accents)]
        lines += ["", f"## {name}", "", f"|{'|'.join(head)}|", "|---" * len(head) + "|"]
        for row in rows:
            cells = [row["base"], *(str(row["values"].get(key, "")) for key in keys)]
            cells += [_number(row["rate"]), _change(row)]
            cells += ["-" if row["p_value"] is None else f"{row['p_value']:.3f}"]
            cells += [_number(row["macro"]), *(_number(row["accents"][a]) for a in accents)]
            lines.append(f"|{'|'.join(cell.replace('|', '/') for cell in cells)}|")
    return "\n".join(lines) + "\n"


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row["values"]))


def _accent(accent: str) -> str:
    return (accent or "unknown").replace("|", "/")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _change(row: Mapping[str, Any]) -> str:
    if row["change"] is None:
        return "-"
    if row["change_low"] is None:
        return f"{row['change']:+.1f}"
    return f"{row['change']:+.1f} ({row['change_low']:+.1f} to {row['change_high']:+.1f})"


def _plot(sets: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """WER over the first swept setting, one line for each arm and value of the other settings; level
    lines for the arms that have no such setting."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((5.2 * len(sets), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(sets), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, sets.items()):
        first, *others = _keys(rows)
        swept = [row for row in rows if first in row["values"]]
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in swept:
            rest = ", ".join(f"{key} {row['values'].get(key)}" for key in others)
            lines.setdefault(", ".join(filter(None, [row["base"], rest])), []).append(row)
        # Settings that are words have their places in the order in which they were given.
        places = list(dict.fromkeys(row["values"][first] for row in swept))
        numeric = all(isinstance(place, (int, float)) for place in places)
        for label, points in lines.items():
            xs = [p["values"][first] if numeric else places.index(p["values"][first]) for p in points]
            ends = [(p["rate"] - (p["low"] or p["rate"]), (p["high"] or p["rate"]) - p["rate"])
                    for p in points]  # fmt: skip
            axes.errorbar(xs, [p["rate"] for p in points], yerr=list(zip(*ends)), marker="o",
                          capsize=3, label=label)  # fmt: skip
        if not numeric:
            axes.set_xticks(range(len(places)), [str(place) for place in places])
        for row, style in zip((row for row in rows if row not in swept), cycle((":", "--", "-."))):
            axes.axhline(row["rate"], color="grey", linestyle=style, label=row["arm"])
        axes.set_title(name)
        axes.set_xlabel(first)
        axes.set_ylabel("WER, %")
        axes.legend(fontsize=8)
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=120)
