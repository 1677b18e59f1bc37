from __future__ import annotations

import random
import subprocess
import sys

import jiwer
import numpy as np
import pytest

from espnet_saliency.scoring.error_rates import Rate, score, spread

REFERENCES = {
    "s1-a": "the cat sat on the mat",
    "s1-b": "hello world",
    "s2-a": "",
    "s2-b": "one two three",
}
HYPOTHESES = {
    "s1-a": "oh the cat sit on mat",  # oh inserted, sat->sit, the deleted
    "s1-b": "",  # two deletions
    "s2-a": "uh oh",  # two insertions
    "s2-b": "one two three",
}
SPEAKERS = {"s1-a": "s1", "s1-b": "s1", "s2-a": "s2", "s2-b": "s2"}
ACCENTS = {"s1-a": "scots", "s1-b": "scots", "s2-a": "irish"}


def words(references=REFERENCES, hypotheses=HYPOTHESES, metric="wer"):
    return score(metric, references, hypotheses, SPEAKERS, ACCENTS)


def test_counts_of_each_utterance():
    scores = words()
    assert scores.ids == ("s1-a", "s1-b", "s2-a", "s2-b")
    # hits, substitutions, deletions, insertions
    assert scores.counts.tolist() == [[4, 1, 1, 1], [0, 0, 2, 0], [0, 0, 0, 2], [3, 0, 0, 0]]
    assert scores.words.tolist() == [6, 2, 0, 3]
    assert scores.errors.tolist() == [3, 2, 2, 0]


def test_rate_is_a_ratio_of_sums():
    total = words().rate()
    assert total == Rate(4, 2, 11, 7, 1, 3, 3, 3)
    assert total.errors == 7
    assert total.rate == pytest.approx(100 * 7 / 11)  # the mean of the four rates would not be


def test_groups_by_accent_speaker_and_any_label():
    scores = words()
    by_accent = scores.by_accent()
    assert list(by_accent) == ["", "irish", "scots"]
    assert by_accent["scots"].rate == pytest.approx(100 * 5 / 8)
    assert by_accent["irish"].words == 0 and by_accent["irish"].rate is None
    assert by_accent[""].rate == 0
    assert {s: r.errors for s, r in scores.by(scores.speakers).items()} == {"s1": 5, "s2": 2}
    assert {k: r.errors for k, r in scores.by(["x", "y", "y", "x"]).items()} == {"x": 3, "y": 4}


def test_no_accent_known_is_no_accent_group():
    assert score("wer", REFERENCES, HYPOTHESES, SPEAKERS, {}).by_accent() == {}


def test_alignment_shows_each_word():
    assert words().alignment(0) == [
        ("I", "", "oh"),
        ("=", "the", "the"),
        ("=", "cat", "cat"),
        ("S", "sat", "sit"),
        ("=", "on", "on"),
        ("D", "the", ""),
        ("=", "mat", "mat"),
    ]
    assert words().alignment(2) == [("I", "", "uh"), ("I", "", "oh")]


def test_characters_count_the_blank_once():
    scores = score("cer", {"u": "ab cd"}, {"u": "abcd"}, {"u": "s"}, {})
    assert scores.words.tolist() == [5]
    assert scores.counts.tolist() == [[4, 0, 1, 0]]  # the blank is deleted
    assert scores.alignment(0)[2] == ("D", " ", "")


def test_equal_to_jiwer_on_random_texts():
    draw = random.Random(5)
    references, hypotheses, speakers = {}, {}, {}
    for n in range(300):
        text = [draw.choice("a bb ccc dd e".split()) for _ in range(draw.randint(1, 12))]
        other = [w if draw.random() < 0.7 else "zz" for w in text if draw.random() < 0.9]
        references[f"{n:03}"], hypotheses[f"{n:03}"] = " ".join(text), " ".join(other)
        speakers[f"{n:03}"] = f"s{n % 7}"
    ref, hyp = list(references.values()), list(hypotheses.values())
    wer = score("wer", references, hypotheses, speakers, {})
    cer = score("cer", references, hypotheses, speakers, {})
    assert wer.rate().rate == pytest.approx(100 * jiwer.wer(ref, hyp))
    assert cer.rate().rate == pytest.approx(100 * jiwer.cer(ref, hyp))
    for index in (0, 150, 299):
        single = jiwer.process_words(ref[index], hyp[index])
        expected = [single.hits, single.substitutions, single.deletions, single.insertions]
        assert wer.counts[index].tolist() == expected


def test_timeline_places_errors_on_and_between_words():
    references = {"a": "w x y z", "b": "w"}
    hypotheses = {"a": "i j w q z", "b": "w k"}  # two before w, x->q, y deleted; one after w
    line = score("wer", references, hypotheses, {"a": "s", "b": "s"}, {}).timeline
    assert line.errors.tolist() == [2, 0, 0, 1, 0, 1, 0, 0, 0] + [0, 0, 1]
    assert line.utterance.tolist() == [0] * 9 + [1] * 3
    assert np.flatnonzero(line.is_token).tolist() == [1, 3, 5, 7, 10]


def test_spread_over_accents():
    def rate(errors, count):
        return Rate(1, 1, count, count - errors, errors, 0, 0, 1)

    found = spread({"a": rate(1, 10), "b": rate(30, 100), "c": rate(2, 10), "": rate(9, 9)})
    assert found.macro == pytest.approx(20)  # (10 + 30 + 20) / 3, whatever their sizes
    assert found.worst == ("b", 30)
    assert found.gap == pytest.approx(20)
    assert found.std == pytest.approx(10)
    assert spread({"": rate(1, 2)}).macro is None
    assert spread({"a": rate(1, 2)}).std is None


def test_scoring_imports_neither_torch_nor_espnet():
    code = (
        "import sys, espnet_saliency.scoring.comparison, espnet_saliency.scoring.tables\n"
        "from espnet_saliency.scoring.normalize import normalizer\n"
        "normalizer('english')('one')\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'espnet', 'espnet2')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
