"""Sets that share no speaker: splits stratified by accent, and accents held out of training.

Both are pure functions of what they are given. Order comes from a hash of the seed and the names,
so that it depends neither on the order of the input nor on PYTHONHASHSEED, and a speaker who is
added moves few others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from typing import Collection, Iterable, Mapping

from espnet_saliency.corpora.reading import rejection
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError


def split_speakers(
    accents: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> tuple[dict[str, str], list[str]]:
    """Divide speakers into sets, each accent by the same shares.

    Within an accent every set but the first gets its share of the speakers, rounded, and at least
    one; the first set gets the rest, and at least one. An accent with fewer speakers than there
    are sets goes into the first set, then the last, then the others in order, as far as they reach:
    with train, dev and test a lone speaker is trained on and not tested, of two one is tested.

    Args:
        accents: speaker -> accent ("" is an accent of its own).
        shares: set -> share of the speakers, in order; they sum to 1.
        seed: another seed gives another division.

    Returns:
        Speaker -> set, in the order of the speakers' names; and a line for each accent that does
        not reach every set.

    Raises:
        UserError: the shares are not positive or do not sum to 1.
    """
    if not all(share > 0 for share in shares.values()) or abs(sum(shares.values()) - 1) > 1e-6:
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise UserError(f"split shares ({given}) must be positive and sum to 1")
    speakers: dict[str, list[str]] = defaultdict(list)
    for speaker, accent in accents.items():
        speakers[accent].append(speaker)

    chosen: dict[str, str] = {}
    notes: list[str] = []
    for accent in sorted(speakers):
        order = sorted(speakers[accent], key=lambda speaker: _rank(seed, accent, speaker))
        sizes = _sizes(len(order), shares)
        for name, size in sizes.items():
            chosen.update(dict.fromkeys(order[:size], name))
            del order[:size]
        left_out = [name for name, size in sizes.items() if not size]
        if left_out:
            count = len(speakers[accent])
            notes.append(
                f"accent {accent or 'unknown'} has {count} speaker{'s' if count > 1 else ''}: "
                f"none for {' and '.join(left_out)}"
            )
    return {speaker: chosen[speaker] for speaker in sorted(chosen)}, notes


def _rank(seed: int, accent: str, speaker: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{accent}\0{speaker}".encode()).digest()


def _sizes(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of `count` speakers each set gets."""
    first, *others = shares
    if count < len(shares):
        reached = [first, *others[-1:], *others[:-1]][:count]
        return {name: int(name in reached) for name in shares}
    sizes = {name: max(1, int(shares[name] * count + 0.5)) for name in others}
    while sum(sizes.values()) >= count:
        sizes[max(sizes, key=lambda name: sizes[name])] -= 1
    return {first: count - sum(sizes.values()), **sizes}


UNSEEN = "_unseen"
"""What the names of test sets of unseen accents end in."""


def is_test(name: str) -> bool:
    """Whether a set is one to test on, by its name: test, test_clean, test_unseen."""
    return name.startswith("test")


def with_unseen(tests: Iterable[str], unseen_accents: Collection[str]) -> tuple[str, ...]:
    """Names of test sets, with those that `hold_out_accents` makes of them where it holds some out."""
    names = list(tests)
    if unseen_accents:
        names += [name + UNSEEN for name in names if not name.endswith(UNSEEN)]
    return tuple(dict.fromkeys(names))


def hold_out_accents(corpus: Corpus, accents: Iterable[str]) -> Corpus:
    """The corpus with some accents unseen in training.

    In a test set (a name that begins with "test") their utterances move to `<set>_unseen`, all of it
    where it holds no others; in any other set they are left out, and listed in `excluded`. The test
    utterances of an accent are the same whether it is held out or not, so that both can be compared.
    All sets become lists.

    Args:
        corpus: is not changed.
        accents: labels as they stand in the corpus; none: the corpus is returned as it is.

    Raises:
        UserError: an accent that no utterance has, or nothing left to train or validate on.
    """
    held = set(accents)
    if not held:
        return corpus
    sets = {name: list(utterances) for name, utterances in corpus.sets.items()}
    known = {utterance.accent for utterances in sets.values() for utterance in utterances} - {""}
    unknown = sorted(held - known)
    if unknown:
        raise UserError(
            f"--unseen_accents {unknown[0]}: no utterance has this accent; "
            f"the corpus has {', '.join(sorted(known)) or 'no accents'}"
        )

    # The sets that are there first, so that they keep their order before the new ones.
    kept: dict[str, list[Utterance]] = {name: [] for name in sets}
    excluded = list(corpus.excluded)
    for name, utterances in sets.items():
        for utterance in utterances:
            if utterance.accent not in held or name.endswith(UNSEEN):
                kept[name].append(utterance)
            elif is_test(name):
                kept.setdefault(name + UNSEEN, []).append(utterance)
            else:
                excluded.append(
                    rejection(utterance.utt_id, f"accent {utterance.accent} is held out of {name}")
                )
    for name, utterances in sets.items():
        if not utterances or kept[name]:
            continue
        if is_test(name):
            del kept[name]
        else:
            raise UserError(
                f"--unseen_accents {' '.join(sorted(held))}: nothing is left in the set {name}; "
                f"hold fewer accents out"
            )
    return replace(corpus, sets=kept, excluded=excluded)
