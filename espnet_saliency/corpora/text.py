"""Named policies for the transcripts that a recogniser learns from.

none            one line, blanks collapsed, byte order marks removed: what every text gets
english_upper   upper case, no tags, no punctuation but apostrophes of words: LibriSpeech's form
english_lower   the same in lower case
persian         one code point for each Persian letter and digit: PERSIAN_TABLE says all of it

Each policy is a function of one text, and idempotent. Test sets keep the publisher's text (policy
none): there, the text policy of scoring has its say, for reference and hypothesis alike.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Callable

from espnet_saliency.errors import UserError


def one_line(text: str) -> str:
    """`text` as one line: tabs, line ends, non-breaking and other blanks become single blanks.

    Byte order marks and control characters go; the zero-width non-joiner, a letter of Persian
    spelling, stays. A text of invisible characters alone is empty.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    # Category Cc also holds tab, line feed and carriage return: blanks first, then the rest.
    blanks = " ".join(text.split())
    kept = "".join(c for c in blanks if c != "\ufeff" and unicodedata.category(c) != "Cc")
    if all(c == " " or unicodedata.category(c) == "Cf" for c in kept):
        return ""
    return " ".join(kept.split())


# English ----------------------------------------------------------------------------------------

_TAG = re.compile(r"<[^<>]*>")
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4\u0060\u2032", "'"))
_FREE_APOSTROPHE = re.compile(r"(?<![^\W_])'(?![^\W_])")


def tags(text: str) -> list[str]:
    """The names of the tags in a transcript: "<laugh> yes <overlap>" -> ["laugh", "overlap"]."""
    return [tag[1:-1].strip().lower() for tag in _TAG.findall(text)]


def without_tags(text: str) -> str:
    """The transcript without its tags: "<laugh> yes" -> "yes"."""
    return one_line(_TAG.sub(" ", text))


def english_upper(text: str) -> str:
    """English in upper case, as LibriSpeech writes it; a LibriSpeech transcript is left as it is.

    In this order: tags (<laugh>) go; ' for every apostrophe; accents and ligatures are undone
    (café, CAFE); & is AND; an apostrophe stays where it touches a letter or digit; every other
    character that is no letter or digit becomes a blank, invisible ones go.
    """
    return _english(text).upper()


def english_lower(text: str) -> str:
    """`english_upper` in lower case."""
    return _english(text).lower()


def _english(text: str) -> str:
    text = _TAG.sub(" ", text).translate(_APOSTROPHES)
    text = unicodedata.normalize("NFKD", text).translate(_APOSTROPHES).replace("&", " and ")
    # The round trip settles letters whose upper case is two letters (ß, SS).
    text = unicodedata.normalize("NFKD", text.lower().upper().lower())
    kept = []
    for c in text:
        category = unicodedata.category(c)
        if c == "'" or category[0] in "LN":
            kept.append(c)
        elif category not in ("Mn", "Cf"):
            kept.append(" ")
    return " ".join(_FREE_APOSTROPHE.sub(" ", "".join(kept)).split())


# Persian ----------------------------------------------------------------------------------------

_MARKS = "".join(
    chr(code)
    for first, last in [
        (0x0610, 0x061A),
        (0x064B, 0x065F),
        (0x0670, 0x0670),
        (0x06D6, 0x06DC),
        (0x06DF, 0x06E8),
        (0x06EA, 0x06ED),
    ]
    for code in range(first, last + 1)
)

PERSIAN_TABLE: tuple[tuple[str, str, str], ...] = (
    # (what, the characters, what each becomes)
    ("yeh: Arabic yeh, alef maksura", "\u064a\u0649", "\u06cc"),
    ("kaf: Arabic kaf, swash kaf", "\u0643\u06aa", "\u06a9"),
    (
        "heh: teh marbuta, heh with yeh, heh goal, heh doachashmee, ae",
        "\u0629\u06c0\u06c1\u06be\u06d5",
        "\u0647",
    ),
    ("alef: with hamza above, with hamza below, wasla", "\u0623\u0625\u0671", "\u0627"),
    *(
        ("digit: Arabic-Indic and Persian", chr(0x0660 + d) + chr(0x06F0 + d), str(d))
        for d in range(10)
    ),
    (
        "diacritic: tanwin, harakat, shadda, sukun, hamza, superscript alef, Quranic marks",
        _MARKS,
        "",
    ),
    ("tatweel", "\u0640", ""),
    (
        "invisible: joiner, direction marks, word joiner, byte order mark, soft hyphen",
        "\u200d\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
        "\u00ad",
        "",
    ),
    ("thousands separator", "\u066c", ""),
    # می‌شود and می شود are both written, by the same people: one blank for both.
    ("non-joiner: zero-width non-joiner, zero-width space", "\u200c\u200b", " "),
    ("punctuation, ASCII", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", " "),
    (
        "punctuation, Persian: comma, semicolon, question, full stop, percent, decimal, star, date",
        "\u060c\u061b\u061f\u06d4\u066a\u066b\u066d\u060d\u061e",
        " ",
    ),
    (
        "punctuation, typographic: quotation marks, dashes, ellipsis, bullet, middle dot",
        "\u00ab\u00bb\u2039\u203a\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2010\u2011\u2012"
        "\u2013\u2014\u2015\u2026\u2022\u00b7\u2212\ufd3e\ufd3f",
        " ",
    ),
)
"""Every character that `persian` changes alone, and what it becomes ("" is: removed)."""

_PERSIAN = str.maketrans({c: to for _, characters, to in PERSIAN_TABLE for c in characters})
_REMOVED = {
    ord(c): None
    for what, chars, to in PERSIAN_TABLE
    if to == "" and not what.startswith(("diacritic", "thousands"))
    for c in chars
}
_PRESENTATION = re.compile("[\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc]")
_ALEF_MADDA = re.compile(f"\u0627([{_MARKS}]*?)\u0653")
_WAW_HAMZA = re.compile(f"\u0648([{_MARKS}]*?)\u0654")
_YEH_HAMZA = re.compile(f"[\u06cc\u064a\u0649]([{_MARKS}]*?)\u0654")


def persian(text: str) -> str:
    """Persian with one spelling for what is one letter.

    In this order: presentation forms (U+FB50 and after, old encodings) become their letters;
    tatweel and invisible characters go; آ, ؤ and ئ written as a letter and a mark become one
    character (else they would lose their mark with the diacritics); then PERSIAN_TABLE, character
    by character; blanks are collapsed. Nothing else changes: Latin letters keep their case.
    """
    text = _PRESENTATION.sub(lambda m: unicodedata.normalize("NFKC", m.group()), text)
    text = text.translate(_REMOVED)
    text = _ALEF_MADDA.sub("\u0622\\1", text)
    text = _WAW_HAMZA.sub("\u0624\\1", text)
    text = _YEH_HAMZA.sub("\u0626\\1", text)
    return one_line(text.translate(_PERSIAN))


TEXT_POLICIES: dict[str, Callable[[str], str]] = {
    "none": one_line,
    "english_upper": english_upper,
    "english_lower": english_lower,
    "persian": persian,
}
"""Name of a policy (`text_policy` in recipe.yaml) -> the function."""


def text_policy(name: str) -> Callable[[str], str]:
    """The policy of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TEXT_POLICIES:
        raise UserError(f"--text_policy {name}: one of {', '.join(TEXT_POLICIES)}")
    return TEXT_POLICIES[name]
