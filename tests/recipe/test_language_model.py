"""Stage 6: what the language model learns from, its perplexity, and what it does to decoding."""

from __future__ import annotations

import gzip
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.stages_lm import write_sentences, write_training_text

ROOT = Path(__file__).resolve().parents[2]


def test_each_sentence_of_the_set_is_taken_once_whatever_its_speeds(tmp_path):
    text = tmp_path / "text"
    text.write_text("b-1 two\nc-1 three\nsp0.9-a-1 one\nsp0.9-b-1 two\nsp1.1-a-1 one\nsp1.1-b-1 two\n")
    assert write_training_text(text, None, tmp_path / "out") == 3
    # a-1 is there at other speeds alone
    assert (tmp_path / "out").read_text() == "b-1 two\nc-1 three\na-1 one\n"


@pytest.mark.parametrize("name", ["more.txt", "more.txt.gz"])
def test_more_text_is_added_with_ids(tmp_path, name):
    (tmp_path / "text").write_text("a-1 one\n")
    lines = "\ufeffa  sentence\r\n\n \t\nسلام\nlast".encode()
    (tmp_path / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert write_training_text(tmp_path / "text", tmp_path / name, tmp_path / "out") == 4
    written = read_table(tmp_path / "out")
    assert list(written.values()) == ["one", "a sentence", "سلام", "last"]
    assert list(written)[1:] == [f"lm_train_text/{n:09d}" for n in (1, 4, 5)]


@pytest.mark.parametrize(
    "content, message",
    [(b"good\nb\xe4d\n", "line 2 is not UTF-8"), (b"\n \n", "no sentence in it"), (None, "cannot be read")],
)
def test_text_that_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path, content, message):
    (tmp_path / "text").write_text("a-1 one\n")
    extra = tmp_path / ("more.txt" if content else "more.txt.gz")
    extra.write_bytes(content or b"no gzip")
    with pytest.raises(UserError, match=message) as caught:
        write_training_text(tmp_path / "text", extra, tmp_path / "out")
    assert str(extra) in str(caught.value) and "\n" not in str(caught.value)


def test_utterances_without_words_have_no_perplexity(tmp_path):
    (tmp_path / "text").write_text("a-1 one two\na-2\na-3 \nb-1 three\n")
    assert write_sentences(tmp_path / "text", tmp_path / "new" / "text") == (2, 2)
    assert (tmp_path / "new" / "text").read_text() == "a-1 one two\nb-1 three\n"


def dry_run(capsys, *options: str) -> str:
    assert main(["--dry_run", "--stop_stage", "15", "--arms", "specaug", *options]) == 0
    return capsys.readouterr().out


def test_the_model_is_fused_and_packed_only_where_it_is_asked_for(capsys):
    out = dry_run(capsys, "--use_lm", "true")
    assert out.count("espnet2.bin.lm_train") == 4  # statistics in three parts, training
    assert out.count("espnet2.bin.lm_calc_perplexity") == 3  # dev, test, test_unseen
    fused = [line for line in out.splitlines() if "--lm_file" in line]
    assert len(fused) == 5  # two sets in two processes, and the zip
    assert "/decode_asr_lm_lm_train_lm_en_bpe80_valid.loss.ave_asr_model_valid.loss.ave/test" in out
    plain = dry_run(capsys)
    assert "espnet2.bin.lm" not in plain and "--lm_file" not in plain
    assert "/decode_asr_asr_model_valid.loss.ave/test" in plain


def test_a_model_without_a_say_is_refused(tmp_path, capsys):
    config = tmp_path / "decode.yaml"
    config.write_text("lm_weight: 0.0\n")
    assert main(["--use_lm", "true", "--inference_config", str(config)]) == 2
    error = capsys.readouterr().err
    assert f"{config} sets lm_weight 0.0" in error and error.count("\n") == 1
    assert main(["--dry_run", "--inference_config", str(config)]) == 0


LM = "lm_train_lm_tiny_en_bpe40"


def slow(test):
    """Trains models; the first to run waits for all trainings of the tiny recipe."""
    return pytest.mark.slow(pytest.mark.timeout(1200)(test))


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """The tiny recipe with one of its arms, in a copy of its experiments, and with a language model."""
    folder = tmp_path_factory.mktemp("language model")
    shutil.copytree(tiny.folder / "exp", folder / "exp", symlinks=True)
    config = yaml.safe_load((ROOT / "conf" / "small" / "train_lm.yaml").read_text())
    config["lm_conf"]["unit"] = 16
    config.update(max_epoch=2, keep_nbest_models=1)
    (folder / "train_lm_tiny.yaml").write_text(yaml.safe_dump(config))
    decode = yaml.safe_load((ROOT / "conf" / "small" / "decode_asr.yaml").read_text())
    # Models of two epochs would rather say nothing: a hypothesis is given a length.
    decode.update(lm_weight=20.0, minlenratio=0.1, maxlenratio=0.2)
    (folder / "decode_heavy.yaml").write_text(yaml.safe_dump(decode))
    (folder / "more.txt").write_text("books and chairs\nBOOKS AND CHAIRS\n")
    recipe = tiny.with_options(
        *["--expdir", str(folder / "exp"), "--arms", "specaug", "--use_lm", "true"],
        *["--lm_config", str(folder / "train_lm_tiny.yaml"), "--lm_train_text", str(folder / "more.txt")],
        *["--inference_config", str(folder / "decode_heavy.yaml")],
    )
    recipe.place = folder
    recipe.output = recipe.run("--stage", "6", "--stop_stage", "6")
    return recipe


@slow
def test_the_console_tells_sentences_unknown_characters_and_perplexities(recipe):
    assert "  50 sentences to train on: " in recipe.output
    assert "WARNING: 1 of 50 sentences have characters that become <unk>, most of all A B C" in recipe.output
    for name in ("dev", "test", "test_unseen"):
        ppl = float((recipe.place / "exp" / LM / f"perplexity_{name}" / "ppl").read_text())
        assert f"  {name}: perplexity {ppl:.2f} a token (bpe40)" in recipe.output


@slow
def test_perplexity_is_that_of_the_chain_rule(recipe):
    """exp(-sum of log P(token | tokens before) / number of tokens), </s> included, token by token."""
    import sentencepiece
    from espnet2.tasks.lm import LMTask

    folder = recipe.place / "exp" / LM
    model, arguments = LMTask.build_model_from_file(folder / "config.yaml", folder / "valid.loss.ave.pth")
    model.eval()
    pieces = sentencepiece.SentencePieceProcessor(model_file=arguments.bpemodel)
    tokens = arguments.token_list
    found = read_table(folder / "perplexity_test" / "utt2ppl")
    total = count = 0
    for utterance, text in read_table(recipe.folder / "dump" / "raw" / "test" / "text").items():
        end = len(tokens) - 1
        ids = [end, *(tokens.index(piece) for piece in pieces.encode(text, out_type=str)), end]
        log_probability, state = 0.0, None
        for before, after in zip(ids, ids[1:]):
            with torch.no_grad():
                logits, state = model.lm(torch.tensor([[before]]), state)
            log_probability += logits[0, 0].log_softmax(-1)[after].item()
        assert float(found[utterance]) == pytest.approx(math.exp(-log_probability / (len(ids) - 1)), rel=1e-4)
        total, count = total + log_probability, count + len(ids) - 1
    ppl = float((folder / "perplexity_test" / "ppl").read_text())
    assert ppl == pytest.approx(math.exp(-total / count), rel=1e-4)
    assert 1 < ppl < len(tokens)  # it has learnt something: below that of uniform guesses


@slow
def test_a_weighty_model_changes_the_hypotheses(recipe):
    experiment = recipe.place / "exp" / "asr_train_asr_tiny_specaug_raw_en_bpe40"

    def decode(use_lm: str, folder: str) -> dict[str, str]:
        recipe.with_options("--use_lm", use_lm).run("--stage", "12", "--stop_stage", "12")
        return read_table(experiment / folder / "test" / "text")

    plain = decode("false", "decode_heavy_asr_model_valid.loss.ave")
    fused = decode("true", f"decode_heavy_lm_{LM}_valid.loss.ave_asr_model_valid.loss.ave")
    assert plain.keys() == fused.keys()
    assert plain != fused


@slow
def test_changed_settings_of_the_model_redo_stages_6_and_12_alone(recipe):
    config = recipe.place / "train_lm_tiny.yaml"
    recipe.run("--stage", "12", "--stop_stage", "12")
    config.write_text(config.read_text().replace("unit: 16", "unit: 8"))
    output = recipe.run("--stage", "5", "--stop_stage", "12")
    assert "lm: done again: config.lm_conf.unit 16, now 8" in output
    done = [line.split(":")[0].strip() for line in output.splitlines() if ": done in" in line]
    perplexities = [f"perplexity-{name}" for name in ("dev", "test", "test_unseen")]
    assert done == ["lm", *perplexities, "specaug-test", "specaug-test_unseen"]


PLAIN_ESPNET = """
import sys, zipfile, soundfile, yaml
from espnet2.bin.asr_inference import Speech2Text
zipfile.ZipFile(sys.argv[1]).extractall(".")
meta = yaml.safe_load(open("meta.yaml"))
recogniser = Speech2Text(**meta["files"], **meta["yaml_files"], ctc_weight=1.0, lm_weight=0.3, beam_size=2)
recogniser(soundfile.read(sys.argv[2])[0])
print(f"fused: {'lm' in recogniser.beam_search.full_scorers}, espnet_saliency: {'espnet_saliency' in sys.modules}")
"""


@slow
def test_plain_espnet_loads_the_zip_with_its_language_model(recipe, tmp_path):
    recipe.run("--stage", "15", "--stop_stage", "15")
    archive = next((recipe.place / "exp").glob("asr_train_asr_tiny_specaug*/*.zip"))
    wav = next(iter(read_table(recipe.folder / "dump" / "raw" / "test" / "wav.scp").values()))
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_ESPNET, str(archive), wav], cwd=tmp_path, capture_output=True, text=True
    )
    assert "fused: True, espnet_saliency: False" in done.stdout, done.stderr
