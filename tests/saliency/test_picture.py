"""Pictures: the numbers behind them, the files, and the command line."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.saliency import picture
from espnet_saliency.saliency.heldout import log_mel, read_audio, read_labelled
from espnet_saliency.saliency.masking import MaskPolicy


def features_of(classifier, path):
    feats, lengths = log_mel(classifier, [read_audio(path, 16000)])
    return feats[0, : lengths[0]]


def test_the_map_lies_where_the_tone_is(glide_classifier, glides):
    wav, start = read_table(glides / "wav.scp"), read_table(glides / "start")
    shares = []
    for utt_id, path in list(wav.items())[:48:4]:
        explanation = picture.explain(glide_classifier, features_of(glide_classifier, path))
        begin = round(float(start[utt_id]) * 100)
        tone = explanation.saliency[max(0, begin - 5) : begin + 35]
        shares.append(tone.sum() / explanation.saliency.sum())
        assert explanation.saliency.min() == 0.0 and explanation.saliency.max() == 1.0
        assert explanation.feats.shape == explanation.mask.shape == (121, 80)
    assert np.mean(shares) > 0.6  # 40 of 121 frames


def test_the_mask_that_is_shown_is_a_draw_of_the_policy(glide_classifier, glides):
    feats = features_of(glide_classifier, glides / "rising0-0.flac")
    policy = MaskPolicy(apply_prob=0.0, mask_ratio=0.3)
    one, same, other = (
        picture.explain(glide_classifier, feats, policy, seed) for seed in (1, 1, 2)
    )
    assert one.mask.mean() == pytest.approx(0.3, abs=32 / (121 * 80))
    assert (one.mask == same.mask).all() and (one.mask != other.mask).any()
    assert one.accent == "rising" and 0.5 < one.posterior <= 1.0
    assert picture.caption(one, "rising0-0", "rising") == (
        f"rising0-0 (rising): heard as rising ({100 * one.posterior:.0f} %), 30 % masked"
    )


def test_positions_share_out_the_frames():
    # Two frames over forty positions: the first half has the first frame's value.
    parts = picture.over_positions(np.array([[1.0, 0.0], [3.0, 4.0]]))
    assert parts.shape == (40, 2)
    np.testing.assert_allclose(parts, np.repeat([[1.0, 0.0], [3.0, 4.0]], 20, axis=0))
    # Sixty frames: a position holds one and a half of them.
    parts = picture.over_positions(np.arange(60.0)[:, None])
    assert parts[0, 0] == pytest.approx((0 + 0.5 * 1) / 1.5)
    assert parts.mean() == pytest.approx(29.5)


def test_profiles_are_means_over_frames_then_utterances(glide_classifier, glides):
    utterances, left_out = read_labelled(glides, glide_classifier)
    assert left_out == 1
    # The last one is heard as rising, but the map is asked for its label.
    chosen = [utterances[0], utterances[-1]._replace(accent=0), utterances[-2]]
    averages = picture.accent_averages(glide_classifier, chosen)
    assert list(averages) == ["falling", "rising"]
    profiles = {accent: average.mean(axis=0) for accent, average in averages.items()}
    expected = np.mean(
        [
            picture.saliency_map(
                glide_classifier,
                features_of(glide_classifier, one.path)[None],
                torch.tensor([121]),
                torch.tensor([0]),
            )[0][0].mean(dim=0).numpy()
            for one in chosen[:2]
        ],
        axis=0,
    )  # fmt: skip
    np.testing.assert_allclose(profiles["falling"], expected, atol=1e-5)


def test_pictures_of_a_set(glide_classifier, glides, tmp_path):
    pictures = picture.draw_pictures(glide_classifier, glides, tmp_path / "pictures")
    assert len(pictures) == 3  # the average, and one of each accent
    assert "48 utterances of dev" in pictures[0]["caption"]
    assert pictures[1]["caption"].startswith("falling0-0 (falling): heard as falling")
    for one in pictures:
        with open(one["png"], "rb") as handle:
            assert handle.read(4) == b"\x89PNG"


@pytest.mark.parametrize("fmax, last", [(8000.0, "8000"), (4000.0, "4000")])
def test_frequency_ticks(fmax, last):
    features = FeatureSettings(n_mels=80, fmax=fmax)
    positions, names = picture._mel_ticks(features)
    assert names[-1] == last and positions == sorted(positions)
    assert 0 <= positions[0] and positions[-1] <= 79
    # Below 1000 Hz Slaney's scale is linear, 200/3 Hz a mel; 80 bins lie evenly on it.
    top = 15 + 27 * np.log(fmax / 1000) / np.log(6.4)
    assert positions[names.index("500")] == pytest.approx(7.5 / top * 81 - 1, abs=0.01)


def test_command_line(experiment, glides, tmp_path, capsys):
    out = tmp_path / "new" / "picture.png"
    audio = glides / "rising0-0.flac"
    assert picture.main([str(audio), "--classifier", str(experiment), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "heard as" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["missing", "text", "rate", "nan", "classifier"])
def test_command_line_refuses_in_one_line(experiment, glides, tmp_path, capsys, case):
    audio, classifier = tmp_path / "audio.wav", experiment
    if case == "text":
        audio.write_text("not audio")
    elif case == "rate":
        soundfile.write(audio, np.zeros(8000, np.float32), 8000)
    elif case == "nan":
        soundfile.write(audio, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    elif case == "classifier":
        audio, classifier = glides / "rising0-0.flac", tmp_path / "nothing"
    out = tmp_path / "picture.png"
    assert picture.main([str(audio), "--classifier", str(classifier), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(classifier if case == "classifier" else audio) in error
    assert not out.exists()


def run_command(capsys, audio, experiment, out, *options):
    words = [str(audio), "--classifier", str(experiment), "--out", str(out), *options]
    return picture.main(words), capsys.readouterr()


def test_command_line_draws_the_map_asked_for(experiment, glides, tmp_path, capsys):
    audio = glides / "rising0-0.flac"
    stem, block = "encoder.stem", "encoder.stages.1.0"
    seen = {}
    for name, options in {
        "usual": [],
        "commas": ["--method", "layer_cam", "--layer", f"{stem},{block}"],
        "again": ["--method", "layer_cam", "--layer", stem, "--layer", block],
        "one": ["--layer", stem],
    }.items():
        out = tmp_path / f"{name}.png"
        status, said = run_command(capsys, audio, experiment, out, *options)
        assert status == 0
        seen[name] = (out.read_bytes(), said.out.rpartition(" masked")[2].strip())
    assert seen["usual"][1] == "" and seen["one"][1] == ", grad_cam of encoder.stem"
    assert seen["commas"][1] == ", layer_cam of encoder.stem + encoder.stages.1.0"
    assert seen["commas"] == seen["again"]
    assert len({png for png, _ in seen.values()}) == 3


@pytest.mark.parametrize(
    "options, words",
    [
        (["--method", "rolled"], ["'rolled'", "grad_cam, grad_cam_plus_plus, hires_cam, layer_cam"]),
        (["--layer", "encoder.x"], ["'encoder.x'", "encoder.stem, encoder.stages.0.0"]),
        (["--layer", "encoder.stem,"], ["no layer ''", "encoder.stem, encoder.stages.0.0"]),
        (["--seed", str(2**64)], ["--seed", str(2**64), "64 bits"]),
        (["--seed", str(-(2**63) - 1)], ["--seed", "64 bits"]),
    ],
)
def test_command_line_refuses_a_value_in_one_line(
    experiment, glides, tmp_path, capsys, options, words
):
    out = tmp_path / "picture.png"
    status, said = run_command(capsys, glides / "rising0-0.flac", experiment, out, *options)
    assert status == 2 and said.err.count("\n") == 1 and not out.exists()
    assert all(word in said.err for word in words), said.err


def test_the_largest_seed_is_taken(experiment, glides, tmp_path, capsys):
    audio, out = glides / "rising0-0.flac", tmp_path / "picture.PNG"
    assert run_command(capsys, audio, experiment, out, "--seed", str(2**64 - 1))[0] == 0


@pytest.mark.parametrize("name", ["folder.png", "file/picture.png", "x.jpg", "plain", f"{'x' * 300}.png"])
def test_command_line_refuses_where_it_cannot_write(experiment, glides, tmp_path, capsys, name):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("a file\n")
    out = tmp_path / name
    status, said = run_command(capsys, glides / "rising0-0.flac", experiment, out)
    assert status == 2 and said.err.count("\n") == 1 and f"--out {out}: " in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_dollar_signs_in_names_are_no_formulas(
    make_experiment, glide_classifier, glides, tmp_path, capsys
):
    accents = ["$\\falling$", "$_rising$"]
    experiment = make_experiment(tmp_path / "exp", token_list=[*accents, "<unk>"])
    audio = tmp_path / "a$^$b$_$.flac"
    audio.write_bytes((glides / "rising0-0.flac").read_bytes())
    status, said = run_command(capsys, audio, experiment, tmp_path / "picture.png")
    assert status == 0 and "a$^$b$_$.flac: heard as $" in said.out
    averages = dict(zip(accents, np.random.default_rng(0).random((2, 40, 80))))
    path = tmp_path / "average.png"
    picture.draw_averages(averages, glide_classifier.features, path)
    assert path.read_bytes().startswith(b"\x89PNG")
