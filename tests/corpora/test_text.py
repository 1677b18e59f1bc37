"""Text policies: an example for each rule, idempotence, and nothing outside the tables changed."""

from __future__ import annotations

import random
import unicodedata

import pytest
from espnet_saliency.corpora.text import (
    PERSIAN_TABLE,
    TEXT_POLICIES,
    english_lower,
    english_upper,
    one_line,
    persian,
    tags,
    text_policy,
    without_tags,
)
from espnet_saliency.errors import UserError


@pytest.mark.parametrize(
    "text, expected",
    [
        ("  a  b\t c \r\n", "a b c"),
        ("a\u00a0b\u2028c\u3000d\x85e", "a b c d e"),  # blanks and line ends of Unicode
        ("\ufeffa\x00b\x07", "ab"),  # byte order mark, control characters
        ("Mr. <laugh> O'Neil, 3.50", "Mr. <laugh> O'Neil, 3.50"),
        ("می\u200cشود", "می\u200cشود"),
        (" \u200b\u200c \u200f", ""),  # nothing that is seen
        ("", ""),
    ],
)
def test_one_line(text, expected):
    assert one_line(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("<laugh> well <breath>", "WELL"),
        ("it\u2019s O\u02bcNeil\u2018s", "IT'S O'NEIL'S"),
        ("café naïve ﬁne", "CAFE NAIVE FINE"),
        ("cafe\u0301", "CAFE"),
        ("Straße", "STRASSE"),
        ("rock & roll", "ROCK AND ROLL"),
        ("'tis the dogs' ' own", "'TIS THE DOGS' OWN"),
        ("''quoted''", "'QUOTED'"),
        ("well-known, “so”: yes... (no!)", "WELL KNOWN SO YES NO"),
        ("soft\u00adware zero\u200bwidth", "SOFTWARE ZEROWIDTH"),
        ("in 1999", "IN 1999"),
        ("<laugh>", ""),
    ],
)
def test_english(text, expected):
    assert english_upper(text) == expected
    assert english_lower(text) == expected.lower()


def test_english_upper_leaves_librispeech_as_it_is():
    text = "THE DOGS' TAILS AND 'TIS O'CLOCK SAID I'VE"
    assert english_upper(text) == text


def test_tags_are_read_and_taken_out():
    assert tags("<laugh> yes <OVERLAP> no <no-speech>") == ["laugh", "overlap", "no-speech"]
    assert without_tags("<laugh> Yes <overlap>no ") == "Yes no"
    assert tags("a < b") == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("علي مصطفى", "علی مصطفی"),  # Arabic yeh, alef maksura
        ("كتاب ڪتاب", "کتاب کتاب"),  # Arabic kaf, swash kaf
        ("خانة خانۀ ہمہ ھمه", "خانه خانه همه همه"),  # forms of heh
        ("أحمد إيران ٱلف", "احمد ایران الف"),  # forms of alef
        ("آب مؤثر مسئول جزء", "آب مؤثر مسئول جزء"),  # letters of their own
        ("\u0627\u0653\u0628 \u0627\u064e\u0653", "\u0622\u0628 \u0622"),  # alef, (fatha,) madda
        (
            "\u0627\u200d\u0653\u0628 \u0627\u0640\u0653",
            "\u0622\u0628 \u0622",
        ),  # nothing seen between
        ("م\u0648\u0654ثر مس\u06cc\u0654ول مس\u064a\u0654ول", "مؤثر مسئول مسئول"),
        ("١٢٣ ۴۵۶ 789", "123 456 789"),
        ("١٢٬٠٠٠", "12000"),
        ("حتماً مُحَمَّد رحمٰن خانهٔ", "حتما محمد رحمن خانه"),
        ("ســـلام", "سلام"),
        ("\u200fسلام\u200e \ufeffدو\u2060ست\u200d", "سلام دوست"),
        ("می\u200cشود", "می شود"),
        ("«سلام»، خوبی؟! ۵۰٪؛ (بله)…", "سلام خوبی 50 بله"),
        ("\ufefbله \ufefc", "لاله لا"),  # presentation forms: ligature lam-alef
        ("سلام\u00a0 دنیا\t", "سلام دنیا"),
        ("Hello پژگچ", "Hello پژگچ"),
    ],
)
def test_persian(text, expected):
    assert persian(text) == expected


@pytest.mark.parametrize("what, characters, becomes", PERSIAN_TABLE)
def test_each_row_of_the_persian_table_is_applied(what, characters, becomes):
    for character in characters:
        expected = f"ب{becomes}ب"
        assert persian(f"ب{character}ب") == expected, (what, f"U+{ord(character):04X}")


def test_persian_changes_nothing_outside_its_table():
    table = {c for _, characters, _ in PERSIAN_TABLE for c in characters}
    for code in range(0x21, 0x11000):
        c = chr(code)
        presentation = 0xFB50 <= code <= 0xFEFC
        if c in table or c.isspace() or unicodedata.category(c) in ("Cc", "Cs") or presentation:
            continue
        assert persian(f"ب{c}ب") == f"ب{c}ب", f"U+{code:04X}"


@pytest.mark.parametrize("name", TEXT_POLICIES)
def test_policies_are_idempotent(name):
    policy, generator = TEXT_POLICIES[name], random.Random(3)
    pool = [c for _, characters, _ in PERSIAN_TABLE for c in characters]
    pool += "abAZ'’‘´`<>&ßéŉİıǰ½ªﬁ²ﷺ﷼ﻻﹰآؤئ\t\r\n\u2028\x85\u00a0\u200b-. "
    pool += [chr(generator.randrange(0x20, 0xD800)) for _ in range(500)]
    for _ in range(5000):
        text = "".join(generator.choices(pool, k=generator.randrange(1, 10)))
        once = policy(text)
        assert policy(once) == once, ascii(text)
        assert once == once.strip() and "  " not in once and "\n" not in once


def test_unknown_policy_is_named():
    assert text_policy("persian") is persian
    with pytest.raises(UserError, match="--text_policy farsi: one of none, english_upper"):
        text_policy("farsi")
