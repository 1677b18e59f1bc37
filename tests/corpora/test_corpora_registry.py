"""The corpora by name."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from espnet_saliency import corpora
from espnet_saliency.errors import UserError


def test_mini_accent_and_manifest_are_known():
    assert {"mini_accent", "manifest"} <= set(corpora.NAMES)


@pytest.mark.parametrize("name", corpora.NAMES)
def test_each_corpus_has_options_with_defaults_and_prepare(name):
    module = corpora.load(name)
    assert dataclasses.is_dataclass(module.Options) and module.Options() == module.Options()
    assert list(inspect.signature(module.prepare).parameters) == ["corpus_dir", "options", "seed"]


def test_unknown_corpus_names_the_known():
    with pytest.raises(UserError, match="--corpus wsj: unknown; one of mini_accent, .*manifest"):
        corpora.load("wsj")
    # A module that is no corpus.
    with pytest.raises(UserError, match="unknown"):
        corpora.load("utterance")
