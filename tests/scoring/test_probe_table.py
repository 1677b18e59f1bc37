"""The table of the probe: rates and differences against counts made by hand, and what is said."""

from __future__ import annotations

import json

import pytest
from espnet_saliency.scoring.comparison import ArmDecode, compare
from espnet_saliency.scoring.probe import ORDERS, PLAIN, Hiding, probe_result, write_probe
from espnet_saliency.scoring.score_folder import score_decode

WORDS = "one two three four".split()


def probed(folder, errors, speakers=12, plain=0):
    """(comparison, hidings) of speakers of two accents in turn, an utterance of four words each.

    `errors`: share -> order -> wrong words in every utterance, or a list with those of each;
    `plain`: those with nothing hidden.
    """
    data = folder / "data"
    data.mkdir()
    ids = [f"s{n:02}" for n in range(speakers)]
    for name, value in (
        ("text", lambda n: " ".join(WORDS)),
        ("utt2spk", lambda n: ids[n]),
        ("utt2accent", lambda n: ("north|x", "south")[n % 2]),
    ):
        (data / name).write_text("".join(f"{i} {value(n)}\n" for n, i in enumerate(ids)))
    hidings = [PLAIN, *(Hiding(order, share) for share in errors for order in ORDERS)]
    arms = []
    for hiding in hidings:
        wrong = errors[hiding.share][hiding.order] if hiding.share else plain
        wrong = wrong if isinstance(wrong, list) else [wrong] * speakers
        decode = folder / "exp" / hiding.name / "dev"
        decode.mkdir(parents=True)
        lines = [" ".join([i, *["x"] * w, *WORDS[w:]]) + "\n" for i, w in zip(ids, wrong)]
        (decode / "text").write_text("".join(lines))
        score_decode(decode, data)
        arms.append(ArmDecode(hiding.name, folder / "exp", hiding.name, ("dev",), "./run.sh"))
    return compare(arms, PLAIN.name, "digits", draws=200), hidings


def test_rates_and_differences_by_hand(tmp_path):
    salient = [2 + n % 2 for n in range(12)]  # 2 of 4 words in the north, 3 of 4 in the south
    errors = {0.2: {"random": 1, "least": 0, "salient": salient}}
    result = probe_result(*probed(tmp_path, errors), recogniser="specaug")
    assert (result["set"], result["utterances"], result["speakers"]) == ("dev", 12, 12)
    rows = {(row["order"], row["share"]): row["groups"] for row in result["rows"]}
    assert list(rows) == [("plain", 0.0), ("random", 0.2), ("least", 0.2), ("salient", 0.2)]
    rates = {
        order: {group: one["rate"] for group, one in groups.items()}
        for (order, _), groups in rows.items()
    }
    assert rates["plain"] == {"overall": 0.0, "north|x": 0.0, "south": 0.0}
    assert rates["random"] == {"overall": 25.0, "north|x": 25.0, "south": 25.0}
    assert rates["salient"] == {"overall": 62.5, "north|x": 50.0, "south": 75.0}
    assert rows["salient", 0.2]["overall"]["more"] == 62.5
    assert rows["plain", 0.0]["overall"]["more"] is None
    (difference,) = result["salient_minus_random"]
    overall, north = difference["groups"]["overall"], difference["groups"]["north|x"]
    assert (overall["absolute"], north["absolute"]) == (37.5, 25.0)
    assert 25.0 <= overall["low"] < 37.5 < overall["high"] <= 50.0
    assert overall["p_value"] == overall["p_holm"] == pytest.approx(2 / 2**12)
    assert north["p_value"] == pytest.approx(2 / 2**6)
    assert north["p_holm"] == pytest.approx(2 * 2 / 2**6)  # corrected over two accents


@pytest.mark.parametrize(
    "errors, speakers, verdict, says",
    [
        ({0.2: (1, 2)}, 12, "more", "costs more words than hiding random patches of the same size"),
        ({0.2: (2, 1)}, 12, "less", "costs fewer words than hiding random"),
        ({0.2: (1, 1)}, 12, "same", "costs as many words as hiding random"),
        ({0.1: (1, 2), 0.2: (2, 1)}, 12, "both", "at some shares and fewer at others"),
        ({0.1: (1, 1), 0.2: (1, 2)}, 12, "more", "+0.0 (+0.0 to +0.0) at 10 % (p 1.000), +25.0"),
        ({0.2: (1, 2)}, 5, "too few", "cannot be told from 5 speakers"),
        ({0.2: (1, 2)}, 6, "more", "(p 0.031)"),
        ({0.1: (1, 2), 0.2: (1, 2)}, 6, "too few", "(p 0.062)"),  # two shares, so twice 2 / 2^6
    ],
)
def test_the_sentence(tmp_path, errors, speakers, verdict, says):
    errors = {share: {"random": r, "least": 0, "salient": s} for share, (r, s) in errors.items()}
    result = probe_result(*probed(tmp_path, errors, speakers), recogniser="specaug")
    assert result["verdict"] == verdict
    assert says in result["answer"] and "\n" not in result["answer"]


def test_files(tmp_path):
    errors = {share: {"random": 1, "least": 0, "salient": 2} for share in (0.1, 0.25)}
    result = write_probe(tmp_path, *probed(tmp_path, errors), "specaug", ["dev: near <b> chance"])
    text = (tmp_path / "probe.md").read_text()
    warning = "WARNING: dev: near &lt;b> chance"
    assert f"\n{result['answer']}\n\n{warning}\n\nWER in % of specaug on 12" in text
    assert "|hidden|share|overall|more|north/x*|south*|" in text
    assert "|nothing|0 %|0.0 (0.0 to 0.0)|-|0.0|0.0|" in text
    assert "|most salient|25 %|50.0 (50.0 to 50.0)|+50.0 (+50.0 to +50.0)|50.0|50.0|" in text
    # 4 / 2^12 after Holm over two shares, 4 / 2^6 over two accents.
    assert "|10 %|+25.0 (+25.0 to +25.0)|< 0.001|+25.0 (p 0.062)|+25.0 (p 0.062)|" in text
    assert json.loads((tmp_path / "probe.json").read_text()) == result
    assert (tmp_path / "probe.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_speaker_has_no_interval(tmp_path):
    errors = {0.5: {"random": 1, "least": 0, "salient": 2}}
    result = write_probe(tmp_path, *probed(tmp_path, errors, 1), "specaug")
    assert "cannot be told from 1 speaker;" in result["answer"]
    assert "|most salient|50 %|50.0|+50.0|50.0|" in (tmp_path / "probe.md").read_text()
    assert (tmp_path / "probe.png").exists()


@pytest.mark.parametrize("wrong, warned", [(3, False), (4, True)])
def test_a_recogniser_that_hears_nothing_has_nothing_to_lose(tmp_path, wrong, warned):
    errors = {0.5: {order: 4 for order in ORDERS}}
    result = probe_result(*probed(tmp_path, errors, plain=wrong), recogniser="specaug")
    assert bool(result["warnings"]) == warned
    if warned:
        assert "specaug has a WER of 100.0 % on dev with nothing hidden" in result["warnings"][0]
