"""The corpus's own options in a recipe: where its paths are seen from, its tables, its accents."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.options import load_options

ROOT = Path(__file__).resolve().parents[2]


def _places(folder: Path) -> list[str]:
    return [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(folder / name))]


def test_a_path_of_recipe_yaml_is_seen_from_the_recipe_and_a_typed_one_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ROOT / "egs2" / "edacc" / "asr1"
    assert load_options(["--corpus", "edacc"]).corpus.accent_map == recipe / "conf" / "accents.yaml"
    typed = load_options(["--corpus", "edacc", "--accent_map", "conf/accents.yaml"]).corpus
    assert typed.accent_map == tmp_path / "conf" / "accents.yaml"


def test_a_typed_path_that_is_not_here_is_looked_for_in_the_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.tsv").write_text("path\tsplit\n")
    words = ["--corpus", "pdid", "--corpus_dir", "corpus", "--test_sets", "test", "--table"]
    assert load_options([*words, "a.tsv"]).corpus.table == tmp_path / "corpus" / "a.tsv"
    assert load_options([*words, "b.tsv"]).corpus.table == tmp_path / "b.tsv"
    (tmp_path / "a.tsv").write_text("path\tsplit\n")
    assert load_options([*words, "a.tsv"]).corpus.table == tmp_path / "a.tsv"


@pytest.mark.parametrize("name", ["edacc", "commonaccent", "commonvoice_fa", "pdid"])
def test_accents_that_are_held_out_get_a_test_set_of_their_own(name):
    assert load_options(["--corpus", name]).recipe.test_sets == ("test",)
    given = load_options(["--corpus", name, "--unseen_accents", "irish"]).recipe
    assert given.test_sets == ("test", "test_unseen")


def test_an_edited_accent_map_makes_another_corpus(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("fixtures", ROOT / "tests" / "corpora" / "fixtures.py")
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    corpus = fixtures.make_edacc(tmp_path / "corpus", dev_conversations=4, test_conversations=1)
    accents = tmp_path / "accents.yaml"
    words = ["--corpus", "edacc", "--corpus_dir", str(corpus), "--accent_map", str(accents)]
    words += [*_places(tmp_path), "--stop_stage", "1", "--nj", "1"]

    accents.write_text("indian: [Indian, Standard Indian English]\nscottish: [Glaswegian]\n")
    assert main(words) == 0 and main(words) == 0
    assert "skipped" in capsys.readouterr().out
    accents.write_text("asian: [Indian, Standard Indian English]\nscottish: [Glaswegian]\n")
    assert main(words) == 0
    assert f"done again: tables.{accents}" in capsys.readouterr().out
    assert "asian" in (tmp_path / "data" / "train" / "utt2accent").read_text()


@pytest.mark.parametrize("name", ["librispeech", "commonvoice_fa"])
def test_a_corpus_without_accents_asks_for_a_classifier_where_an_arm_needs_one(name, tmp_path, capsys):
    assert main(["--corpus", name, *_places(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: arm saliency_specaug needs an accent classifier") and "--classifier EXP" in error
    assert error.count("\n") == 1 and list(tmp_path.iterdir()) == []
    # Preparing its data, and labels of the user's own, need none.
    for options in (["--stop_stage", "5"], ["--has_accents", "true"]):
        assert main(["--corpus", name, *_places(tmp_path), "--dry_run", *options]) == 0


def test_a_corpus_without_accents_has_nothing_to_do_in_the_stages_of_the_classifier(tmp_path, capsys):
    words = ["--corpus", "librispeech", *_places(tmp_path), "--dry_run", "--arms", "specaug random_specaug"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.count("nothing to do: librispeech has no accent labels") == 3
    assert "cls_train" not in out
