"""From a corpus as its publisher lays it out to utterances: one file a corpus."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from espnet_saliency.errors import UserError

NAMES: tuple[str, ...] = tuple(
    name
    for name in (
        "mini_accent",
        "librispeech",
        "edacc",
        "commonaccent",
        "commonvoice_fa",
        "pdid",
        "manifest",
    )
    if importlib.util.find_spec(f"{__name__}.{name}")
)
"""Corpora that a recipe can run on; each is a module here with `Options` and `prepare`."""


def load(name: str) -> ModuleType:
    """The module of a corpus.

    Returns:
        A module with `Options`, a dataclass of the corpus's own options, and
        `prepare(corpus_dir, options, seed) -> Corpus`.

    Raises:
        UserError: there is no corpus of that name.
    """
    if name not in NAMES:
        raise UserError(f"--corpus {name}: unknown; one of {', '.join(NAMES)}")
    return importlib.import_module(f"{__name__}.{name}")
