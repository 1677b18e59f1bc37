"""Feature settings: ESPnet's defaults, and what is said where two differ."""

from __future__ import annotations

import pytest
from espnet2.asr.frontend.default import DefaultFrontend
from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"fs": "16k", "hop_length": 160, "win_length": 400},
        {"fs": "8000", "n_fft": 256, "n_mels": 40},
        {"fs": 16000, "fmin": 80, "fmax": 7600, "window": "hamming", "htk": True},
        {"center": False, "normalized": True, "win_length": None},
    ],
)
def test_settings_of_a_configuration_are_those_of_the_frontend_that_espnet_builds(conf):
    settings = FeatureSettings.from_frontend_conf(conf)
    assert settings == FeatureSettings.from_frontend(DefaultFrontend(**conf))


def test_defaults_are_espnets():
    s = FeatureSettings.from_frontend_conf(None)
    assert (s.fs, s.n_fft, s.win_length, s.hop_length) == (16000, 512, 512, 128)
    assert (s.window, s.n_mels, s.fmin, s.fmax) == ("hann", 80, 0.0, 8000.0)


def test_differences_name_both_values():
    mine = FeatureSettings.from_frontend_conf({"hop_length": 160})
    theirs = FeatureSettings.from_frontend_conf({"n_mels": 40})
    assert mine.difference(theirs) == [
        "hop_length: classifier 160, recogniser 128",
        "n_mels: classifier 80, recogniser 40",
    ]
    assert mine.difference(mine) == []


def test_refusals():
    with pytest.raises(UserError, match="frontend_conf.n_mel: "):
        FeatureSettings.from_frontend_conf({"n_mel": 80})
    with pytest.raises(UserError, match="frontend_conf.fs: sixteen"):
        FeatureSettings.from_frontend_conf({"fs": "sixteen"})
    with pytest.raises(UserError, match="apply_stft"):
        FeatureSettings.from_frontend_conf({"apply_stft": False})
    with pytest.raises(UserError, match="stored features"):
        FeatureSettings.from_frontend(None)
