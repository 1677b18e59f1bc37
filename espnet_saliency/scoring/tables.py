"""RESULTS.md: the tables of ESPnet's recipes, by accent as well, what made them, on how much."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

from espnet_saliency.datadir.kaldi import UNKNOWN
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.scoring.comparison import ArmDecode
from espnet_saliency.scoring.error_rates import METRICS, Rate, Scores, spread
from espnet_saliency.scoring.score_folder import percentages, read_table

FEW_HOURS = 10.0
"""Training data below which RESULTS.md says that error rates mean little in themselves."""

_HEAD = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|"
_ACCENT_HEAD = "|accent|Spk|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|"


@dataclass(frozen=True)
class SetSize:
    """How much data a set holds."""

    utterances: int
    speakers: int
    words: int
    hours: float | None
    """None where the data directory has no utt2dur."""


def set_size(data_dir: Path) -> SetSize:
    """Count a data directory (text, utt2spk, utt2dur if there is one)."""
    data_dir = Path(data_dir)
    texts = read_table(data_dir / "text")
    durations = data_dir / "utt2dur"
    hours = None
    if durations.exists():
        try:
            hours = sum(float(seconds) for seconds in read_table(durations).values()) / 3600
        except ValueError as error:
            raise UserError(f"{durations}: {error}: write seconds, one number a line") from None
    return SetSize(
        utterances=len(texts),
        speakers=len(set(read_table(data_dir / "utt2spk").values())),
        words=sum(len(text.split()) for text in texts.values()),
        hours=hours,
    )


def environment(
    repository: Path | None = None, when: datetime.datetime | None = None
) -> dict[str, str]:
    """Date, versions and, where `repository` is a git checkout, its commit: name -> value."""
    when = when or datetime.datetime.now().astimezone()
    # Versions come from the installed metadata: scoring does not import what it does not need.
    found = {
        "date": when.strftime("%a %b %e %H:%M:%S %Z %Y"),
        "python version": platform.python_version(),
        "espnet version": f"espnet {_version('espnet')}",
        "pytorch version": f"pytorch {_version('torch')}",
    }
    commit = _git(repository, "%H") if repository else None
    if commit:
        found["Git hash"] = commit
        found["Commit date"] = _git(repository, "%cd") or ""
    return found


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(repository: Path, form: str) -> str | None:
    command = ["git", "-C", str(repository), "log", "-1", f"--format={form}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # no git here, no checkout, or no commit yet
    return done.stdout.strip()


def write_results(
    path: Path,
    arms: Sequence[ArmDecode],
    data: Mapping[str, Path],
    train_set: str,
    environment: Mapping[str, str],
) -> None:
    """Write RESULTS.md.

    Args:
        path: the file to write.
        arms: scored arms.
        data: set -> data directory, of the training, validation and test sets.
        train_set: which of them was trained on.
        environment: as `environment()` gives it.

    Raises:
        UserError: a set of an arm was not scored, or a data directory is missing.
    """
    lines = ["<!-- Written by the recipe: edits are lost. -->", "# RESULTS", "## Environments"]
    lines += [f"- {name}: `{value}`" for name, value in environment.items()]
    lines += ["", *_data({name: set_size(folder) for name, folder in data.items()}, train_set)]
    for arm in arms:
        lines += ["", *_arm(arm)]
    with atomic_file(path) as handle:
        handle.write("\n".join(lines) + "\n")


def _hours(size: SetSize) -> str:
    return "-" if size.hours is None else f"{size.hours:.2f}"


def _data(sizes: Mapping[str, SetSize], train_set: str) -> list[str]:
    train = sizes[train_set]
    hours = "" if train.hours is None else f", {train.hours:.2f} hours"
    said = (
        f"Trained on {train.utterances} utterances of {train.speakers} speakers "
        f"({train.words} words{hours})."
    )
    if train.hours is not None and train.hours < FEW_HOURS:
        said += (
            f" That is little: under {FEW_HOURS:.0f} hours an error rate says more about the "
            "amount of data than about the method. Compare arms, with their intervals, not systems."
        )
    lines = ["## Data", "", "|set|utterances|speakers|words|hours|", "|---|---|---|---|---|"]
    for name, s in sizes.items():
        lines.append(f"|{name}|{s.utterances}|{s.speakers}|{s.words}|{_hours(s)}|")
    return [*lines, "", said]


def _arm(arm: ArmDecode) -> list[str]:
    lines = [f"## {Path(arm.experiment).name}", "", f"Arm `{arm.name}`, made by:", ""]
    lines += ["```", arm.command, "```"]
    for metric in METRICS:
        scores = {name: arm.scores(name, metric) for name in arm.sets}
        lines += ["", f"### {metric.upper()}", "", *_table(_HEAD)]
        for name, s in scores.items():
            lines.append(_row(f"{arm.decode}/{name}", s.rate()))
        for name, s in scores.items():
            lines += _by_accent(name, s)
    return lines


def _table(head: str) -> list[str]:
    return [head, "|---" * (head.count("|") - 1) + "|"]


def _row(name: str, rate: Rate, *first: int) -> str:
    cells = [*first, rate.utterances, rate.words, *percentages(rate)]
    return f"|{name}|{'|'.join(str(cell) for cell in cells)}|"


def _by_accent(name: str, scores: Scores) -> list[str]:
    accents = scores.by_accent()
    if not accents:
        return []
    lines = ["", f"{scores.metric.upper()} of {name} by accent:", "", *_table(_ACCENT_HEAD)]
    lines += [_row(accent or UNKNOWN, rate, rate.speakers) for accent, rate in accents.items()]
    found = spread(accents)
    if found.worst:
        lines += [
            "",
            f"Mean over accents {found.macro:.1f}, worst {found.worst[0]} {found.worst[1]:.1f}, "
            f"gap best to worst {found.gap:.1f}.",
        ]
    return lines
