"""The report: one page that says whether it helped, on which accents, and how sure that is.

`index.html` holds everything it shows (styles, script, drawings, pictures), asks nothing of the
network, and forbids itself to by its content policy: text from the data cannot run in it even
where escaping were to fail. `report.md` has the same answer and tables.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from espnet_saliency.files import atomic_file
from espnet_saliency.scoring import report_classifier as judged
from espnet_saliency.scoring import report_figures as figures
from espnet_saliency.scoring import report_tables as tables
from espnet_saliency.scoring.report_answer import answer, is_corrected
from espnet_saliency.scoring.report_columns import by_column
from espnet_saliency.scoring.report_conditions import by_condition
from espnet_saliency.scoring.report_examples import Examples, examples
from espnet_saliency.scoring.report_faithfulness import faithfulness
from espnet_saliency.scoring.report_inputs import ReportInputs
from espnet_saliency.scoring.report_markdown import markdown
from espnet_saliency.scoring.report_probe import probe
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_section import Block
from espnet_saliency.scoring.report_seeds import by_seed
from espnet_saliency.scoring.report_sweep import sweep
from espnet_saliency.scoring.report_training import Logs, learning_curves, training_logs, unfinished
from espnet_saliency.scoring.report_unseen import left_out
from espnet_saliency.scoring.report_warnings import unseen_speakers, warnings
from espnet_saliency.scoring.report_words import accent_name, arm_name, arm_title, count

__all__ = ["ReportInputs", "write_report"]

WORST = 10  # utterances shown for each set and arm; all are in comparison.json


@dataclass(frozen=True)
class Worst:
    """The worst utterances of one set and arm; `left_out` more are in comparison.json."""

    caption: str
    utterances: list[dict[str, Any]]
    left_out: int


def write_report(folder: Path, inputs: ReportInputs) -> Path:
    """Write index.html and report.md into `folder`, each whole or not at all.

    Args:
        folder: the report's folder (exp/report), made where it is missing; comparison.json is
            expected beside the page.
        inputs: what to show; parts without data are left out.

    Returns:
        Path of index.html.

    Raises:
        UserError: a picture is missing or no PNG.
    """
    folder = Path(folder)
    view = _view(inputs, folder)
    page = _environment().get_template("report.html").render(view)
    text = markdown(inputs, view)
    with atomic_file(folder / "report.md") as handle:
        handle.write(text)
    with atomic_file(folder / "index.html") as handle:
        handle.write(page)
    return folder / "index.html"


def _view(inputs: ReportInputs, folder: Path) -> dict[str, Any]:
    """What the templates print; a part without data is None or empty."""
    comparison = inputs.comparison
    logs = training_logs(inputs)
    heard = examples(inputs, folder)
    evidence = [
        by_seed(inputs), by_condition(inputs), left_out(inputs, folder), by_column(inputs),
        probe(inputs, folder),
    ]  # fmt: skip
    training = [sweep(inputs, folder), learning_curves(inputs, folder, logs)]
    script = files("espnet_saliency.scoring").joinpath("templates/report.js").read_text("utf-8")
    style = files("espnet_saliency.scoring").joinpath("templates/report.css").read_text("utf-8")
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    timed = any(run["train_seconds"] is not None for run in inputs.runs.values())
    return {
        "inputs": inputs,
        "comparison": comparison,
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": base64.b64encode(digest).decode("ascii"),
        "roles": roles(comparison),
        "answer": answer(comparison, inputs.headline, inputs.set_names, inputs.seed),
        "warnings": warnings(
            comparison, inputs.headline, inputs.set_names, inputs.classifier, unfinished(logs)
        ),
        "answer_figures": figures.answer_figures(inputs),
        "wer": [_rates(inputs, folder, name, "wer") for name in inputs.sets],
        "differences": _differences(inputs, "wer"),
        "corrected": any(
            is_corrected(stored["groups"])
            for one in comparison["sets"].values()
            for stored in one["wer"]["differences"]
        ),
        "overall": Block(
            "", figures.overall_figure(inputs, "wer"), [tables.overall(inputs, folder, "wer")]
        ),
        "cer": {
            "overall": tables.overall(inputs, folder, "cer"),
            "accents": [_rates(inputs, folder, name, "cer") for name in inputs.sets],
            "differences": _differences(inputs, "cer"),
        },
        "evidence": [section for section in evidence if section],
        "training": [section for section in training if section],
        "classifier": _classifier(inputs, folder),
        "faithfulness": faithfulness(inputs, folder),
        "examples": heard,
        "pictures": _pictures(inputs, heard),
        "worst": _worst(inputs),
        "cost": timed and Block("", figures.cost_figure(inputs), [tables.cost(inputs, folder)]),
        "commands": _commands(inputs, logs),
        "data": tables.data(inputs) if inputs.data else None,
    }


def _rates(inputs: ReportInputs, folder: Path, name: str, metric: str) -> Block:
    one = inputs.comparison["sets"][name]
    heading = (
        f"{tables.set_caption(inputs, name)}: {count(one['speakers'], 'speaker')}, "
        f"{count(one['words'], 'word')}"
    )
    table = tables.rates_by_accent(inputs, folder, name, metric)
    many = len(inputs.arms) > tables.MOST_ARMS
    return Block(heading, figures.rates_figure(inputs, name, metric), [table], wide=many)


def _differences(inputs: ReportInputs, metric: str) -> list[Block]:
    blocks = []
    for name in inputs.sets:
        found = tables.differences(inputs, name, metric)
        heading = tables.set_caption(inputs, name)
        # Of many arms only the pairs that answer the question are open.
        few = len(inputs.arms) <= tables.MOST_ARMS
        asked = len(found) if few else len(roles(inputs.comparison).pairs())
        if found:
            blocks.append(Block(heading, None, found[:asked]))
        if found[asked:]:
            others = f"{heading}: {count(len(found) - asked, 'other pair')}"
            blocks.append(Block(others, None, found[asked:], folded=True))
    return blocks


def _classifier(inputs: ReportInputs, folder: Path) -> dict[str, Any] | None:
    found = unseen_speakers(inputs.classifier)
    if found is None:
        return None
    name, scores = found
    others = [k for k in inputs.classifier["sets"] if k != name]
    matrices = [judged.confusion(inputs, folder, other) for other in others]
    return {
        "name": name,
        "scores": scores,
        "sets": judged.classifier_sets(inputs, folder),
        "accents": judged.classifier_accents(inputs, folder, name),
        "confusion": judged.confusion(inputs, folder, name),
        "other_confusions": [matrix for matrix in matrices if matrix],
    }


def _pictures(inputs: ReportInputs, heard: Examples | None) -> list[figures.Picture]:
    """The pictures that no example shows."""
    found = [figures.picture(inputs, one) for one in inputs.pictures]
    used = [one.picture for one in heard.shown] if heard else []
    return [one for one in found if one not in used]


def _commands(inputs: ReportInputs, logs: Logs) -> dict[str, str]:
    """The program that trained each arm as its log has it, else the command that made the arm."""
    found = {}
    for arm, run in inputs.runs.items():
        ran = {label: log.command for label, _, log in logs.get(arm, ()) if log.command}
        # An arm that the one command made needs no line of its own.
        found |= ran or ({arm: run["command"]} if run["command"] != inputs.command else {})
    return found


def _worst(inputs: ReportInputs) -> list[Worst]:
    """The worst utterances by set and arm, the headline's set and the method first."""
    part = roles(inputs.comparison)
    arms = [part.method, *(arm for arm in inputs.arms if arm != part.method)]
    found = []
    for name in inputs.sets:
        for arm in arms:
            mine = [
                one
                for one in inputs.comparison.get("worst_utterances", [])
                if (one["set"], one["arm"]) == (name, arm)
            ]
            if mine:
                caption = f"{tables.set_caption(inputs, name)}, {arm_name(arm)}"
                caption += f", seed {inputs.seeds[0]}" if inputs.seeds else ""
                found.append(Worst(caption, mine[:WORST], max(0, len(mine) - WORST)))
    return found


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("espnet_saliency.scoring", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(arm=arm_name, arm_title=arm_title, accent=accent_name)
    # Drawings are made by charts.py, which escapes what it writes.
    environment.filters["svg"] = Markup
    return environment
