from __future__ import annotations

import datetime
import importlib.metadata
import subprocess

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.comparison import ArmDecode
from espnet_saliency.scoring.score_folder import score_decode
from espnet_saliency.scoring.tables import SetSize, environment, set_size, write_results


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    (folder / "text").write_text("s1-a the cat sat\ns1-b hello world\ns2-a good day\n")
    (folder / "utt2spk").write_text("s1-a s1\ns1-b s1\ns2-a s2\n")
    (folder / "utt2accent").write_text("s1-a scots\ns1-b scots\ns2-a irish\n")
    (folder / "utt2dur").write_text("s1-a 1000\ns1-b 500.5\ns2-a 299.5\n")
    return folder


@pytest.fixture
def arm(tmp_path, data):
    experiment = tmp_path / "exp" / "asr_x_saliency"
    folder = experiment / "decode_asr" / "test"
    folder.mkdir(parents=True)
    (folder / "text").write_text("s1-a the cat sit\ns1-b\ns2-a good day day\n")
    score_decode(folder, data)
    return ArmDecode("saliency", experiment, "decode_asr", ("test",), "./run.sh --corpus x")


def test_set_size(data):
    assert set_size(data) == SetSize(utterances=3, speakers=2, words=7, hours=0.5)
    (data / "utt2dur").write_text("s1-a long\n")
    with pytest.raises(UserError, match="utt2dur: .*'long'"):
        set_size(data)
    (data / "utt2dur").unlink()
    assert set_size(data).hours is None


def test_results_md(tmp_path, data, arm):
    path = tmp_path / "RESULTS.md"
    write_results(path, [arm], {"train": data, "test": data}, "train", {"date": "today"})
    text = path.read_text()
    assert "# RESULTS\n## Environments\n- date: `today`\n" in text
    assert "|train|3|2|7|0.50|\n|test|3|2|7|0.50|\n" in text
    assert "Trained on 3 utterances of 2 speakers (7 words, 0.50 hours). That is little" in text
    assert "## asr_x_saliency\n\nArm `saliency`, made by:\n" in text
    assert "\n```\n./run.sh --corpus x\n```\n" in text
    assert (
        "### WER\n\n"
        "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n"
        "|---|---|---|---|---|---|---|---|---|\n"
        "|decode_asr/test|3|7|57.1|14.3|28.6|14.3|57.1|100.0|\n"
    ) in text
    assert (
        "WER of test by accent:\n\n"
        "|accent|Spk|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
        "|irish|1|1|2|100.0|0.0|0.0|50.0|50.0|100.0|\n"
        "|scots|1|2|5|40.0|20.0|40.0|0.0|60.0|100.0|\n\n"
        "Mean over accents 55.0, worst scots 60.0, gap best to worst 10.0.\n"
    ) in text
    # "the cat sat", "hello world", "good day": 11 + 11 + 8 characters, blanks among them
    assert "### CER\n" in text and "|decode_asr/test|3|30|" in text


def test_enough_data_is_not_called_little(tmp_path, data, arm):
    (data / "utt2dur").write_text("s1-a 36000\n")
    path = tmp_path / "RESULTS.md"
    write_results(path, [arm], {"train": data}, "train", {})
    assert "10.00 hours)." in path.read_text() and "little" not in path.read_text()


def test_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    when = datetime.datetime(2026, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    found = environment(tmp_path, when)
    assert found["date"] == "Tue Feb  3 04:05:06 UTC 2026"
    assert found["pytorch version"] == f"pytorch {importlib.metadata.version('torch')}"
    assert "Git hash" not in found  # no checkout
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert environment(tmp_path, when)["Git hash"] == head.stdout.strip()
    assert "Commit date" in environment(tmp_path, when)
