"""Evaluation over a dump folder, with an untrained classifier: what is read and what is written."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from espnet_saliency.accent import evaluate as module
from espnet_saliency.accent.classifier import AccentClassifier
from espnet_saliency.accent.evaluate import evaluate, markdown, predict, warnings
from espnet_saliency.errors import UserError


@pytest.fixture
def classifier(build) -> AccentClassifier:
    return AccentClassifier(build(token_list=["bright", "dark", "<unk>"]))


def test_predictions_are_those_of_the_model_one_utterance_at_a_time(classifier, dump, monkeypatch):
    monkeypatch.setattr(module, "BATCH_SECONDS", 8.0)
    predictions = predict(classifier, dump / "test")
    assert [p.utt_id for p in predictions] == sorted(p.utt_id for p in predictions)
    assert len(predictions) == 30
    paths = dict(line.split() for line in (dump / "test" / "wav.scp").read_text().splitlines())
    for p in predictions[::7]:
        wave = torch.from_numpy(soundfile.read(paths[p.utt_id], dtype="float32")[0])[None]
        feats, frames = classifier.frontend(wave, torch.tensor([wave.size(1)]))
        posterior = classifier(feats, frames).softmax(-1)[0]
        # The transform reflects the end of an utterance alone, and sees zeros in a batch.
        assert p.posterior == pytest.approx(posterior.tolist(), abs=0.02)
        assert p.predicted == classifier.accents[int(np.argmax(p.posterior))]
        assert p.utt_id.startswith(p.speaker) and p.speaker.startswith(p.accent)


def test_what_is_written(classifier, dump, tmp_path):
    results = evaluate(classifier, {"dev": dump / "dev", "test": dump / "test"}, tmp_path / "eval")
    folder = tmp_path / "eval"
    assert json.loads((folder / "results.json").read_text()) == results
    assert set(results["sets"]) == {"dev", "test"}
    test = results["sets"]["test"]
    assert test["utterances"] == 20 and test["speakers"] == 4 and test["chance"] == 0.5
    assert test["unknown_accents"]["plain"]["utterances"] == 10
    header, *rows = (folder / "test" / "predictions.tsv").read_text().splitlines()
    assert header.split("\t") == ["utt_id", "speaker", "accent", "predicted", "bright", "dark"]
    assert len(rows) == 30
    assert sum(float(v) for v in rows[0].split("\t")[4:]) == pytest.approx(1.0, abs=1e-3)
    assert (folder / "dev" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "RESULTS.md").read_text()
    assert page == markdown(results)
    assert "|test|20|4|2|" in page and "plain (10 utterances)" in page


def test_a_classifier_near_chance_is_said_to_be(classifier, dump, tmp_path):
    results = evaluate(classifier, {"dev": dump / "dev"}, tmp_path)
    assert results["sets"]["dev"]["near_chance"]
    (line,) = warnings(results)
    assert line.startswith("dev: balanced accuracy") and "near chance (50.0 %)" in line
    assert line in (tmp_path / "RESULTS.md").read_text()


def test_audio_shorter_than_the_window_passes(classifier, dump, tmp_path):
    for name in ("a-1", "a-2"):
        soundfile.write(tmp_path / f"{name}.flac", np.full(20, 0.1), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"{n} {tmp_path / n}.flac\n" for n in ("a-1", "a-2")))
    (tmp_path / "utt2spk").write_text("a-1 a\na-2 a\n")
    (tmp_path / "utt2accent").write_text("a-1 bright\na-2 dark\n")
    predictions = predict(classifier, tmp_path)
    assert len(predictions) == 2 and all(np.isfinite(p.posterior).all() for p in predictions)


def test_bad_data_is_named(classifier, dump, tmp_path):
    folder = tmp_path / "dev"
    shutil.copytree(dump / "dev", folder)
    lines = (folder / "utt2accent").read_text().splitlines(keepends=True)
    (folder / "utt2accent").write_text("".join(lines[1:]))
    with pytest.raises(UserError, match=f"utt2accent disagree on {lines[0].split()[0]}"):
        predict(classifier, folder)
    (folder / "utt2accent").write_text("".join(lines))
    first, *rest = (folder / "wav.scp").read_text().splitlines(keepends=True)
    other = tmp_path / "eight.wav"
    soundfile.write(other, np.zeros(8000), 8000)
    (folder / "wav.scp").write_text("".join([f"{first.split()[0]} {other}\n", *rest]))
    with pytest.raises(UserError, match="eight.wav: 8000 Hz, but the classifier hears 16000 Hz"):
        predict(classifier, folder)
    other.write_bytes(b"not audio")
    with pytest.raises(UserError, match="eight.wav: not readable as audio"):
        predict(classifier, folder)
    (folder / "wav.scp").unlink()
    with pytest.raises(UserError, match="wav.scp: no such file"):
        predict(classifier, folder)
