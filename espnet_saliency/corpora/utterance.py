"""What a corpus is to the rest of the package: sets of utterances, and what was left out of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Collection, Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus, as the publisher's files describe it."""

    utt_id: str
    """Unique over the corpus; begins with the speaker id, as Kaldi's sorting asks."""
    speaker: str
    """Speaker id."""
    accent: str
    """Accent label; "" where it is not known."""
    text: str
    """Transcript."""
    path: Path
    """Absolute path of the recording; any format that libsndfile reads."""
    start: float | None = None
    """Start in the recording, in s; None: the whole recording is the utterance."""
    end: float | None = None
    """End in the recording, in s."""
    channel: int = 0
    """Channel of the recording, counted from 0."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Further facts by name (gender, l1, length): each becomes a file utt2<name>."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One utterance that does not go on, and why."""

    utt_id: str
    stage: str
    reason: str


@dataclass(slots=True)
class Corpus:
    """The sets of a corpus, with what does not go into them."""

    sets: dict[str, Iterable[Utterance]]
    """Set name -> utterances."""
    rejected: list[Rejection] = field(default_factory=list)
    """Broken: counted against `max_reject`."""
    excluded: Collection[Rejection] = field(default_factory=list)
    """Left out on purpose, by a documented policy of the corpus: listed, not counted as broken."""
    notes: list[str] = field(default_factory=list)
    """Lines worth telling the user: an accent with one speaker, the release that was read."""
