"""Accents when unseen against when seen: counted by hand."""

from __future__ import annotations

import json

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.scoring.error_rates import Scores, score
from espnet_saliency.scoring.unseen import HeldOut, unseen_table, write_unseen

WORDS = ["w"] * 10


def scores(wrong: dict[str, int], accents: dict[str, str], reference: str = " ".join(WORDS)) -> Scores:
    """Utterance -> number of substituted words, of ten."""
    hypotheses = {u: " ".join(["x"] * n + WORDS[n:]) for u, n in wrong.items()}
    speakers = {u: u.split("-")[0] for u in wrong}
    return score("wer", dict.fromkeys(wrong, reference), hypotheses, speakers, accents)


ACCENTS = {"a1-1": "irish", "a2-1": "irish", "b1-1": "welsh", "b2-1": "welsh", "a1-2": "irish"}


def held(arm: str, irish: tuple, welsh: tuple) -> list[HeldOut]:
    """(errors of two speakers when seen, when unseen) of each accent."""
    found = []
    for accent, start, (seen, unseen) in (("irish", "a", irish), ("welsh", "b", welsh)):
        runs = [scores({f"{start}{i}-1": n for i, n in enumerate(counts, 1)}, ACCENTS) for counts in (seen, unseen)]
        found.append(HeldOut(accent, arm, unseen=[runs[1]], seen=[runs[0]]))
    return found


TWO_ARMS = [
    *held("specaug", ((1, 2), (4, 3)), ((0, 0), (2, 2))),
    *held("saliency", ((1, 1), (2, 1)), ((0, 1), (2, 3))),
]


def test_rates_losses_and_changes_by_hand():
    table = unseen_table(TWO_ARMS, "specaug", draws=500)
    assert table["accents"] == ["irish", "welsh"]
    irish, overall = table["arms"]["specaug"]["irish"], table["arms"]["specaug"]["overall"]
    # 3 and 7 errors of 20 words; 3 and 11 of 40.
    assert (irish["seen"], irish["unseen"], irish["loss"]) == pytest.approx((15, 35, 20))
    assert irish["relative"] == pytest.approx(100 * 4 / 3)
    assert (overall["seen"], overall["unseen"], overall["words"], overall["speakers"]) == (7.5, 27.5, 40, 4)
    # Differences 3 and 1: of the four sign patterns two are as far from zero as 4.
    assert irish["p_value"] == 0.5 and irish["p_holm"] == 1.0
    # Differences 3, 1, 2, 2: only all signs equal reach 8, 2 of 16 patterns.
    assert overall["p_value"] == 0.125 and "p_holm" not in overall
    assert irish["small"] and "change" not in irish
    # The speakers' own rates differ by 30 and 10 points.
    assert (irish["low"], irish["high"]) == pytest.approx((10, 30))

    saliency = table["arms"]["saliency"]
    assert saliency["irish"]["change"] == pytest.approx(-20)  # 3 errors against 7, both unseen
    assert saliency["welsh"]["change"] == pytest.approx(5)
    assert saliency["overall"]["change"] == pytest.approx(-7.5)
    assert saliency["welsh"]["change_p"] == 1.0 and saliency["irish"]["change_p_holm"] == 1.0
    assert table["arms"]["saliency"]["welsh"]["relative"] == pytest.approx(400)


def test_several_runs_count_as_their_mean():
    more = [scores({"a1-1": n, "a2-1": 1}, ACCENTS) for n in (0, 1, 3)]
    one = HeldOut("irish", "specaug", unseen=[scores({"a1-1": 3, "a2-1": 1}, ACCENTS)], seen=more)
    row = unseen_table([one], "specaug", draws=50)["arms"]["specaug"]["irish"]
    assert row["seen"] == pytest.approx(100 * (4 / 3 + 1) / 20)
    assert row["p_value"] == 1.0  # a speaker with a difference, and one without


def test_only_utterances_of_the_accent_that_all_runs_share_count():
    seen = scores({"a1-1": 0, "a2-1": 0, "b1-1": 9}, ACCENTS)
    unseen = scores({"a1-1": 1, "a2-1": 1, "a1-2": 10}, ACCENTS)
    row = unseen_table([HeldOut("irish", "x", [unseen], [seen])], "x", draws=50)["arms"]["x"]["overall"]
    assert (row["utterances"], row["seen"], row["unseen"]) == (2, 0.0, 10.0)
    assert row["relative"] is None


@pytest.mark.parametrize(
    "entry, message",
    [
        (HeldOut("irish", "x", [], [scores({"a1-1": 0}, ACCENTS)]), "accent irish, arm x: no run without it"),
        (HeldOut("irish", "x", [scores({"a1-1": 0}, ACCENTS)], []), "accent irish, arm x: no run with it"),
        (HeldOut("irish", "x", [scores({"a1-1": 0}, ACCENTS)], [scores({"a2-1": 0}, ACCENTS)]), "share no test"),
        (HeldOut("irish", "x", [scores({"a1-1": 0}, ACCENTS)], [scores({"a1-1": 0}, ACCENTS, "w w")]),
         "a1-1 has the references 'w w' and 'w w w w"),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(entry, message):
    with pytest.raises(UserError, match=message):
        unseen_table([entry], "x")


def test_arms_with_other_accents_and_unknown_baselines_are_refused():
    with pytest.raises(UserError, match=r"specaug and saliency differ in the accents left out \(welsh\)"):
        unseen_table(TWO_ARMS[:3], "specaug")
    with pytest.raises(UserError, match="baseline 'none' is not among the arms"):
        unseen_table(TWO_ARMS, "none")


def test_files(tmp_path):
    tables = {"test": {"wer": unseen_table(TWO_ARMS, "specaug", draws=100)}}
    page = write_unseen(tmp_path, tables, "the ordinary run").read_text()
    assert "Seen: the ordinary run." in page
    assert "|irish*|2|20|15.0|35.0|+20.0 (+10.0 to +30.0)|1.000|\n" in page
    assert "## test: WER, saliency" in page and "unseen against specaug" in page
    assert json.loads((tmp_path / "results.json").read_text())["sets"] == tables
    assert (tmp_path / "unseen_test.png").read_bytes().startswith(b"\x89PNG")
    again = tmp_path / "again"
    write_unseen(again, {"test": {"wer": unseen_table(TWO_ARMS, "specaug", draws=100)}}, "the ordinary run")
    for name in ("results.json", "RESULTS.md", "unseen_test.png"):
        assert (again / name).read_bytes() == (tmp_path / name).read_bytes()
