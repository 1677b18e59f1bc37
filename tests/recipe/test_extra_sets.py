"""Sets of other recipes in training and testing: found, checked, joined."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError
from espnet_saliency.recipe import extra_sets
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.extra_sets import ExtraSet, check_characters, join_sets

ROOT = Path(__file__).resolve().parents[2]


def _makers() -> dict:
    spec = importlib.util.spec_from_file_location("fixtures", ROOT / "tests" / "corpora" / "fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MAKERS


def words(corpus: str, corpus_dir: Path, folder: Path, *options: str) -> list[str]:
    """A recipe with all that it writes below `folder`."""
    places = [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(folder / name))]
    start = ["--corpus", corpus, "--corpus_dir", str(corpus_dir), *places]
    return [*start, "--nj", "1", "--speed_perturb_factors", "", "--token_type", "char", *options]


def native(prepared: Path, folder: Path, *options: str) -> list[str]:
    """LibriSpeech's recipe with EdAcc's sets."""
    corpus = prepared / "corpora" / "librispeech" / "LibriSpeech"
    return words("librispeech", corpus, folder, "--arms", "specaug", *options)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """egs2 with EdAcc's recipe after stage 4, and LibriSpeech's corpus."""
    root = tmp_path_factory.mktemp("prepared")
    makers = _makers()
    corpora = {name: makers[name](root / "corpora" / name) for name in ("edacc", "librispeech")}
    recipe = root / "egs2" / "edacc" / "asr1"
    assert main(words("edacc", corpora["edacc"], recipe, "--stop_stage", "4", "--max_reject", "0.5")) == 0
    (recipe / "conf").mkdir()
    (recipe / "run.sh").touch()
    shutil.copy(ROOT / "egs2" / "edacc" / "asr1" / "conf" / "recipe.yaml", recipe / "conf")
    return root


@pytest.fixture
def at_root(prepared, monkeypatch) -> Path:
    """<corpus>:<set> means the fixture's egs2."""
    monkeypatch.setattr(extra_sets, "ROOT", prepared)
    return prepared


def test_sets_of_another_recipe_join_training_and_are_tested_on(at_root, tmp_path, capsys):
    extra = ["--extra_train_sets", "edacc:train", "--extra_test_sets", "edacc:test", "--stop_stage", "5"]
    command = native(at_root, tmp_path, *extra)
    assert main(command) == 0, capsys.readouterr().err
    raw, theirs = tmp_path / "dump" / "raw", at_root / "egs2" / "edacc" / "asr1" / "dump" / "raw"

    joined = raw / "train_with_edacc_train"
    own, other = (read_table(folder / "text") for folder in (raw / "train", theirs / "train"))
    assert validate_data_dir(joined) == len(own) + len(other)
    assert read_table(joined / "text") == own | other
    accents = read_table(joined / "utt2accent")
    assert {accents[utterance] for utterance in own} == {"unknown"}
    assert {u: accents[u] for u in other} == read_table(theirs / "train" / "utt2accent")
    wavs = read_table(joined / "wav.scp")
    assert all(wavs[u] == path for u, path in read_table(theirs / "train" / "wav.scp").items())
    out = capsys.readouterr().out
    assert f"{len(own) + len(other)} utterances (train {len(own)} + edacc_train {len(other)})" in out

    # The copied test set says the same as the original; mixed case is for scoring to unify.
    for table in ("text", "wav.scp", "utt2accent", "utt2spk", "spk2utt", "category2utt"):
        assert (raw / "edacc_test" / table).read_bytes() == (theirs / "test" / table).read_bytes()
    tokens = (tmp_path / "data" / "token_list" / "char_with_edacc_train" / "tokens.txt").read_text()
    assert not [token for token in tokens.split() if token.islower() and len(token) == 1]

    assert main(command) == 0
    assert "done in" not in capsys.readouterr().out


def test_a_set_that_was_prepared_again_is_taken_again(at_root, tmp_path, capsys):
    copy = shutil.copytree(at_root / "egs2" / "edacc", tmp_path / "egs2" / "edacc") / "asr1" / "dump" / "raw"
    command = native(at_root, tmp_path / "here", "--extra_test_sets", str(copy / "test"), "--stop_stage", "3")
    assert main(command) == 0
    stamp = copy / "test" / ".stages" / "3-test.done.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "fingerprint": "another"}))
    capsys.readouterr()
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "edacc_test: done again: fingerprint" in out and "test_clean: finished before" in out


def test_each_set_is_scored_under_the_policy_of_its_own_recipe(at_root):
    from espnet_saliency.recipe.options import load_options

    extra = ExtraSet.find("extra_test_sets", "edacc:test")
    assert extra_sets.scoring_text(extra, load_options(["--corpus", "librispeech"])) == "english"
    typed = load_options(["--corpus", "librispeech", "--scoring_text", "basic"])
    assert extra_sets.scoring_text(extra, typed) == "basic"
    elsewhere = ExtraSet.find("extra_test_sets", "/data/calls/dump/raw/test")
    assert extra_sets.scoring_text(elsewhere, load_options(["--corpus", "librispeech"])) == "none"


@pytest.mark.parametrize(
    "given, name",
    [
        ("/x/egs2/edacc/asr1/dump/raw/test", "edacc_test"),
        ("/x/my calls/dump/raw/test/", "my-calls_test"),
        ("/x/../calls/dump/raw/dev", "calls_dev"),
    ],
)
def test_what_a_folder_is_called(given, name):
    assert ExtraSet.find("extra_test_sets", given).name == name


@pytest.mark.parametrize(
    "options, message",
    [
        (["--extra_test_sets", "edacc"], "write <corpus>:<set>, e.g. edacc:test"),
        (["--extra_test_sets", "klingon:test"], "there is no recipe klingon; egs2 has edacc"),
        (["--extra_test_sets", "./test"], "a prepared set lies in dump/raw"),
        (["--extra_test_sets", "edacc:test edacc:test"], "the set is in --extra_test_sets already"),
        (["--extra_test_sets", "edacc:test", "--extra_train_sets", "edacc:test"], "name it once"),
        (["--extra_test_sets", "edacc:test2"], "test2 is not prepared (dev, test, train are): run"),
        (["--extra_train_sets", "edacc:train", "--text_policy", "english_lower"],
         "--text_policy english_upper, this recipe's with english_lower"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_nothing_is_written(options, message, at_root, tmp_path, capsys):
    assert main(native(at_root, tmp_path, *options, "--stop_stage", "4")) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: --extra_") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_another_sampling_rate_is_refused_with_both_values(at_root, tmp_path, capsys):
    recipe = shutil.copytree(at_root / "egs2" / "edacc", tmp_path / "egs2" / "edacc") / "asr1"
    table = recipe / "dump" / "raw" / "test" / "wav.scp"
    lines = table.read_text().splitlines()
    utterance = lines[1].split()[0]
    soundfile.write(tmp_path / "slow.flac", np.zeros(800), 8000)
    table.write_text("\n".join([lines[0], f"{utterance} {tmp_path / 'slow.flac'}", *lines[2:]]) + "\n")
    command = native(at_root, tmp_path / "here", "--extra_test_sets", str(table.parent))
    assert main(command) == 2
    assert f"{utterance} has 8000 Hz, this recipe's audio 16000 Hz" in capsys.readouterr().err


def _set(folder: Path, **tables: str) -> Path:
    folder.mkdir(parents=True)
    rows = {"wav.scp": "a-1 /a.flac\n", "text": "a-1 HI\n", "utt2spk": "a-1 a\n",
            "utt2dur": "a-1 1.0\n", "utt2num_samples": "a-1 16000\n"}  # fmt: skip
    for name, content in {**rows, **tables}.items():
        (folder / name).write_text(content)
    return folder


def test_an_utterance_in_two_sets_is_refused_with_both_named(tmp_path):
    one, two = _set(tmp_path / "one"), _set(tmp_path / "two")
    with pytest.raises(UserError, match=r"utterance a-1 is in x \(.*one\) and in y \(.*two\): leave one"):
        join_sets({"x": one, "y": two}, tmp_path / "joined")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_table_that_a_set_lacks(tmp_path):
    two = {name: value.replace("a", "b") for name, value in (("utt2spk", "a-1 a\n"), ("utt2dur", "a-1 1\n"))}
    other = _set(tmp_path / "two", **two, **{"wav.scp": "b-1 /b.flac\n", "text": "b-1 HO\n",
                 "utt2num_samples": "b-1 8\n", "utt2gender": "b-1 f\n", "utt2speed": "b-1 0.9\n"})  # fmt: skip
    counts = join_sets({"y": other, "x": _set(tmp_path / "one")}, tmp_path / "joined")
    assert counts == {"y": 1, "x": 1}
    assert (tmp_path / "joined" / "utt2gender").read_text() == "a-1 unknown\nb-1 f\n"
    assert (tmp_path / "joined" / "spk2utt").read_text() == "a a-1\nb b-1\n"
    assert not (tmp_path / "joined" / "utt2speed").exists()
    (other / "utt2num_samples").unlink()
    with pytest.raises(UserError, match="two/utt2num_samples: no such file"):
        join_sets({"y": other}, tmp_path / "joined")


@pytest.mark.parametrize(
    "kind, tokens, policy, text, missing",
    [
        ("char", "A B", "none", "ABBA BAB", {}),
        ("char", "A B", "none", "abba", {"a": 2, "b": 2}),
        ("char", "A B", "basic", "abba, Bab!", {}),
        ("char", "A B", "english", "<laugh> abba -- b", {}),
        ("char", "A B", "basic", "abba x", {"x": 1}),
        ("bpe", "▁AB BA", "none", "ABBA ＡＢ", {}),  # full width, which SentencePiece folds
        ("char", "A B", "none", "ＡＢ", {"Ａ": 1, "Ｂ": 1}),
        ("word", "AB BA", "none", "ABBA", {}),
    ],
)
def test_characters_that_the_tokens_lack(kind, tokens, policy, text, missing, tmp_path):
    (tmp_path / "text").write_text(f"u1 {text}\n")
    (tmp_path / "tokens.txt").write_text("\n".join(["<blank>", "<unk>", *tokens.split(), "<space>", "<sos/eos>"]))
    report = tmp_path / "report.tsv"
    arguments = (tmp_path / "text", tmp_path / "tokens.txt", kind, policy, report, "--extra_test_sets x:y")
    if missing:
        with pytest.raises(UserError, match=r"^--extra_test_sets x:y: .* are not among the tokens, which have A B"):
            check_characters(*arguments)
    else:
        check_characters(*arguments)
    assert report.read_text() == "character\tcount\n" + "".join(f"{c}\t{n}\n" for c, n in missing.items())


def test_a_few_strange_characters_are_listed_and_not_refused(tmp_path):
    (tmp_path / "text").write_text("".join(f"u{n:03d} ABAB\n" for n in range(100)) + "v ÆA\n")
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\nA\nB\n<sos/eos>\n")
    report = tmp_path / "report.tsv"
    check_characters(tmp_path / "text", tmp_path / "tokens.txt", "char", "none", report, "--x")
    assert report.read_text() == "character\tcount\nÆ\t1\n"


def test_an_extra_training_set_with_a_held_out_accent_is_refused(at_root, tmp_path, capsys):
    accents = read_table(at_root / "egs2" / "edacc" / "asr1" / "dump" / "raw" / "train" / "utt2accent")
    accent = sorted(set(accents.values()) - {"unknown"})[0]
    corpus = at_root / "corpora" / "edacc" / "edacc_v1.0"
    command = words("edacc", corpus, tmp_path, "--pretrained_model", "none", "--unseen_accents", accent)
    command += ["--extra_train_sets", "edacc:train"]
    assert main(command) == 2
    count = list(accents.values()).count(accent)
    assert f"has {count} utterances of the accent {accent}, which --unseen_accents" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_native_and_accented_sets_are_trained_on_and_reported_together(at_root, tmp_path, capsys):
    config = yaml.safe_load((ROOT / "conf" / "small" / "train_asr_conformer.yaml").read_text())
    config["encoder_conf"].update(output_size=16, attention_heads=2, linear_units=16, num_blocks=1)
    config.update(max_epoch=1, num_iters_per_epoch=2, batch_bins=200_000, keep_nbest_models=1, num_workers=0)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    options = ["--asr_config", str(tmp_path / "tiny.yaml"), "--ngpu", "0", "--inference_nj", "1"]
    options += ["--inference_config", str(ROOT / "conf" / "small" / "decode_asr.yaml")]
    options += ["--inference_asr_model", "valid.loss.ave.pth", "--bootstrap_draws", "100"]
    options += ["--extra_train_sets", "edacc:train", "--extra_test_sets", "edacc:test"]
    options += ["--conditions", "clean noise_10", "--test_sets", "test_clean"]
    assert main(native(at_root, tmp_path, *options)) == 0, capsys.readouterr().err

    experiment = tmp_path / "exp" / "asr_tiny_specaug_raw_en_char_with_edacc_train"
    comparison = json.loads((tmp_path / "exp" / "report" / "comparison.json").read_text())
    noisy = ["test_clean_noise_10", "edacc_test_noise_10"]
    assert list(comparison["sets"]) == ["test_clean", noisy[0], "edacc_test", noisy[1]]
    theirs = at_root / "egs2" / "edacc" / "asr1" / "dump" / "raw"
    accents = set(read_table(theirs / "test" / "utt2accent").values()) - {"unknown"}
    assert set(comparison["sets"]["edacc_test"]["accents"]) - {""} == accents
    for name, policy in (("test_clean", "none"), ("edacc_test", "english"), (noisy[0], "none"), (noisy[1], "english")):
        scores = experiment / "decode_asr_asr_model_valid.loss.ave" / name / "score_wer"
        assert json.loads((scores / "scoring.json").read_text())["policy"] == policy
    trained = read_table(tmp_path / "dump" / "raw" / "train_with_edacc_train" / "text")
    shapes = tmp_path / "exp" / "asr_stats_raw_en_char_with_edacc_train" / "train" / "speech_shape"
    assert read_table(shapes).keys() == trained.keys()
    assert f"Trained on {len(trained)} utterances" in (tmp_path / "exp" / "RESULTS.md").read_text()
