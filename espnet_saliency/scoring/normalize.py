"""Text policies of scoring: what reference and hypothesis have in common before they are compared.

A policy changes references and hypotheses alike. Every policy collapses blanks, so that a
hypothesis of nothing but blanks is an empty one.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Callable

from espnet_saliency.corpora.text import persian
from espnet_saliency.errors import UserError

Normalizer = Callable[[str], str]

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})  # typographic, modifier letter
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")


def collapse_blanks(text: str) -> str:
    """`text` with one space for each run of blanks, and none at its ends."""
    return " ".join(text.split())


def basic(text: str) -> str:
    """Lower case, no punctuation or symbols; for any language, with no knowledge of it.

    An apostrophe inside a word stays (don't), marks and zero-width joiners stay (they are part of
    the spelling in many scripts), all other punctuation and symbols become a blank.
    """
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    text = text.translate(_APOSTROPHES)
    text = "".join(
        " " if c != "'" and unicodedata.category(c)[0] in "PS" else c for c in text
    )
    return collapse_blanks(_LONE_APOSTROPHE.sub(" ", text))


def _english() -> Normalizer:
    # Imported here: it reads its spelling tables, which the other policies do not need.
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    return lambda text: collapse_blanks(normalize(text))


POLICIES: dict[str, Callable[[], Normalizer]] = {
    "none": lambda: collapse_blanks,
    "basic": lambda: basic,
    "english": _english,
    "persian": lambda: persian,
}
"""Name of a policy -> what makes its function.

none: the text as it stands, case and punctuation included (sclite, which ESPnet's recipes call,
ignores the case of ASCII letters).
basic: see `basic`; running it twice changes nothing.
english: Whisper's EnglishTextNormalizer (Radford et al. 2022, appendix C): tags, fillers, numbers,
contractions, British to American spelling. Applied once, as in published numbers: a second time it
would read the digits that it wrote ("double oh seven" -> "007" -> "7").
persian: one spelling for each letter, no marks, no punctuation, a blank for the zero-width
non-joiner (`corpora.text.persian`); running it twice changes nothing.
"""


@functools.lru_cache(maxsize=None)
def normalizer(name: str) -> Normalizer:
    """The text policy called `name`, one of `POLICIES`.

    Raises:
        UserError: there is no such policy.
    """
    if name not in POLICIES:
        raise UserError(f"text policy {name!r} is unknown: choose one of {', '.join(POLICIES)}")
    return POLICIES[name]()
