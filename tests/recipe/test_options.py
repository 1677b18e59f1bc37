"""Options: typed, from recipe.yaml and the command line, with one clear line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.check_configs import _check
from espnet_saliency.recipe.cli import help_text, main
from espnet_saliency.recipe.jobs import call_in_fork
from espnet_saliency.recipe.options import ROOT, RecipeOptions, convert, field_docs, load_options


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
        (["--seed", "-3"], "--seed -3: a seed lies between 0 and"),
        (["--seeds", "1 99999999999"], "--seed 99999999999: a seed lies between"),
        (["--datadir", ""], "--datadir is empty: name a file or folder"),
        (["--datadir", "here", "--corpus_dir", "here"], "is --corpus_dir too, where nothing is written"),
        (["--arms", "specaug", "saliency"], "unexpected argument 'saliency': options are given as --name value, lists"),
        (["--arms", "specaug,saliency"], "a list is written 'a b'"),
        (["--corpus"], "corpus true"),
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
    with pytest.raises(UserError, match=r"unknown key nbpee in .*recipe.yaml: did you mean nbpe"):
        load_options([])
    (folder / "recipe.yaml").write_text("corpus: edacc\n")
    with pytest.raises(UserError, match=r"recipe.yaml: its folder says which corpus it is of, mini_accent: remove"):
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


def test_help_shows_what_holds_for_the_corpus():
    for arguments in (["--corpus", "pdid", "--help"], ["--help", "--corpus=pdid"]):
        text = help_text(arguments)
        assert "Options of the corpus pdid" in text
        for option in ("--lang [fa]", "--scoring_text [persian]", "--nj [8]"):
            assert f"\n  {option}\n" in text
    assert "\n  --asr_config [conf/small/train_asr_conformer.yaml]\n" in help_text([])


@pytest.mark.parametrize(
    "content, message",
    [
        ("specaug: specaug\nspecaug_conf: {num_time_masks: 2}\n", "specaug_conf: got an unexpected keyword argument"),
        ("specaug: specaug\nspecaug_conf: 3\n", "specaug_conf: 3 is no mapping of options to values"),
        ("specaug: nosuch\n", "specaug: nosuch: must be saliency, specaug, or null for none"),
        ("specaug: [saliency]\n", "must be saliency, specaug, or null"),
        ("specaug_conf: {}\n", "specaug: is missing: must be"),
        ("", "specaug: is missing: must be"),
        ("specaug: null\nspecaug_conf: {fill: mean}\n", "specaug_conf.fill has no say where specaug is null"),
        ("specaug: saliency\nspecaug: null\n", "key 'specaug' is given twice"),
        ("specaug: saliency\nspecaug_conf: {classifier: 3}\n", "specaug_conf.classifier: 3, and the classifier of"),
        ("specaug: saliency\nspecaug_conf: {specaug: 1}\n", "specaug_conf.specaug: 1 is no mapping"),
    ],
)
def test_a_broken_arm_is_told_before_anything_runs(content, message, tmp_path, monkeypatch, capsys):
    from espnet_saliency.recipe import arms

    (tmp_path / "conf" / "aug").mkdir(parents=True)
    (tmp_path / "conf" / "aug" / "broken.yaml").write_text(content)
    monkeypatch.setattr(arms, "ROOT", tmp_path)
    assert main(["--arms", "broken", "--dry_run"]) == 2
    error = capsys.readouterr().err
    assert message in error and "broken.yaml: " in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "option, content, message",
    [
        ("asr_config", "encodr: conformer\n", "ESPnet refuses it: unrecognized arguments: encodr: correct it there"),
        ("asr_config", "max_epoch: abc\n", "argument --max_epoch: invalid int value: 'abc'"),
        ("asr_config", "encoder: nosuch\n", "encoder: 'nosuch' is none of avhubert,"),
        ("asr_config", "encoder: conformer\nencoder_conf: {output_siz: 3}\n", "has no such argument; it has input_size"),
        ("accent_config", "encoder: accent_resnet\nencoder_conf: {x: 3}\n", "encoder_conf.x: encoder accent_resnet has no"),
        ("inference_config", "beam: 3\n", "unrecognized arguments: beam"),
    ],
)
def test_a_configuration_that_espnet_refuses_is_told_before_the_first_stage(option, content, message, tmp_path, capsys):
    features = "frontend_conf: {n_fft: 512, win_length: 512, hop_length: 256}\n"
    (tmp_path / "bad.yaml").write_text(content + (features if option != "inference_config" else ""))
    places = [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(tmp_path / name))]
    assert main([*places, "--corpus_dir", str(tmp_path / "corpus"), f"--{option}", str(tmp_path / "bad.yaml")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith(f"error: {tmp_path / 'bad.yaml'}: ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_every_configuration_here_passes_espnets_parsers():
    files = []
    for task, pattern in (("asr", "train_asr"), ("cls", "train_accent"), ("lm", "train_lm"), ("inference", "decode_asr")):
        found = [*ROOT.glob(f"conf/**/{pattern}*.yaml"), *ROOT.glob(f"egs2/*/asr1/conf/{pattern}*.yaml")]
        assert found
        files += [(task, path) for path in found]
    call_in_fork(_check, files)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["--datadir", str(tmp_path / "file"), "--corpus_dir", str(tmp_path / "c"), "--stop_stage", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'file'}") and error.count("\n") == 1


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
