"""What the report is made from, and where its links lead."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence
from urllib.parse import quote

from espnet_saliency.scoring.charts import SHAPES
from espnet_saliency.scoring.report_answer import ordinary_sets
from espnet_saliency.scoring.report_roles import roles

DEFAULT_SET_NAMES = {
    "test": "seen accents",
    "test_unseen": "unseen accents",
    "dev": "the development set",
}


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report shows. What is left out of it is left out of the page.

    All paths may be relative to `base`. Nothing here is trusted: accents, speakers, captions and
    transcripts may hold any text.
    """

    comparison: Mapping[str, Any]
    """The content of comparison.json, which lies in the folder of the report."""
    title: str = "Saliency masking for accents"
    """Heading of the page."""
    headline_set: str = ""
    """Test set that answers the question; by default the first with "unseen" in its name, else the
    first."""
    set_names: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_SET_NAMES))
    """What to call a set in a sentence: {"test_unseen": "unseen accents"}."""
    classifier: Mapping[str, Any] | None = None
    """{"sets": {SET: {"accuracy", "balanced_accuracy", "macro_f1", "chance", "low", "high" (shares
    of one), "utterances", "speakers", "per_accent": {ACCENT: {"precision", "recall", "f1",
    "support"}}, "confusion": {"accents": […], "counts": [true accent][accent heard]},
    "unknown_accents"?: {ACCENT: {"utterances", "predicted": {ACCENT: count}}}}}}, the figures None
    where the classifier knows no accent of a set"""
    faithfulness: Mapping[str, Any] | None = None
    """{"set", "shares": hidden shares of one, "curves": {"salient" | "random" | "least" | any:
    accuracies as shares of one}, "balanced_accuracy", "untouched"?: accuracy with nothing hidden,
    "intervals"?: {curve: [[low, high], …]}, "random_weights_correlation"?, "insertion"?: {"curves",
    "intervals", "nothing"}, "auc"?: {"deletion" | "insertion": {curve | "salient_gain": {"value",
    "low", "high"}}}}"""
    stability: Mapping[str, Any] | None = None
    """{"set", "correlation", "random_weights_correlation", "overlap", "chance_overlap",
    "agreement", "utterances"}: how alike the maps of two classifiers are"""
    pictures: Sequence[Mapping[str, Any]] = ()
    """[{"png": path, "caption": text}]: example spectrograms with map and mask."""
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{ARM: {"command", "train_seconds" (s, or None), "experiment": path, "parameters"?: count}}"""
    unseen: Mapping[str, Any] | None = None
    """{"seen_from", "sets": {SET: {METRIC: what `unseen.unseen_table` returned}}}"""
    sweep: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
    """{SET: what `sweep.sweep_rows` returned}; its plot is beside the file in `sources`"""
    probe: Mapping[str, Any] | None = None
    """What `probe.probe_result` returned"""
    audio: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    """{SET: data directory with wav.scp}: where the sound of the examples is"""
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{SET: {"utterances", "speakers", "words", "hours"}}"""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions and the like, shown in this order: {"python": "3.11.9", …}"""
    command: str = ""
    """The command that made all of it."""
    seed: str = ""
    """Training seed or seeds."""
    language: str = ""
    """Language tag of the transcripts, such as "fa": for screen readers and line breaking."""
    sources: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    """{"classifier" | "faithfulness" | "stability" | "unseen" | "sweep" | "probe": the file its
    numbers come from}"""
    base: str | os.PathLike[str] = "."
    """Folder that relative paths start from."""

    def __post_init__(self) -> None:
        if not ordinary_sets(self.comparison):
            raise ValueError("the comparison has no test set")
        if self.headline_set and self.headline_set not in ordinary_sets(self.comparison):
            raise ValueError(f"headline_set {self.headline_set!r} is not in the comparison")

    @property
    def headline(self) -> str:
        """Name of the set that answers the question."""
        sets = ordinary_sets(self.comparison)
        unseen = [name for name in sets if "unseen" in name]
        return self.headline_set or next(iter(unseen or sets))

    @property
    def sets(self) -> list[str]:
        """The test sets without added noise or rooms, that of the headline first."""
        others = ordinary_sets(self.comparison)
        return [self.headline, *(name for name in others if name != self.headline)]

    @property
    def arms(self) -> list[str]:
        return [arm["name"] for arm in self.comparison["arms"]]

    @property
    def charted(self) -> list[str]:
        """The arms that charts show: all, or of many as many as can be told apart.

        Those that answer the question are among them; tables have every arm.
        """
        part = roles(self.comparison)
        first = [part.baseline, part.method, part.control, part.other]
        most = sorted(self.arms, key=lambda arm: arm not in first)[:SHAPES]
        return [arm for arm in self.arms if arm in most]

    @property
    def seeds(self) -> list[int]:
        """Training seeds of each arm where there were several."""
        return list(self.comparison.get("seeds") or [])

    def experiments(self, arm: str) -> list[Path]:
        """Experiment folders of an arm, one a seed."""
        one = next(a for a in self.comparison["arms"] if a["name"] == arm)
        return [self.path(path) for path in one.get("experiments", [one["experiment"]])]

    def set_name(self, name: str) -> str:
        return self.set_names.get(name, name)

    def path(self, path: str | os.PathLike[str]) -> Path:
        return Path(self.base, path)

    def href(self, folder: Path, path: str | os.PathLike[str]) -> str | None:
        """Link from a page in `folder` to `path`, relative; None where nothing is there."""
        target = self.path(path)
        if not target.exists():
            return None
        return quote(Path(os.path.relpath(target, folder)).as_posix())

    def decodes(self, arm: str, name: str) -> list[tuple[str, Path]]:
        """(arm, with its seed where there are several; folder of the decoded set), one a seed.

        The folder is `decode`/<set>, by itself or below an experiment of the arm.
        """
        one = next(a for a in self.comparison["arms"] if a["name"] == arm)
        whole = self.path(one.get("decode") or "") / name
        if whole.is_dir():
            return [(arm, whole)]
        folders = [folder / one["decode"] / name for folder in self.experiments(arm)]
        if len(folders) < 2:
            return [(arm, folder) for folder in folders]
        labels = [f"{arm}, seed {seed}" for seed in self.seeds]
        return list(zip(labels, folders, strict=True))
