"""Does hiding what gives the accent away cost words? One table, one plot and one sentence.

A recogniser decoded one set as it is, and with a share of each utterance's features hidden: the
most salient patches for the accent classifier, random ones, or the least salient. Where the most
salient cost no more words than random ones, words do not need what gives the accent away.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency.files import atomic_file
from espnet_saliency.scoring.score_folder import OVERALL
from espnet_saliency.scoring.significance import FEW_SPEAKERS, holm

ORDERS = ("random", "least", "salient")
"""Which patches are hidden; the reference of a comparison comes before what is compared with it."""

LEVEL = 0.05
"""p-values below it count as a difference."""

LITTLE_LEFT = 80.0
"""WER in % with nothing hidden from which on hiding cannot cost many words more."""

NAMES = {
    "plain": "nothing",
    "random": "random",
    "least": "least salient",
    "salient": "most salient",
}
"""What is hidden, in words."""

_STYLES = {"salient": ("C0", "o"), "random": ("C1", "s"), "least": ("C2", "v")}
_COLUMNS = 4  # panels of the plot side by side


@dataclass(frozen=True)
class Hiding:
    """What was hidden from the recogniser."""

    order: str
    """One of ORDERS, or "plain" for nothing."""
    share: float
    """Of the cells of each utterance, in [0, 1]."""

    @property
    def name(self) -> str:
        """What its folder and its arm in the comparison are called: plain, salient_20."""
        return f"{self.order}_{100 * self.share:g}" if self.share else self.order

    @property
    def needs_classifier(self) -> bool:
        """Whether its patches are told by a classifier."""
        return self.order in ("salient", "least")

    def __str__(self) -> str:
        percent = f"{100 * self.share:g} % " if self.share else ""
        return f"{NAMES[self.order]} {percent}hidden"


PLAIN = Hiding("plain", 0.0)


def probe_result(
    comparison: Mapping[str, Any],
    hidings: Sequence[Hiding],
    recogniser: str,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The WER of every hiding, and the difference that the order makes at each share.

    Args:
        comparison: of `compare`, with one set, PLAIN.name as baseline, one arm a hiding, random
            ones before salient ones.
        hidings: PLAIN first; each share with all of ORDERS.
        recogniser: name of the arm that decoded.
        warnings: what speaks against the classifier's maps.

    Returns:
        A dictionary that JSON can hold: {"corpus", "set", "recogniser", "utterances", "speakers",
        "bootstrap", "rows": [{"order", "share", "groups": {"overall" or accent: {"rate", "low",
        "high", "speakers", "words", "small", "more": points above nothing hidden, "more_low",
        "more_high", "p_value"}}}], "salient_minus_random": [{"share", "groups": {…: {"absolute",
        "low", "high", "p_value", "p_holm"}}}], "verdict", "answer", "warnings"}. Rates are in
        percent, differences in points; "p_holm" is corrected over the shares for "overall", over the accents
        for these; None where it is not defined.
    """
    (name, one), *_ = comparison["sets"].items()
    scores = one["wer"]
    pairs = {(d["arm"], d["reference"]): d["groups"] for d in scores["differences"]}
    rows = []
    for hiding in hidings:
        groups = {}
        for group, found in scores["arms"][hiding.name]["groups"].items():
            more = pairs[hiding.name, PLAIN.name][group] if hiding.share else {}
            keys = ("rate", "low", "high", "speakers", "words", "small")
            groups[group] = {key: found[key] for key in keys} | {
                "more": more.get("absolute"),
                "more_low": more.get("low"),
                "more_high": more.get("high"),
                "p_value": more.get("p_value"),
            }
        rows.append({**asdict(hiding), "groups": groups})
    differences = []
    for share in sorted({hiding.share for hiding in hidings if hiding.share}):
        pair = pairs[Hiding("salient", share).name, Hiding("random", share).name]
        keys = ("absolute", "low", "high", "p_value", "p_holm")
        groups = {group: {key: found[key] for key in keys} for group, found in pair.items()}
        differences.append({"share": share, "groups": groups})
    overall = [difference["groups"][OVERALL] for difference in differences]
    for group, p in zip(overall, holm([group["p_value"] for group in overall])):
        group["p_holm"] = p
    verdict = _verdict(overall, one["speakers"])
    heard = rows[0]["groups"][OVERALL]["rate"]
    if heard >= LITTLE_LEFT:
        lost = f"{recogniser} has a WER of {heard:.1f} % on {name} with nothing hidden"
        warnings = [*warnings, f"{lost}: there are few words left that hiding could cost"]
    return {
        "corpus": comparison["corpus"],
        "set": name,
        "recogniser": recogniser,
        "utterances": one["utterances"],
        "speakers": one["speakers"],
        "bootstrap": comparison["bootstrap"],
        "rows": rows,
        "salient_minus_random": differences,
        "verdict": verdict,
        "answer": _answer(verdict, differences, one["speakers"]),
        "warnings": list(warnings),
    }


def _verdict(overall: Sequence[Mapping[str, Any]], speakers: int) -> str:
    """too few, more, less, both or same.

    A share counts where its p-value, corrected over the shares by Holm, lies below LEVEL.
    """
    # The randomisation test of n speakers cannot go below 2 / 2^n.
    if len(overall) * 2.0 ** (1 - min(speakers, 1000)) >= LEVEL:
        return "too few"
    sure = [d["absolute"] for d in overall if d["p_holm"] < LEVEL]
    more, less = any(change > 0 for change in sure), any(change < 0 for change in sure)
    return "both" if more and less else "more" if more else "less" if less else "same"


def _answer(verdict: str, differences: Sequence[Mapping[str, Any]], speakers: int) -> str:
    what = "Hiding what gives the accent away costs"
    than = "hiding random patches of the same size"
    figures = ", ".join(
        f"{_change(one := d['groups'][OVERALL])} at {100 * d['share']:g} % (p {_p(one['p_holm'])})"
        for d in differences
    )
    figures = f"WER in points, most salient minus random: {figures}."
    if verdict == "too few":
        return (
            f"Whether hiding what gives the accent away costs more words than {than} cannot be "
            f"told from {speakers} speaker{'' if speakers == 1 else 's'}; {figures}"
        )
    if verdict == "same":
        return f"{what} as many words as {than}, as far as {speakers} speakers can tell; {figures}"
    if verdict == "both":
        return f"{what} more words than {than} at some shares and fewer at others; {figures}"
    return f"{what} {'more' if verdict == 'more' else 'fewer'} words than {than}; {figures}"


def write_probe(
    folder: Path,
    comparison: Mapping[str, Any],
    hidings: Sequence[Hiding],
    recogniser: str,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Write probe.json, probe.md and probe.png into `folder`.

    Args:
        comparison, hidings, recogniser, warnings: see `probe_result`.

    Returns:
        What `probe_result` returns.
    """
    result = probe_result(comparison, hidings, recogniser, warnings)
    with atomic_file(folder / "probe.json") as handle:
        json.dump(result, handle, ensure_ascii=False, indent=1, allow_nan=False)
    with atomic_file(folder / "probe.md") as handle:
        handle.write(_markdown(result))
    _plot(result, folder / "probe.png")
    return result


def _markdown(result: Mapping[str, Any]) -> str:
    accents = [group for group in result["rows"][0]["groups"] if group != OVERALL]
    boot = result["bootstrap"]
    first = result["rows"][0]["groups"]
    names = [_cell(a or "unknown") + ("*" if first[a]["small"] else "") for a in accents]
    lines = [
        f"# Probe on {_cell(result['corpus'])}, {_cell(result['set'])}",
        "",
        result["answer"],
        "",
        *(f"WARNING: {_cell(warning)}\n" for warning in result["warnings"]),
        f"WER in % of {_cell(result['recogniser'])} on {result['utterances']} utterances of "
        f"{result['speakers']} speakers, a share of each utterance's features hidden; with its "
        f"{100 * boot['level']:g} % interval ({boot['draws']:,} bootstrap draws over speakers). "
        f"More: points above nothing hidden. Accents marked * have fewer than {FEW_SPEAKERS} "
        "speakers.",
        "",
        *_head(["hidden", "share", "overall", "more", *names]),
    ]
    for row in result["rows"]:
        overall = row["groups"][OVERALL]
        cells = [NAMES[row["order"]], f"{100 * row['share']:g} %"]
        cells += [_interval(overall["rate"], overall["low"], overall["high"], "")]
        cells += [_interval(overall["more"], overall["more_low"], overall["more_high"], "+")]
        cells += [_interval(row["groups"][a]["rate"], None, None, "") for a in accents]
        lines.append(f"|{'|'.join(cells)}|")
    lines += [
        "",
        "## Most salient minus random",
        "",
        "Points of WER; p of the paired randomisation test over speakers, corrected by Holm over "
        "the shares, and for accents over the accents.",
        "",
        *_head(["share", "overall", "p", *names]),
    ]
    for difference in result["salient_minus_random"]:
        overall = difference["groups"][OVERALL]
        cells = [f"{100 * difference['share']:g} %", _change(overall), _p(overall["p_holm"])]
        for accent in accents:
            one = difference["groups"][accent]
            cells.append(f"{_interval(one['absolute'], None, None, '+')} (p {_p(one['p_holm'])})")
        lines.append(f"|{'|'.join(cells)}|")
    lines += ["", "![WER by what is hidden and accent](probe.png)"]
    return "\n".join(lines) + "\n"


def _head(cells: Sequence[str]) -> list[str]:
    return [f"|{'|'.join(cells)}|", "|---" * len(cells) + "|"]


def _plot(result: Mapping[str, Any], path: Path) -> None:
    """One panel for all and for each accent: WER over the share, one line an order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plain, *hidden = result["rows"]
    groups = list(plain["groups"])
    columns = min(_COLUMNS, len(groups))
    lines = math.ceil(len(groups) / columns)
    figure = Figure((3.6 * columns, 3.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, group in zip(panels.flat, groups):
        for order, (colour, marker) in _STYLES.items():
            rows = [plain, *(row for row in hidden if row["order"] == order)]
            points = [(100 * row["share"], row["groups"][group]) for row in rows]
            points = [(share, point) for share, point in points if point["words"]]
            style = {"color": colour, "marker": marker, "label": NAMES[order]}
            axes.plot([share for share, _ in points], [p["rate"] for _, p in points], **style)
            sure = [(share, p["low"], p["high"]) for share, p in points if p["low"] is not None]
            if sure:
                axes.fill_between(*zip(*sure), color=colour, alpha=0.15, linewidth=0)
        axes.set_title("all" if group == OVERALL else group or "unknown accent", fontsize=9, parse_math=False)
    # The lowest panel of each column, which need not lie on the last line.
    for axes in panels.flat[max(0, len(groups) - columns) : len(groups)]:
        axes.set_xlabel("hidden, % of the spectrogram")
        axes.tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("WER, %")
    panels[0][0].legend(fontsize=8)
    panels[0][0].set_ylim(bottom=0)
    with atomic_file(path, "wb") as handle:
        figure.savefig(handle, format="png", dpi=120)


def _cell(text: str) -> str:
    """Corpus text in Markdown: no column of its own, no markup."""
    return text.replace("|", "/").replace("<", "&lt;")


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _change(group: Mapping[str, Any]) -> str:
    return _interval(group["absolute"], group["low"], group["high"], "+")


def _interval(value: float | None, low: float | None, high: float | None, sign: str) -> str:
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{value:{sign}.1f}"
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"
