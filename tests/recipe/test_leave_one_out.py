"""Every accent left out in turn: the runs that this makes, and their table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_saliency.recipe.cli import main
from espnet_saliency.recipe.leave_one_out import _without

ROOT = Path(__file__).resolve().parents[2]

def words(folder: Path, *options: str) -> list[str]:
    places = [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(folder / name))]
    return [*places, "--corpus_dir", str(folder / "corpus"), "--leave_one_accent_out", "true", *options]


def test_options_are_taken_out_with_their_values():
    given = ["--dry-run", "--stage", "2", "--nj=3", "--test_sets", "", "--arms", "a b"]
    assert _without(given, "dry_run", "test_sets") == ["--stage", "2", "--nj=3", "--arms", "a b"]
    assert _without(given, "nj", "arms", "stage") == ["--dry-run", "--test_sets", ""]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--corpus", "librispeech", "--arms", "specaug"], "librispeech has no accents to leave out"),
        (["--unseen_accents", "german"], "--unseen_accents german the same ones always"),
    ],
)
def test_what_cannot_be_left_out_is_one_line(options, message, tmp_path, capsys):
    assert main(words(tmp_path, *options)) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: --leave_one_accent_out true") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_before_stage_1_says_that_it_needs_it(tmp_path, capsys):
    assert main(words(tmp_path, "--dry_run")) == 0
    assert "not known before stage 1" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def edacc(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("fixtures", ROOT / "tests" / "corpora" / "fixtures.py")
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)
    folder = tmp_path_factory.mktemp("edacc corpus")
    return fixtures.make_edacc(folder, dev_conversations=6, test_conversations=2, utterances=5)


def on_edacc(corpus: Path, folder: Path, *options: str) -> list[str]:
    """EdAcc's recipe without pretrained model, all that it writes below `folder`."""
    places = [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(folder / name))]
    start = ["--corpus", "edacc", "--corpus_dir", str(corpus), "--max_reject", "0.5", "--pretrained_model", "none"]
    return [*start, *places, "--nj", "1", *options]


@pytest.fixture
def two_accents(tmp_path) -> list[str]:
    """Options that make two varieties of the wordings."""
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump({"north": ["Glaswegian", "American"], "south": ["Nigerian", "Indian"]}))
    return ["--accent_map", str(path)]


def test_each_accent_gets_a_run_of_its_own(edacc, tmp_path, capsys):
    command = on_edacc(edacc, tmp_path, "--leave_one_accent_out", "true", "--stop_stage", "1")
    assert main(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    runs = sorted((tmp_path / "exp" / "leave_one_out").iterdir())
    assert len(runs) > 1 and "results are collected once stage 13 is done" in out
    for number, run in enumerate(runs, 1):
        assert f"accent {number} of {len(runs)}, {run.name}\n" in out
        assert run.name not in (run / "data" / "train" / "utt2accent").read_text().split()
        assert set((run / "data" / "test_unseen" / "utt2accent").read_text().split()[1::2]) == {run.name}
    # Started again, nothing is left to do; a dry run goes through all of them.
    assert main(command) == 0
    assert "done in" not in capsys.readouterr().out
    assert main([*command, "--dry_run"]) == 0
    assert capsys.readouterr().out.count("Stage 1:") == len(runs)


def on_manifest(folder: Path, rows: list[tuple[str, str, str]], *options: str) -> list[str]:
    """The recipe `manifest` on utterances (speaker, accent, split) of a second each."""
    corpus = folder / "corpus"
    corpus.mkdir()
    lines = ["utt_id\tpath\ttext\tspeaker\taccent\tsplit"]
    for number, (speaker, accent, split) in enumerate(rows):
        name = f"{speaker}-{number}"
        soundfile.write(corpus / f"{name}.flac", np.random.default_rng(number).uniform(-0.1, 0.1, 16000), 16000)
        lines.append(f"{name}\t{name}.flac\tone two\t{speaker}\t{accent}\t{split}")
    (corpus / "manifest.tsv").write_text("\n".join(lines) + "\n")
    places = [word for name in ("data", "dump", "exp") for word in (f"--{name}dir", str(folder / name))]
    start = ["--corpus", "manifest", "--corpus_dir", str(corpus), *places, "--nj", "1"]
    return [*start, "--leave_one_accent_out", "true", *options]


THREE = [
    (f"{accent[:2]}{split}", accent, split)
    for accent in ("irish", "scottish", "welsh")
    for split in ("train", "dev", "test")
]


def test_a_test_set_of_one_accent_is_unseen_as_a_whole_in_its_turn(tmp_path, capsys):
    rows = [*THREE, ("scmore", "scottish", "test_glasgow")]
    assert main(on_manifest(tmp_path, rows, "--stop_stage", "1")) == 0, capsys.readouterr().err
    runs = {run.name: run / "data" for run in (tmp_path / "exp" / "leave_one_out").iterdir()}
    assert set(runs) == {"irish", "scottish", "welsh"}
    assert not (runs["scottish"] / "test_glasgow").exists()
    unseen = (runs["scottish"] / "test_glasgow_unseen" / "utt2spk").read_text()
    assert unseen.split()[1] == "scmore" and (runs["welsh"] / "test_glasgow" / "utt2spk").read_text() == unseen


@pytest.mark.parametrize(
    "rows, message",
    [
        (
            [row for row in THREE if row[1] == "irish" or row[2] != "dev"],
            "data/dev is irish, so nothing would be left of it without this accent: give it speakers of another one",
        ),
    ],
)
def test_what_would_stop_a_later_run_is_refused_before_the_first(rows, message, tmp_path, capsys):
    assert main(on_manifest(tmp_path, rows)) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: --leave_one_accent_out true: all of ")
    assert error.count("\n") == 1 and not (tmp_path / "exp" / "leave_one_out").exists()


def test_an_extra_training_set_with_an_accent_that_is_left_out_is_refused(tmp_path, capsys):
    extra = tmp_path / "other" / "dump" / "raw" / "train"
    extra.mkdir(parents=True)
    (extra / "utt2accent").write_text("a-1 welsh\na-2 dutch\n")
    command = on_manifest(tmp_path, THREE, "--stop_stage", "1")
    assert main(command) == 0, capsys.readouterr().err
    assert main([*command, "--extra_train_sets", str(extra)]) == 2
    error = capsys.readouterr().err
    assert "has the accent welsh, which would be trained on while it is left out" in error and error.count("\n") == 1


def test_a_classifier_that_has_heard_what_is_left_out_is_told_of(tmp_path, capsys):
    folder = tmp_path / "classifier"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "token_list: [scottish, welsh, dutch, <unk>]\n"
        "frontend_conf: {n_fft: 512, win_length: 512, hop_length: 256}\n"
    )
    command = on_manifest(tmp_path, THREE, "--stop_stage", "1", "--classifier", str(folder))
    assert main(command) == 0, capsys.readouterr().err
    assert f"note: --classifier {folder} was trained with scottish, welsh: the recognisers" in capsys.readouterr().out


def test_too_few_accents_for_a_classifier(edacc, two_accents, tmp_path, capsys):
    command = on_edacc(edacc, tmp_path, *two_accents, "--leave_one_accent_out", "true")
    assert main(command) == 2
    assert "has 2 accents (north, south), and 3 are needed, for the classifier" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_of_all_runs(edacc, two_accents, tmp_path, capsys):
    """One arm without classifier, one epoch; first alone, then beside an ordinary run."""
    config = yaml.safe_load((ROOT / "conf" / "small" / "train_asr_conformer.yaml").read_text())
    config["encoder_conf"].update(output_size=16, attention_heads=2, linear_units=16, num_blocks=1)
    config.update(max_epoch=1, num_iters_per_epoch=2, batch_bins=200_000, keep_nbest_models=1, num_workers=0)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    options = [*two_accents, "--asr_config", str(tmp_path / "tiny.yaml"), "--arms", "none", "--has_accents", "false"]
    options += ["--inference_config", "conf/small/decode_asr.yaml", "--inference_asr_model", "valid.loss.ave.pth"]
    options += ["--ngpu", "0", "--inference_nj", "1", "--speed_perturb_factors", "", "--token_type", "char"]
    ordinary = on_edacc(edacc, tmp_path, *options, "--bootstrap_draws", "100")
    command = [*ordinary, "--leave_one_accent_out", "true"]
    folder = tmp_path / "exp" / "leave_one_out"

    assert main(command) == 0, capsys.readouterr().err
    assert "accent 2 of 2, south" in capsys.readouterr().out
    alone = json.loads((folder / "results.json").read_text())
    assert alone["seen_from"] == "mean over the runs that left another accent out"
    # After so little training every word is wrong: characters tell the runs apart.
    rows = alone["sets"]["test"]["cer"]["arms"]["none"]
    assert list(rows) == ["overall", "north", "south"]
    assert any(rows[accent]["seen"] != rows[accent]["unseen"] for accent in ("north", "south"))
    for accent, other in (("north", "south"), ("south", "north")):
        report = {name: json.loads((folder / name / "exp" / "report" / "comparison.json").read_text())
                  for name in (accent, other)}  # fmt: skip
        unseen = report[accent]["sets"]["test_unseen"]["cer"]["arms"]["none"]["groups"]["overall"]
        seen = report[other]["sets"]["test"]["cer"]["arms"]["none"]["groups"][accent]
        assert (rows[accent]["unseen"], rows[accent]["seen"]) == pytest.approx((unseen["rate"], seen["rate"]))
        assert rows[accent]["words"] == unseen["words"] == seen["words"]

    assert main(ordinary) == 0, capsys.readouterr().err
    assert main(command) == 0
    whole = json.loads((folder / "results.json").read_text())
    assert whole["seen_from"] == "the ordinary run, which trained with all accents"
    report = json.loads((tmp_path / "exp" / "report" / "comparison.json").read_text())
    for accent in ("north", "south"):
        row = whole["sets"]["test"]["cer"]["arms"]["none"][accent]
        groups = report["sets"]["test"]["cer"]["arms"]["none"]["groups"]
        assert (row["seen"], row["unseen"]) == pytest.approx((groups[accent]["rate"], rows[accent]["unseen"]))
    assert "## test: WER, none" in (folder / "RESULTS.md").read_text()
    assert (folder / "unseen_test.png").stat().st_size > 5000
