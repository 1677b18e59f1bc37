"""Options: typed, from recipe.yaml and the command line, with one clear line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.cli import help_text, main
from espnet_saliency.recipe.options import RecipeOptions, convert, field_docs, load_options


def test_the_command_line_wins_over_recipe_yaml_and_that_over_the_defaults():
    plain = load_options(["--corpus", "mini_accent"]).recipe
    assert plain.nbpe != RecipeOptions.nbpe  # set by the recipe
    assert plain.test_sets == ("test", "test_unseen")  # a YAML list
    given = load_options(["--corpus=mini_accent", "--nbpe", "33", "--test-sets", "test"]).recipe
    assert given.nbpe == 33
    assert given.test_sets == ("test",)


def test_paths_are_seen_from_the_recipe_unless_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = load_options(["--expdir", "mine"]).recipe
    assert options.expdir == tmp_path / "mine"
    assert options.datadir.parts[-4:] == ("egs2", "mini_accent", "asr1", "data")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--nonsense", "1"], "unknown option --nonsense"),
        (["--stop_stag", "3"], "did you mean stop_stage"),
        (["--corpus", "klingon"], "klingon"),
        (["--stage", "16"], "stages are 1 to 15"),
        (["--stage", "0"], "stages are 1 to 15"),
        (["--stage", "5", "--stop_stage", "4"], "lies after --stop_stage 4"),
        (["--stage", "two"], "--stage takes a whole number, not 'two'"),
        (["--use_lm", "true", "--lm_train_text", "absent.txt"], "absent.txt: no such file"),
        (["--use_lm", "maybe"], "takes true or false"),
        (["--arms", "specaug nonsense"], "unknown arm 'nonsense'"),
        (["--arms", "specaug specaug"], "named twice"),
        (["--arms", ""], "--arms is empty"),
        (["--asr_config", "conf/absent.yaml"], "no file conf/absent.yaml: looked in"),
        (["--token_type", "syllable"], "one of bpe, char, word"),
        (["--max_reject", "2"], "between 0 and 1"),
        (["--speed_perturb_factors", "0.9 0.9"], "different positive factors"),
        (["--min_wav_duration", "30"], "the first must be the smaller"),
        (["--num_nodes", "2"], "need --ngpu 1 or more"),
        (["--nj", "0"], "must be 1 or more"),
        (["--scoring_text", "martian"], "one of"),
        (["--seed", "1", "--seed", "2"], "given twice"),
        (["stage", "1"], "unexpected argument 'stage'"),
        (["--asr_tag", "a/b"], "becomes a folder's name"),
        (["--test_sets", "train"], "different sets"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert captured.out == "" and list(tmp_path.iterdir()) == []


def test_a_key_of_recipe_yaml_that_is_unknown_names_the_file(tmp_path, monkeypatch):
    from espnet_saliency.recipe import options

    folder = tmp_path / "egs2" / "mini_accent" / "asr1" / "conf"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("nbpee: 3\n")
    monkeypatch.setattr(options, "ROOT", tmp_path)
    with pytest.raises(UserError, match=r"recipe.yaml: key nbpee: did you mean nbpe"):
        load_options([])


def test_conversions():
    assert convert("1 2.5", tuple[float, ...], "x") == (1.0, 2.5)
    assert convert([1, 2.5], tuple[float, ...], "x") == (1.0, 2.5)
    assert convert(None, tuple[str, ...], "x") == ()
    assert convert("TRUE", bool, "x") is True
    assert convert("", Path | None, "x") is None
    assert convert("~/a", Path | None, "x") == Path("~/a")
    with pytest.raises(UserError, match="a whole number, not 2.5"):
        convert(2.5, int, "x")


def test_help_lists_every_stage_and_explains_every_option():
    text = help_text([])
    for number in range(1, 16):
        assert f"\n  {number:2d}  " in text
    docs = field_docs(RecipeOptions)
    for name in RecipeOptions.__dataclass_fields__:
        assert f"--{name}" in text
        assert docs.get(name), f"{name} has no explanation"


def test_a_dry_run_prints_the_programs_and_writes_nothing(capsys, tmp_path):
    where = ["--datadir", str(tmp_path / "d"), "--dumpdir", str(tmp_path / "u"), "--expdir", str(tmp_path / "e")]
    assert main(["--dry_run", "--stop_stage", "15", *where]) == 0
    out = capsys.readouterr().out
    assert out.count("python -m espnet_saliency -m espnet2.bin.asr_train") >= 4
    assert "espnet2.bin.cls_train" in out and "espnet2.bin.asr_inference" in out and "espnet2.bin.pack" in out
    assert list(tmp_path.iterdir()) == []


def test_several_machines_start_through_slurm(capsys, tmp_path):
    assert main(["--dry_run", "--stage", "11", "--stop_stage", "11", "--ngpu", "2", "--num_nodes", "3"]) == 0
    out = capsys.readouterr().out
    assert "srun --nodes 3 --ntasks-per-node 1 python -m espnet_saliency" in out
    assert "--multiprocessing_distributed true --dist_launcher slurm" in out
