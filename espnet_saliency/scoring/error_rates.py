"""Word and character errors of a set of utterances, and their rates by any group.

The alignment is jiwer's (Levenshtein distance, all edits cost one). sclite, which ESPnet's recipes
call, weighs substitutions 4 and insertions and deletions 3, so its totals can differ by a little.

The metric "wer" counts words between blanks. The metric "cer" counts characters, each blank between
words included: as jiwer does, and as ESPnet does with its token `<space>`.

Rates are ratios of sums (all errors over all reference words of the group), in percent, never
averages over utterances.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Mapping, Sequence

import jiwer
import numpy as np

METRICS = ("wer", "cer")

KINDS = "=SDI"
"""Correct, substituted, deleted, inserted: the kinds of an edit, by their number."""

_KIND = {"equal": 0, "substitute": 1, "delete": 2, "insert": 3}


def tokens(text: str, metric: str) -> list[str]:
    """What `metric` counts in a text whose blanks are collapsed: its words, or its characters."""
    return text.split() if metric == "wer" else list(text)


@dataclass(frozen=True)
class Rate:
    """Counts of one group of utterances; for the metric "cer" the words are characters.

    Errors and hits are means over the trainings, where there are several (`mean_rate`)."""

    utterances: int
    speakers: int
    words: int
    """Words of the references."""
    hits: float
    substitutions: float
    deletions: float
    insertions: float
    wrong_utterances: float
    """Utterances with an error."""

    @property
    def errors(self) -> float:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Error rate in percent; None where the references hold no word."""
        return self.percent(self.errors)

    def percent(self, count: float) -> float | None:
        """`count` in percent of the reference words."""
        return 100.0 * count / self.words if self.words else None


@dataclass(frozen=True)
class Spread:
    """How the accents of a set differ, rates in percent; None where no accent is known."""

    macro: float | None
    """Mean of the accents' rates, each accent counting the same."""
    worst: tuple[str, float] | None
    """The accent with the highest rate, and that rate."""
    gap: float | None
    """Highest rate minus lowest rate."""
    std: float | None
    """Sample standard deviation over accents; None with fewer than two."""


@dataclass(frozen=True)
class Timeline:
    """Where the errors of all utterances lie, one after the other along the references.

    A reference of L tokens has 2 L + 1 places: before its first token, the first token, between
    the first and the second, and so on. Insertions lie between tokens, all else on them.
    """

    errors: np.ndarray
    """(T,) errors at each place."""
    utterance: np.ndarray
    """(T,) index of the utterance of each place."""
    is_token: np.ndarray
    """(T,) bool: the place is a reference token."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Aligned references and hypotheses of N utterances, sorted by id."""

    metric: str
    """"wer" or "cer"."""
    policy: str
    """The text policy that made the texts."""
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    accents: tuple[str, ...]
    """"" where the accent is not known."""
    references: tuple[str, ...]
    hypotheses: tuple[str, ...]
    edits: np.ndarray
    """(K, 6) runs of one kind: utterance, kind (its place in KINDS), start and end in the
    reference, start and end in the hypothesis, in tokens, ends exclusive."""
    counts: np.ndarray
    """(N, 4) tokens of each kind."""
    columns: Mapping[str, tuple[str, ...]]
    """Further columns of the data, by name: (N,) values, "" where one is not known."""

    @property
    def words(self) -> np.ndarray:
        """(N,) tokens of each reference."""
        return self.counts[:, :3].sum(axis=1)

    @property
    def errors(self) -> np.ndarray:
        """(N,) errors of each utterance."""
        return self.counts[:, 1:].sum(axis=1)

    def rate(self, members: Sequence[int] | np.ndarray | None = None) -> Rate:
        """Counts over the utterances with these indices (all by default)."""
        chosen = range(len(self.ids)) if members is None else [int(i) for i in members]
        counts = self.counts[list(chosen)]
        hits, substitutions, deletions, insertions = (int(n) for n in counts.sum(axis=0))
        return Rate(
            utterances=len(chosen),
            speakers=len({self.speakers[i] for i in chosen}),
            words=hits + substitutions + deletions,
            hits=hits,
            substitutions=substitutions,
            deletions=deletions,
            insertions=insertions,
            wrong_utterances=int((counts[:, 1:].sum(axis=1) > 0).sum()),
        )

    def by(self, labels: Sequence[str]) -> dict[str, Rate]:
        """Counts of each group, sorted by label. `labels`: (N,), in the order of `ids`."""
        return {label: self.rate(members) for label, members in members_of(labels).items()}

    def by_accent(self) -> dict[str, Rate]:
        """Counts of each accent, "" for utterances without one; {} where none is known at all."""
        return self.by(self.accents) if any(self.accents) else {}

    def alignment(self, index: int) -> list[tuple[str, str, str]]:
        """(kind, reference token, hypothesis token) along one utterance; "" where one is absent."""
        reference = tokens(self.references[index], self.metric)
        hypothesis = tokens(self.hypotheses[index], self.metric)
        pairs = []
        for _, kind, r0, r1, h0, h1 in self.edits[self.edits[:, 0] == index].tolist():
            for k in range(max(r1 - r0, h1 - h0)):
                ref = reference[r0 + k] if r0 + k < r1 else ""
                hyp = hypothesis[h0 + k] if h0 + k < h1 else ""
                pairs.append((KINDS[kind], ref, hyp))
        return pairs

    @functools.cached_property
    def timeline(self) -> Timeline:
        """Where the errors lie."""
        places = 2 * self.words + 1
        start = np.concatenate([[0], np.cumsum(places)])
        utterance = np.repeat(np.arange(len(places)), places)
        errors = np.zeros(start[-1], dtype=np.int64)
        for row, kind, r0, r1, h0, h1 in self.edits[self.edits[:, 1] > 0].tolist():
            if KINDS[kind] == "I":
                errors[start[row] + 2 * r0] += h1 - h0
            else:
                errors[start[row] + 2 * r0 + 1 : start[row] + 2 * r1 : 2] += 1
        is_token = (np.arange(start[-1]) - start[utterance]) % 2 == 1
        return Timeline(errors, utterance, is_token)


def mean_rate(runs: Sequence[Rate]) -> Rate:
    """Counts of several trainings of one arm on the same utterances, as means over them."""
    if len(runs) == 1:
        return runs[0]
    counts = ("hits", "substitutions", "deletions", "insertions", "wrong_utterances")
    means = {name: math.fsum(getattr(r, name) for r in runs) / len(runs) for name in counts}
    return dataclasses.replace(runs[0], **means)


def members_of(labels: Sequence[str]) -> dict[str, np.ndarray]:
    """Label -> indices of its utterances, sorted by label."""
    members: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return {label: np.array(members[label]) for label in sorted(members)}


def score(
    metric: str,
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    speakers: Mapping[str, str],
    accents: Mapping[str, str],
    policy: str = "none",
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> Scores:
    """Align the hypotheses with the references.

    All of a hypothesis counts as insertions where its reference is empty, all of a reference as
    deletions where its hypothesis is. An utterance is never left out.

    Args:
        metric: "wer" or "cer".
        references, hypotheses: utterance id -> text, normalised, blanks collapsed; the same ids.
        speakers: utterance id -> speaker.
        accents: utterance id -> accent; an utterance may be missing.
        policy: name of the text policy that made the texts, kept with the result.
        columns: column -> utterance id -> value, of whatever else is known of the utterances.
    """
    ids = sorted(references)
    # The transforms are the identity: jiwer gets tokens, and so takes empty references as well.
    aligned = jiwer.process_words(
        [tokens(references[i], metric) for i in ids],
        [tokens(hypotheses[i], metric) for i in ids],
        reference_transform=lambda texts: texts,
        hypothesis_transform=lambda texts: texts,
    )
    runs = [
        (n, _KIND[c.type], c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx)
        for n, chunks in enumerate(aligned.alignments)
        for c in chunks
    ]
    edits = np.array(runs, dtype=np.int64).reshape(-1, 6)
    length = np.maximum(edits[:, 3] - edits[:, 2], edits[:, 5] - edits[:, 4])
    cell = edits[:, 0] * len(KINDS) + edits[:, 1]
    counts = np.bincount(cell, weights=length, minlength=len(ids) * len(KINDS))
    return Scores(
        metric=metric,
        policy=policy,
        ids=tuple(ids),
        speakers=tuple(speakers[i] for i in ids),
        accents=tuple(accents.get(i, "") for i in ids),
        references=tuple(references[i] for i in ids),
        hypotheses=tuple(hypotheses[i] for i in ids),
        edits=edits,
        counts=counts.astype(np.int64).reshape(-1, len(KINDS)),
        columns={name: tuple(of[i] for i in ids) for name, of in (columns or {}).items()},
    )


def spread(accents: Mapping[str, Rate]) -> Spread:
    """Macro average, worst accent and differences between accents.

    Utterances without an accent, and accents without a reference word, stay out of it.
    """
    rates = {a: r.rate for a, r in accents.items() if a and r.rate is not None}
    if not rates:
        return Spread(None, None, None, None)
    macro = math.fsum(rates.values()) / len(rates)
    worst = max(rates, key=lambda accent: rates[accent])
    return Spread(
        macro=macro,
        worst=(worst, rates[worst]),
        gap=rates[worst] - min(rates.values()),
        std=float(np.std(list(rates.values()), ddof=1)) if len(rates) > 1 else None,
    )
