"""Starting from a trained recogniser: what is taken along, what is refused, and that training starts there."""

from __future__ import annotations

import dataclasses
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_saliency.datadir.tokens import make_token_list
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import ROOT, load_options
from espnet_saliency.recipe.pretrained import Pretrained
from espnet_saliency.recipe.pretrained_fit import check_fit, check_settings, count_unknown

SMALL = ROOT / "conf" / "small" / "train_asr_conformer.yaml"
TOKENS = ["<blank>", "<unk>", "<space>", "A", "É", "<sos/eos>"]


@pytest.fixture
def experiment(tmp_path) -> Path:
    """An experiment folder with the configuration of conf/small, characters, and files of no content."""
    folder = tmp_path / "exp" / "asr_small"
    write_experiment(folder)
    return folder


def write_experiment(folder: Path, **changes) -> None:
    stats = folder.parent / "asr_stats" / "train" / "feats_stats.npz"
    for path in (folder / "valid.acc.ave.pth", stats):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    config = {"decoder_conf": {}, "ctc_conf": {}, "token_type": "char", "token_list": TOKENS}
    config |= {"normalize": "global_mvn", "normalize_conf": {"stats_file": str(stats)}}
    config |= yaml.safe_load(SMALL.read_text()) | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True))


def dry_run(model: Path, *options: str) -> int:
    words = ["--dry_run", "--pretrained_model", str(model), "--asr_config", str(SMALL), "--stop_stage", "11"]
    return main([*words, *options])


def test_the_tokens_of_the_model_count_and_every_training_starts_from_its_weights(experiment, capsys):
    assert dry_run(experiment) == 0
    out = capsys.readouterr().out
    assert out.count(f"--init_param {experiment / 'valid.acc.ave.pth'}") == 3  # the arms, no statistics
    assert out.count("--token_type char") >= 4 and "--bpemodel" not in out
    # Beside what a training from scratch by characters would have.
    assert "token_list/pretrained_asr_small/tokens.txt" in out
    assert "asr_stats_raw_en_char_pretrained" in out and "specaug_raw_en_char_pretrained" in out


def test_a_file_beside_its_configuration_is_taken_as_it_is(experiment, capsys):
    other = experiment / "7epoch.pth"
    other.write_bytes(b"")
    assert dry_run(other) == 0
    out = capsys.readouterr().out
    assert f"--init_param {other}" in out and "pretrained_asr_small" in out


@pytest.mark.parametrize("name", ["valid.acc.ave_10best.pth", "valid.acc.best.pth", "valid.loss.ave.pth"])
def test_model_files_of_other_names(experiment, name):
    (experiment / "valid.acc.ave.pth").rename(experiment / name)
    assert Pretrained.find(experiment).weights == experiment / name


def test_two_averages_are_not_guessed_between(experiment):
    (experiment / "valid.acc.ave.pth").rename(experiment / "valid.acc.ave_5best.pth")
    (experiment / "valid.acc.ave_3best.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"ave_3best.pth and valid.acc.ave_5best.pth: name the one"):
        Pretrained.find(experiment)


def test_an_experiment_that_has_moved_is_found_with_what_it_names(experiment, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "exp").rename(tmp_path / "elsewhere" / "exp")
    moved = tmp_path / "elsewhere" / "exp"
    stats = moved / "asr_stats" / "train" / "feats_stats.npz"
    assert Pretrained.find(moved / "asr_small").stats == stats
    stats.unlink()
    with pytest.raises(UserError, match=r"config.yaml: normalize_conf.stats_file names .*neither there nor below"):
        Pretrained.find(moved / "asr_small")


def test_an_unpacked_zip_of_espnet(experiment, tmp_path):
    """Paths in it are relative to its top, averages are called by their number."""
    top = tmp_path / "unpacked"
    (tmp_path / "exp").rename(tmp_path / "packed exp")
    shutil.copytree(tmp_path / "packed exp", top / "exp")
    folder = top / "exp" / "asr_small"
    (folder / "valid.acc.ave.pth").rename(folder / "valid.acc.ave_10best.pth")
    bpe = top / "data" / "token_list" / "bpe.model"
    bpe.parent.mkdir(parents=True)
    bpe.write_bytes(b"")
    write_experiment(
        folder,
        token_type="bpe",
        bpemodel="data/token_list/bpe.model",
        normalize_conf={"stats_file": "exp/asr_stats/train/feats_stats.npz"},
    )
    (folder / "valid.acc.ave.pth").unlink()
    meta = {
        "files": {"asr_model_file": "exp/asr_small/valid.acc.ave_10best.pth"},
        "yaml_files": {"asr_train_config": "exp/asr_small/config.yaml"},
    }
    (top / "meta.yaml").write_text(yaml.safe_dump(meta))
    for given in (top, folder):
        found = Pretrained.find(given)
        assert found.bpe_model == bpe and found.weights.name == "valid.acc.ave_10best.pth"
        assert found.stats == top / "exp" / "asr_stats" / "train" / "feats_stats.npz"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"token_type": "phn"}, r"token_type phn: recipes tokenise by bpe, char, word"),
        ({"token_type": "bpe"}, r"bpemodel is not set"),
        ({"token_type": "bpe", "bpemodel": "/none/bpe.model"}, r"bpemodel names /none/bpe.model"),
    ],
)
def test_a_model_that_a_recipe_cannot_start_from(experiment, changes, message):
    write_experiment(experiment, **changes)
    with pytest.raises(UserError, match=message):
        Pretrained.find(experiment)


def test_what_is_no_recogniser(experiment, tmp_path):
    (experiment / "config.yaml").write_text("encoder_conf: {}\ntoken_list: [a]\n")
    with pytest.raises(UserError, match="not of a recogniser .*: no token_type, frontend_conf"):
        Pretrained.find(experiment)
    (experiment / "config.yaml").unlink()
    with pytest.raises(UserError, match=f"no {experiment}/config.yaml: name an experiment folder"):
        Pretrained.find(experiment)
    (experiment / "valid.acc.ave.pth").unlink()
    with pytest.raises(UserError, match="none of valid.acc.ave.pth, valid.acc.best.pth"):
        Pretrained.find(experiment)
    (tmp_path / "a:b.pth").write_bytes(b"")
    shutil.copytree(tmp_path / "exp", tmp_path / "a:b")
    write_experiment(tmp_path / "a:b" / "asr")
    with pytest.raises(UserError, match="':' in its path"):
        Pretrained.find(tmp_path / "a:b" / "asr")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frontend_conf": {"hop_length": 128, "n_mels": 40}}, "frontend_conf.n_mels: pretrained 40, here 80"),
        ({"encoder": "branchformer"}, "encoder: pretrained branchformer, here conformer"),
        ({"encoder_conf": {"output_size": 512}}, r"encoder_conf.output_size: pretrained 512, here \d+"),
        ({"encoder_conf": {"activation_type": "relu"}}, "encoder_conf.activation_type: pretrained relu, here swish"),
        ({"normalize": "utterance_mvn"}, "normalize: pretrained utterance_mvn, here global_mvn"),
    ],
)
def test_other_features_and_another_network_are_refused_with_both_values(experiment, changes, message, capsys):
    write_experiment(experiment, **changes)
    assert dry_run(experiment) == 2
    err = capsys.readouterr().err
    assert re.search(message, err) and str(SMALL) in err and err.count("\n") == 1


def test_dropout_and_loss_are_the_trainings_own(experiment):
    write_experiment(experiment, encoder_conf={"dropout_rate": 0.7}, model_conf={"ctc_weight": 0.2})
    check_settings(Pretrained.find(experiment), yaml.safe_load(SMALL.read_text()), SMALL)


def test_tokens_typed_otherwise_are_refused_those_of_recipe_yaml_give_way(experiment, tmp_path, capsys):
    assert load_options(["--pretrained_model", str(experiment)]).recipe.token_type == "char"
    assert dry_run(experiment, "--token_type", "bpe") == 2
    assert "--token_type bpe: --pretrained_model" in (err := capsys.readouterr().err)
    assert "has 6 char tokens: leave --token_type out" in err
    bpe = tmp_path / "bpe.model"
    bpe.write_bytes(b"")
    write_experiment(experiment, token_type="bpe", bpemodel=str(bpe))
    assert load_options(["--pretrained_model", str(experiment), "--nbpe", "6"]).recipe.nbpe == 6
    with pytest.raises(UserError, match="--nbpe 7: .* has 6 bpe tokens"):
        load_options(["--pretrained_model", str(experiment), "--nbpe", "7"])


@pytest.mark.parametrize(
    "corpus, first, scratch",
    [
        ("edacc", "librispeech", "conf/train_asr_conformer.yaml"),
        ("pdid", "commonvoice_fa", "conf/train_asr_conformer_50h.yaml"),
    ],
)
def test_a_recipe_that_starts_from_another_says_so_until_that_one_is_trained(
    corpus, first, scratch, tmp_path, capsys, monkeypatch
):
    from espnet_saliency.recipe import options

    for name in (f"egs2/{corpus}/asr1", f"egs2/{first}/asr1", "conf"):
        ignore = shutil.ignore_patterns("data", "dump", "exp")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    monkeypatch.setattr(options, "ROOT", tmp_path)
    words = ["--corpus", corpus, "--corpus_dir", str(tmp_path / "corpus"), "--test_sets", "test"]
    assert main([*words, "--stop_stage", "5"]) == 2
    err = capsys.readouterr().err
    assert f"train it first (./run.sh --corpus {first}, to stage 11)" in err
    assert f"--pretrained_model none --asr_config {scratch}" in err and err.count("\n") == 1
    # The data can be prepared before, and a dry run shown.
    assert main([*words, "--stop_stage", "4", "--dry_run"]) == 0
    assert main([*words, "--dry_run"]) == 0
    assert "asr1/exp/asr_train_asr_conformer" in (out := capsys.readouterr().out) and "not there yet" in out
    # What is named is what that recipe calls its baseline.
    given = load_options(words).recipe
    other = load_options(["--corpus", first]).recipe
    assert given.pretrained_model.name == Layout(other).asr_exp("specaug").name
    assert (tmp_path / "egs2" / corpus / "asr1" / scratch).is_file() or (tmp_path / scratch).is_file()
    # And has the same network.
    configs = [yaml.safe_load(one.asr_config.read_text()) for one in (given, other)]
    for part in ("frontend_conf", "encoder", "decoder"):
        assert configs[0][part] == configs[1][part]
    for part in ("encoder_conf", "decoder_conf"):
        without = [{k: v for k, v in config[part].items() if "dropout" not in k} for config in configs]
        assert without[0] == without[1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """An experiment with real weights, as ESPnet initialises them, and real statistics."""
    from espnet2.tasks.asr import ASRTask

    folder = tmp_path_factory.mktemp("trained") / "exp" / "asr_small"
    conf = {"output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 1}
    write_experiment(folder, encoder_conf=yaml.safe_load(SMALL.read_text())["encoder_conf"] | conf)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    stats = Path(config["normalize_conf"]["stats_file"])
    draw = np.random.default_rng(0).normal(size=(2, 80))
    np.savez(stats, count=10, sum=draw[0], sum_square=10 + 10 * draw[1] ** 2)
    own = folder / "train.yaml"
    own.write_text(yaml.safe_dump({k: v for k, v in config.items() if not k.startswith(("normalize", "token"))}))
    words = ["--config", str(own), "--output_dir", "x", "--token_list", "x"]
    args = ASRTask.get_parser().parse_args(words)
    args.token_list, args.normalize, args.normalize_conf = TOKENS, "global_mvn", config["normalize_conf"]
    torch.save(ASRTask.build_model(args).state_dict(), folder / "valid.acc.ave.pth")
    return folder


def fit(folder: Path, **changes) -> None:
    """check_fit of an experiment with the configuration that it was trained with, or a changed one."""
    config = yaml.safe_load((folder / "train.yaml").read_text())
    for section, values in changes.items():
        config[section] = {**config[section], **values}
    path = folder.parent / "changed.yaml"
    path.write_text(yaml.safe_dump(config))
    check_fit(Pretrained.find(folder), config, path)


def changed_weights(folder: Path, target: Path, change) -> Path:
    """A copy of an experiment whose weights `change` has edited."""
    copy = shutil.copytree(folder.parent, target / "exp") / folder.name
    weights = torch.load(copy / "valid.acc.ave.pth", weights_only=True)
    change(weights)
    torch.save(weights, copy / "valid.acc.ave.pth")
    return copy


def test_the_same_model_fits_and_dropout_may_differ(trained):
    fit(trained)
    fit(trained, encoder_conf={"dropout_rate": 0.7})


def test_a_parameter_that_espnet_would_leave_untrained_is_named(trained, tmp_path):
    copy = changed_weights(trained, tmp_path, lambda weights: weights.pop("ctc.ctc_lo.weight"))
    with pytest.raises(UserError, match=r"1 parameters not in it, as ctc.ctc_lo.weight: give --asr_config"):
        fit(copy)


def test_a_parameter_of_the_pretrained_model_alone_is_named(trained, tmp_path):
    copy = changed_weights(trained, tmp_path, lambda weights: weights.update(extra=torch.zeros(1)))
    with pytest.raises(UserError, match="1 parameters in it alone, as extra"):
        fit(copy)


def test_a_size_that_only_a_default_sets_is_seen(trained, tmp_path):
    def widen(weights):
        weights["ctc.ctc_lo.bias"] = torch.zeros(7)

    with pytest.raises(UserError, match=r"ctc.ctc_lo.bias: pretrained \(7,\), here \(6,\)"):
        fit(changed_weights(trained, tmp_path, widen))
    # The encoder's default of it is False, and the pretrained configuration does not name it.
    assert "zero_triu" not in yaml.safe_load((trained / "config.yaml").read_text())["encoder_conf"]
    with pytest.raises(UserError, match="encoder_conf.zero_triu: pretrained False, here True"):
        fit(trained, encoder_conf={"zero_triu": True})


def test_statistics_of_another_training_are_refused(trained, tmp_path):
    def shift(weights):
        weights["normalize.mean"] += 1

    with pytest.raises(UserError, match="not the statistics that .* was trained with .normalize.mean: "):
        fit(changed_weights(trained, tmp_path, shift))


def test_weights_that_could_run_code_are_not_loaded(trained, tmp_path):
    copy = shutil.copytree(trained.parent, tmp_path / "exp") / trained.name
    torch.save({"a": Path("x")}, copy / "valid.acc.ave.pth")
    with pytest.raises(UserError, match="could run code"):
        fit(copy)
    torch.save({"model": {}, "epoch": 3}, copy / "valid.acc.ave.pth")
    with pytest.raises(UserError, match="not a model's weights"):
        fit(copy)
    (copy / "valid.acc.ave.pth").write_bytes(b"PK cut off")
    with pytest.raises(UserError, match=r"could run code|not a model file"):
        fit(copy)


def test_characters_that_the_model_does_not_know_are_counted_and_too_many_refused(trained, tmp_path):
    model, text = Pretrained.find(trained), tmp_path / "text"
    text.write_text("s-1 AA ÉA AAAA AAA\ns-2 AAAAAAÜ\n", encoding="utf-8")
    assert count_unknown(model, text) == ({"Ü": 1}, 21)
    text.write_text("s-1 aé ÉA\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"2 of 5 tokens are unknown to .* \(a 1, é 1\): give the text its spelling"):
        count_unknown(model, text)


def test_a_sentencepiece_model_of_other_tokens_is_refused(trained, tmp_path):
    make_token_list(["ABBA BAAB AAB"] * 3, tmp_path / "tokens", "bpe", 7)
    text = tmp_path / "text"
    text.write_text("s-1 ABBA\n")
    tokens = (tmp_path / "tokens" / "tokens.txt").read_text().split()
    model = dataclasses.replace(
        Pretrained.find(trained), token_type="bpe", tokens=tuple(tokens), bpe_model=tmp_path / "tokens" / "bpe.model"
    )
    assert count_unknown(model, text)[0].total() == 0
    with pytest.raises(UserError, match="lacks 1 of its pieces, as B: put the right file there"):
        count_unknown(dataclasses.replace(model, tokens=tuple(t for t in tokens if t != "B")), text)


@pytest.mark.slow
def test_training_goes_on_from_the_weights_tokens_and_statistics_of_another_experiment(tiny, tmp_path):
    """One epoch at a learning rate of 0 leaves every parameter as it was."""
    exp = tiny.folder / "exp"
    first = exp / "asr_train_asr_tiny_specaug_raw_en_bpe40"
    config = yaml.safe_load((tiny.folder / "train_asr_tiny.yaml").read_text())
    config.update(max_epoch=1, scheduler=None)
    config["optim_conf"]["lr"] = 0.0
    path = tmp_path / "train_asr_tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    # Data and classifier are the first run's; recipe.yaml's number of tokens gives way.
    pairs = dict(zip(tiny.options[::2], tiny.options[1::2]))
    del pairs["--nbpe"]
    recipe = type(tiny)(tiny.folder, tiny.checkout)
    recipe.options = [word for pair in pairs.items() for word in pair]
    words = ["--pretrained_model", str(first), "--asr_config", str(path), "--arms", "specaug"]
    recipe = recipe.with_options(*words)
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    out = recipe.run("--stage", "5", "--stop_stage", "11")
    assert f"40 bpe tokens, those of the pretrained model {first}" in out
    assert "mean and variance of the features are the pretrained model's" in out and "<unk>" not in out

    tokens = tiny.folder / "data" / "token_list"
    for name in ("tokens.txt", "bpe.model"):
        theirs = (tokens / f"pretrained_{first.name}" / name).read_bytes()
        assert theirs == (tokens / "bpe_unigram40" / name).read_bytes()
    stats = Path("train") / "feats_stats.npz"
    second_stats = exp / "asr_stats_raw_en_bpe40_pretrained"
    assert (second_stats / stats).read_bytes() == (exp / "asr_stats_raw_en_bpe40" / stats).read_bytes()

    second = exp / f"{first.name}_pretrained"
    weights = [torch.load(Pretrained.find(folder).weights, weights_only=True) for folder in (first, second)]
    # Batch normalisation counts on, whatever the learning rate.
    learnt = [name for name in weights[0] if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(learnt) == len(weights[0]) - 3 and weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in learnt)
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before

    # The same weights again are nothing to do; another network is refused.
    assert "done in" not in recipe.run("--stage", "5", "--stop_stage", "11")
    wider = path.with_name("train_asr_wider.yaml")
    config["encoder_conf"]["output_size"] = 32
    wider.write_text(yaml.safe_dump(config))
    error = recipe.with_options("--asr_config", str(wider)).run("--stage", "5", status=2)
    assert "encoder_conf.output_size: pretrained 16, here 32" in error and error.count("\n") == 1

    # The zip of the first, unpacked somewhere else, is the same model.
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(first / f"{first.name}.zip").extractall(unpacked)
    found = Pretrained.find(unpacked)
    assert found.weights.read_bytes() == Pretrained.find(first).weights.read_bytes()
    assert found.tokens == Pretrained.find(first).tokens
