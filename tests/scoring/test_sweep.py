"""The table and plot of a sweep."""

from __future__ import annotations

import json

import pytest

from espnet_saliency.scoring.sweep import Variant, sweep_rows, write_sweep


def comparison() -> dict:
    rates = {"specaug": (20.0, 30.0), "sal_a": (19.0, 25.0), "sal_b": (22.0, 26.0)}

    def arm(seen: float, macro: float) -> dict:
        group = {"rate": seen, "low": seen - 1, "high": seen + 2}
        return {"groups": {"overall": group, "north|x": {"rate": macro, "low": None, "high": None}},
                "macro": macro}  # fmt: skip

    pairs = [
        {"arm": name, "reference": "specaug",
         "groups": {"overall": {"absolute": rates[name][0] - 20.0, "low": -3.0, "high": 1.0,
                                "p_value": 0.25}}}
        for name in ("sal_a", "sal_b")
    ]  # fmt: skip
    wer = {"arms": {name: arm(*pair) for name, pair in rates.items()}, "differences": pairs}
    return {"corpus": "digits", "baseline": "specaug", "bootstrap": {"draws": 100},
            "sets": {"test": {"wer": wer}}}  # fmt: skip


VARIANTS = [
    Variant("specaug", "specaug", {}),
    Variant("sal_a", "saliency", {"mask_ratio": 0.1, "fill": "mean"}),
    Variant("sal_b", "saliency", {"mask_ratio": 0.3, "fill": "mean"}),
]


def test_rows_carry_the_numbers_of_the_comparison():
    base, first, second = sweep_rows(comparison(), VARIANTS, "test")
    assert (base["arm"], base["rate"], base["change"]) == ("specaug", 20.0, None)
    assert (first["rate"], first["change"], first["macro"], first["p_value"]) == (19.0, -1.0, 25.0, 0.25)
    assert second["values"] == {"mask_ratio": 0.3, "fill": "mean"}
    assert second["accents"] == {"north|x": 26.0}


def test_files(tmp_path):
    table = write_sweep(tmp_path, comparison(), VARIANTS).read_text()
    assert "|arm|mask_ratio|fill|WER|change|p|mean over accents|north/x|" in table
    assert "|specaug|||20.0|-|-|30.0|30.0|" in table
    assert "|saliency|0.3|mean|22.0|+2.0 (-3.0 to +1.0)|0.250|26.0|26.0|" in table
    assert json.loads((tmp_path / "sweep.json").read_text())["test"][1]["arm"] == "sal_a"
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("key, values", [("fill", ("mean", "noise")), ("mask_ratio", (0.1, 0.3))])
def test_settings_may_be_words_or_numbers(tmp_path, key, values):
    variants = [Variant(arm, "saliency", {key: value}) for arm, value in zip(("sal_a", "sal_b"), values)]
    write_sweep(tmp_path, comparison(), variants)
    assert (tmp_path / "sweep.png").stat().st_size > 5000


def test_the_baseline_may_be_swept_and_may_be_all_there_is(tmp_path):
    arms = [Variant("specaug", "saliency", {"mask_ratio": 0.1}), Variant("sal_a", "saliency", {"mask_ratio": 0.2})]
    table = write_sweep(tmp_path, comparison(), arms).read_text()
    assert "|saliency|0.1|20.0|-|" in table and "|saliency|0.2|19.0|-1.0" in table
    write_sweep(tmp_path, comparison(), arms[:1])
    assert (tmp_path / "sweep.png").stat().st_size > 5000
