"""Speaker-disjoint splits stratified by accent, and accents held out of training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from espnet_saliency.corpora.splits import hold_out_accents, split_speakers
from espnet_saliency.corpora.utterance import Corpus, Utterance
from espnet_saliency.errors import UserError

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def speakers(**counts: int) -> dict[str, str]:
    return {f"{accent}{n:02d}": accent for accent, count in counts.items() for n in range(count)}


def counts(chosen: dict[str, str], accents: dict[str, str]) -> dict[str, Counter]:
    table: dict[str, Counter] = {}
    for speaker, name in chosen.items():
        table.setdefault(accents[speaker], Counter())[name] += 1
    return table


def test_each_accent_is_divided_by_the_shares():
    accents = speakers(a=10, b=20, c=25, d=3, e=4)
    chosen, notes = split_speakers(accents, SHARES, seed=1)
    assert set(chosen) == set(accents)
    # 25 speakers: a share of 2.5 is rounded up.
    assert counts(chosen, accents) == {
        "a": {"train": 8, "dev": 1, "test": 1},
        "b": {"train": 16, "dev": 2, "test": 2},
        "c": {"train": 19, "dev": 3, "test": 3},
        "d": {"train": 1, "dev": 1, "test": 1},
        "e": {"train": 2, "dev": 1, "test": 1},
    }
    assert notes == []


def test_small_train_share_leaves_train_a_speaker():
    accents = speakers(a=3)
    chosen, _ = split_speakers(accents, {"train": 0.1, "dev": 0.5, "test": 0.4}, seed=1)
    assert counts(chosen, accents) == {"a": {"train": 1, "dev": 1, "test": 1}}


def test_too_few_speakers_are_kept_out_and_said():
    accents = speakers(one=1, two=2)
    chosen, notes = split_speakers(accents, SHARES, seed=1)
    assert counts(chosen, accents) == {"one": {"train": 1}, "two": {"train": 1, "test": 1}}
    assert notes == [
        "accent one has 1 speaker: none for dev and test",
        "accent two has 2 speakers: none for dev",
    ]


def test_unknown_accent_is_an_accent_of_its_own():
    chosen, notes = split_speakers({"s": ""}, SHARES, seed=1)
    assert chosen == {"s": "train"}
    assert notes == ["accent unknown has 1 speaker: none for dev and test"]


def test_seed_alone_decides():
    accents = speakers(a=30, b=30)
    backwards = dict(reversed(accents.items()))
    first = split_speakers(accents, SHARES, seed=1)
    assert list(split_speakers(backwards, SHARES, seed=1)[0].items()) == list(first[0].items())
    assert split_speakers(accents, SHARES, seed=2)[0] != first[0]


def test_hash_seed_of_python_does_not_matter():
    program = (
        "from espnet_saliency.corpora.splits import split_speakers;"
        "print(split_speakers({f's{n}': 'ab'[n % 2] for n in range(40)}, "
        "{'train': .5, 'test': .5}, 7))"
    )
    root = str(Path(__file__).resolve().parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize("train, dev", [(0.8, 0.1), (1.0, 0.0), (1.2, -0.2)])
def test_shares_that_are_none(train, dev):
    with pytest.raises(UserError, match="must be positive and sum to 1"):
        split_speakers({"s": "a"}, {"train": train, "dev": dev}, seed=1)


def utterance(name: str, accent: str) -> Utterance:
    return Utterance(name, name[0], accent, "text", Path(f"/{name}.wav"))


def corpus() -> Corpus:
    return Corpus(
        {
            "train": (utterance(n, a) for n, a in (("a1", "us"), ("b1", "uk"))),
            "dev": [utterance("c1", "us"), utterance("d1", "uk"), utterance("e1", "")],
            "test": [utterance("f1", "us"), utterance("g1", "uk")],
            "test_unseen": [utterance("h1", "fi")],
        }
    )


def ids(corpus: Corpus) -> dict[str, list[str]]:
    return {name: [u.utt_id for u in utterances] for name, utterances in corpus.sets.items()}


def test_held_out_accent_is_tested_apart():
    held = hold_out_accents(corpus(), ["uk"])
    assert ids(held) == {
        "train": ["a1"],
        "dev": ["c1", "e1"],
        "test": ["f1"],
        "test_unseen": ["g1", "h1"],
    }
    assert [(r.utt_id, r.reason) for r in held.excluded] == [
        ("b1", "accent uk is held out of train"),
        ("d1", "accent uk is held out of dev"),
    ]


def test_unseen_set_is_made_where_there_is_none():
    given = corpus()
    del given.sets["test_unseen"]
    assert ids(hold_out_accents(given, ["us"]))["test_unseen"] == ["f1"]


def test_a_test_set_of_held_out_accents_alone_becomes_the_unseen_one():
    given = corpus()
    given.sets["test_british"] = [utterance("i1", "uk")]
    held = ids(hold_out_accents(given, ["uk"]))
    assert "test_british" not in held and held["test_british_unseen"] == ["i1"]
    assert held["test"] == ["f1"]


def test_accent_that_is_only_tested_may_be_named():
    held = hold_out_accents(corpus(), ["fi"])
    assert ids(held) == ids(corpus())
    assert held.excluded == []


def test_no_accents_held_out_is_the_corpus_itself():
    given = corpus()
    assert hold_out_accents(given, []) is given


def test_unknown_accent_names_the_known():
    with pytest.raises(UserError, match="--unseen_accents usa: .* the corpus has fi, uk, us"):
        hold_out_accents(corpus(), ["uk", "usa"])


def test_nothing_left_to_train_on():
    with pytest.raises(UserError, match="nothing is left in the set train"):
        hold_out_accents(corpus(), ["uk", "us"])
