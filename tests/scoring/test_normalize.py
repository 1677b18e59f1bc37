from __future__ import annotations

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.normalize import POLICIES, normalizer


def test_none_keeps_all_but_blanks():
    assert normalizer("none")("  Hello,\tWorld \n") == "Hello, World"
    assert normalizer("none")(" ") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, WORLD!", "hello world"),
        ("don’t rock 'n' roll", "don't rock n roll"),
        ("twenty-one $5 <breath>", "twenty one 5 breath"),
        ("...", ""),
        ("cafe\u0301", "caf\u00e9"),  # one spelling for the composed and the decomposed letter
        ("می\u200cروم، آب؟", "می\u200cروم آب"),  # joiner and madda are spelling
        ("नमस्ते।", "नमस्ते"),  # vowel signs stay
    ],
)
def test_basic(text, expected):
    assert normalizer("basic")(text) == expected


def test_basic_twice_is_basic_for_every_character_of_two_planes():
    basic = normalizer("basic")
    for code in range(0x20000):
        if 0xD800 <= code < 0xE000:
            continue  # surrogates are no text
        once = basic(f"a{chr(code)}b {chr(code)}")
        assert basic(once) == once, hex(code)


def test_english_is_whispers():
    english = normalizer("english")
    assert english("<laugh> um Mister Brown's colour") == "mister brown is color"
    assert english("twenty one don't") == "21 do not"
    assert english("hmm") == ""


def test_persian_counts_two_spellings_of_one_word_as_one():
    persian = normalizer("persian")
    assert persian("مي\u200cروم، كتاب!") == persian("می روم کتاب") == "می روم کتاب"
    assert persian("۱۲") == "12"
    assert persian("آب") == "آب"  # another word than اب


def test_unknown_policy_names_the_known_ones():
    with pytest.raises(UserError, match="'german' is unknown: choose one of none, basic, english"):
        normalizer("german")
    assert list(POLICIES) == ["none", "basic", "english", "persian"]
