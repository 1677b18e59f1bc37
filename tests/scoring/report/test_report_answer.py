"""The answer in words follows from the numbers, also when they disappoint."""

from __future__ import annotations

import pytest

from espnet_saliency.scoring.report_answer import answer, difference, verdict
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_warnings import near_chance, warnings
from espnet_saliency.scoring.report_words import interval_text, p_text

NAMES = {"test_unseen": "unseen accents", "test": "seen accents"}


def group(absolute, low, high, p_value):
    return {"absolute": absolute, "low": low, "high": high, "relative": 10 * absolute,
            "p_value": p_value, "speakers": 30, "small": False}


def comparison(against_base, against_control=None, accents=()):
    """One set; `against_control` is stored the other way round, as control minus method."""
    arms = ["specaug", "saliency_specaug"] + ["random_specaug"] * (against_control is not None)
    names = ["overall", *(name for name, _ in accents)]
    rates = {name: {"rate": 20.0, "low": 18.0, "high": 22.0} for name in names}
    differences = [{"arm": "saliency_specaug", "reference": "specaug",
                    "groups": {"overall": against_base, **dict(accents)}}]
    if against_control:
        turned = {**against_control, "absolute": -against_control["absolute"],
                  "low": -against_control["high"], "high": -against_control["low"]}
        differences.append({"arm": "random_specaug", "reference": "saliency_specaug",
                            "groups": {"overall": turned}})
    return {
        "baseline": "specaug", "arms": [{"name": arm} for arm in arms],
        "bootstrap": {"level": 0.95, "draws": 10000, "seed": 1, "unit": "speaker"},
        "sets": {"test_unseen": {
            "speakers": 30, "utterances": 90, "words": 4000, "accents": names[1:],
            "wer": {"arms": {arm: {"groups": rates} for arm in arms}, "differences": differences},
        }},
    }


def say(*args, **kwargs):
    return answer(comparison(*args, **kwargs), "test_unseen", NAMES, "7")


def flat(text):
    return text.replace("\u00a0", " ")


BETTER, WORSE = group(-2.0, -3.0, -1.0, 0.001), group(2.0, 0.5, 3.0, 0.002)
UNCLEAR = group(-0.8, -1.9, 0.3, 0.14)


def test_an_inconclusive_run_says_so():
    said = say(UNCLEAR, group(-0.2, -1.4, 1.1, 0.8))
    assert said.headline == "No difference shown on unseen accents" and said.mood == "unclear"
    assert flat(said.sentence) == (
        "Saliency masking + SpecAugment changed WER on unseen accents by −0.8 points "
        "(95 % interval −1.9 to +0.3) against SpecAugment alone, and by −0.2 points "
        "(−1.4 to +1.1) against random masks of the same size: "
        "neither is distinguishable from zero."
    )


@pytest.mark.parametrize(
    ("base", "control", "mood", "words"),
    [
        (BETTER, BETTER, "better", "It helped on unseen accents in this run"),
        (BETTER, UNCLEAR, "unclear", "not shown to be better than random masks"),
        (BETTER, WORSE, "unclear", "but worse than random masks"),
        (UNCLEAR, BETTER, "unclear", "not shown to beat SpecAugment"),
        (UNCLEAR, WORSE, "worse", "worse than random masks"),
        (WORSE, BETTER, "worse", "It hurt on unseen accents in this run"),
        (BETTER, None, "better", "better than SpecAugment"),
    ],
)
def test_the_headline_claims_no_more_than_both_comparisons_show(base, control, mood, words):
    said = say(base, control)
    assert said.mood == mood and words in said.headline


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (BETTER, "better"),
        (WORSE, "worse"),
        (UNCLEAR, "unclear"),
        (group(-2.0, -3.0, -1.0, 0.06), "disputed"),
        (group(-2.0, -3.0, 0.1, 0.04), "disputed"),
        (group(-2.0, -3.0, -1.0, None), "better"),
        (BETTER | {"p_holm": 0.04}, "better"),
        (BETTER | {"p_holm": 0.06}, "uncorrected"),
        (UNCLEAR | {"p_holm": 0.9}, "unclear"),
        (group(-2.0, None, None, 0.001), "unknown"),
        (group(-2.0, -3.0, 0.0, 0.2), "unclear"),
    ],
)
def test_a_difference_is_shown_only_where_interval_and_test_agree(one, expected):
    assert verdict(one, 0.95) == expected


def test_a_dispute_of_interval_and_test_is_told():
    said = say(group(-2.0, -3.0, -1.0, 0.06))
    assert said.mood == "unclear" and "its interval and its test disagree" in said.sentence
    both = say(group(-2.0, -3.0, -1.0, 0.06), group(-2.0, -3.0, 0.1, 0.04))
    assert both.sentence.endswith(": neither is settled (interval and test disagree).")


def test_accents_are_counted_and_chance_is_named():
    said = say(BETTER, None, accents=[("Hindi", BETTER), ("Thai", WORSE), ("", UNCLEAR)])
    assert flat(said.accents).startswith(
        "By accent, against SpecAugment: better on Hindi and worse on Thai; no difference shown "
        "on 1 of 3 accents. Among 3 accents about 0.2 would differ by chance alone"
    )
    corrected = say(BETTER, None, accents=[
        ("Hindi", BETTER | {"p_holm": 0.01}), ("Thai", BETTER | {"p_holm": 0.2})])
    assert corrected.accents == (
        "By accent, against SpecAugment: better on Hindi; no difference shown on 1 of 2 accents. "
        "Their p-values are corrected for the number of accents (Holm).")
    none = say(UNCLEAR, None, accents=[("Hindi", UNCLEAR), ("Thai", UNCLEAR)])
    assert none.accents.endswith("no difference is shown on any of the 2 accents.")
    assert say(BETTER, None, accents=[("Hindi", BETTER)]).accents == ""


def test_what_the_intervals_leave_out_is_said():
    said = say(UNCLEAR)
    assert "30 speakers, 90 utterances and 4,000 words" in said.certainty
    assert "one training run an arm (seed 7)" in said.certainty
    assert "not what another training seed would have" in said.certainty


def test_with_several_seeds_the_headline_counts_them():
    several = comparison(BETTER | {"seeds": {"absolute": [-2.0] * 6, "std": 0.0, "p_value": 0.0}})
    several["seeds"] = [1, 2, 3, 4, 5, 6]
    said = answer(several, "test_unseen", NAMES, "1 2 3 4 5 6")
    assert said.headline == "It helped on unseen accents over 6 seeds: better than SpecAugment"
    assert "WER fell in 6 of 6 seeds" in said.certainty and "p\u00a0<\u00a00.001" in said.certainty
    assert "rough" not in said.certainty


def test_one_arm_alone_gets_its_rate_and_no_verdict():
    alone = comparison(UNCLEAR)
    alone["arms"] = alone["arms"][:1]
    alone["sets"]["test_unseen"]["wer"]["differences"] = []
    said = answer(alone, "test_unseen", NAMES)
    assert flat(said.sentence).startswith(
        "SpecAugment has a WER of 20.0 % on unseen accents (95 % interval 18.0 to 22.0)")


@pytest.mark.parametrize(
    ("arms", "baseline", "expected"),
    [
        ("specaug saliency_specaug random_specaug", "specaug",
         ("saliency_specaug", "specaug", "random_specaug")),
        ("random none saliency saliency_specaug", "none", ("saliency", "none", "random")),
        ("specaug saliency saliency_specaug", "specaug", ("saliency_specaug", "specaug", None)),
        ("saliency random", "random", ("saliency", "random", None)),
        ("none specaug", "none", ("specaug", "none", None)),
        ("none specaug random random_mix accent_mix", "specaug",
         ("accent_mix", "specaug", "random_mix")),
        ("none specaug saliency random", "specaug", ("saliency", "specaug", "random")),
        ("none random theirs", "none", ("theirs", "none", None)),
        ("none saliency", "none", ("saliency", "none", None)),
        ("none specaug random", "specaug", ("random", "specaug", None)),
        ("none specaug", "specaug", ("specaug", "specaug", None)),
    ],
)
def test_arms_find_their_parts(arms, baseline, expected):
    part = roles({"arms": [{"name": a} for a in arms.split()], "baseline": baseline})
    assert (part.method, part.baseline, part.control) == expected


@pytest.mark.parametrize(
    ("arms", "baseline", "other"),
    [
        ("specaug saliency_specaug random_specaug", "specaug", None),
        ("none specaug saliency random", "specaug", "none"),
        ("none specaug saliency random", "none", "specaug"),
        ("saliency random", "random", None),
        ("none specaug", "none", None),
        ("none specaug", "specaug", None),
    ],
)
def test_no_augmentation_and_specaugment_are_both_to_be_beaten(arms, baseline, other):
    part = roles({"arms": [{"name": a} for a in arms.split()], "baseline": baseline})
    assert part.other == other


@pytest.mark.parametrize(
    ("arms", "baseline", "control", "plain"),
    [
        ("specaug saliency_specaug random_specaug", "specaug", False, False),
        ("specaug saliency_specaug", "specaug", True, False),
        ("specaug saliency random", "specaug", False, True),
        ("specaug saliency", "specaug", True, True),
        ("specaug none saliency", "specaug", True, False),
        ("none accent_mix random", "none", True, False),
        ("none accent_mix random_mix", "none", False, False),
        ("specaug theirs", "specaug", False, False),
        ("specaug random", "specaug", False, False),
    ],
)
def test_the_page_says_which_arm_is_missing(arms, baseline, control, plain):
    one = comparison(UNCLEAR)
    one |= {"arms": [{"name": a} for a in arms.split()], "baseline": baseline}
    texts = [text for title, text in warnings(one, "test_unseen", NAMES, None)
             if title == "An arm is missing"]
    assert len(texts) == (control or plain)
    assert [("at random places" in t, "without augmentation" in t) for t in texts] == (
        [(control, plain)] if texts else [])


def test_a_change_is_not_called_a_mask():
    said = of_many("specaug accent_mix random_mix none", accent_mix_to_random_mix=UNCLEAR)
    assert "against accent mix at random places" in said.sentence
    assert "masks" not in said.headline + said.sentence


def of_many(arms, **against):
    """One set with `arms`, the first the baseline: the differences to it and to others, as named."""
    found = comparison(UNCLEAR)
    first, *others = arms.split()
    found["baseline"] = first
    found["arms"] = [{"name": arm} for arm in arms.split()]
    rates = {"overall": {"rate": 20.0, "low": 18.0, "high": 22.0}}
    wer = found["sets"]["test_unseen"]["wer"]
    wer["arms"] = {arm: {"groups": rates} for arm in arms.split()}
    wer["differences"] = [
        {"arm": arm, "reference": first, "groups": {"overall": against.get(arm, UNCLEAR)}}
        for arm in others
    ] + [
        {"arm": names.split("_to_")[0], "reference": names.split("_to_")[1],
         "groups": {"overall": one}}
        for names, one in against.items() if "_to_" in names
    ]
    return answer(found, "test_unseen", NAMES)


def test_what_beats_specaugment_alone_has_not_helped():
    arms = "specaug none saliency random"
    said = of_many(arms, saliency=BETTER, saliency_to_random=BETTER, saliency_to_none=UNCLEAR)
    assert said.mood == "unclear" and said.headline == (
        "Better than SpecAugment and random masks of the same size on unseen accents, but not "
        "shown to be better than no augmentation"
    )
    assert flat(said.sentence).endswith(
        "against SpecAugment, by −2.0 points (−3.0 to −1.0) against random masks of the same size, "
        "and by −0.8 points (−1.9 to +0.3) against no augmentation: the first is an improvement, "
        "the second an improvement, the third not distinguishable from zero."
    )
    said = of_many(arms, saliency=BETTER, saliency_to_random=UNCLEAR, saliency_to_none=UNCLEAR)
    assert said.headline.endswith(
        "not shown to be better than random masks of the same size or no augmentation")
    assert "the first is an improvement, the others not distinguishable from zero" in said.sentence
    said = of_many(arms, saliency=BETTER, saliency_to_random=BETTER, saliency_to_none=WORSE)
    assert said.headline.endswith(", but worse than no augmentation")
    said = of_many(arms, saliency=BETTER, saliency_to_random=BETTER, saliency_to_none=BETTER)
    assert said.mood == "better" and said.headline == (
        "It helped on unseen accents in this run: better than SpecAugment, than random masks of "
        "the same size and than no augmentation"
    )
    assert said.sentence.endswith(": all are improvements.") and said.rest == ""


def test_every_system_is_on_the_first_screen_under_its_own_name():
    said = of_many("theirs b c", b=WORSE, c=BETTER)
    assert said.headline == "b did worse on unseen accents in this run: worse than theirs"
    assert said.sentence.startswith("b changed WER on unseen accents")
    assert flat(said.rest) == "The other arms against theirs: c −2.0 points (−3.0 to −1.0)."
    assert of_many("theirs b", b=BETTER).rest == ""
    many = of_many("theirs b c d e f g h", b=BETTER)
    assert many.rest.endswith("and 2 more below.") and many.rest.count("points") == 4


def test_accents_with_too_few_speakers_to_show_anything_are_told_of():
    few = UNCLEAR | {"p_value": 0.031, "p_holm": 0.094, "low": -3.0, "high": -1.0, "speakers": 6}
    said = say(BETTER, None, accents=[(name, few) for name in "abc"])
    # Three p-values of 2 / 2^6 at best: 0.031 x 3 = 0.094.
    assert said.accents.endswith(
        "no difference is shown on any of the 3 accents, and none could be: with 3 p-values to "
        "correct for, each has too few speakers.")
    enough = few | {"speakers": 7}  # 3 x 2 / 2^7 = 0.047
    said = say(BETTER, None, accents=[(name, enough) for name in "abc"])
    assert said.accents.endswith("on any of the 3 accents.")


def test_without_a_method_no_verdict_is_given():
    plain = comparison(BETTER)
    plain["arms"][1]["name"] = "none"
    said = answer(plain, "test_unseen", NAMES)
    assert said.headline == "Nothing to compare" and said.mood == "unclear"
    assert said.sentence.endswith("There is no arm that masks what is salient to compare it with.")


def test_a_difference_stored_the_other_way_is_turned_round():
    scores = {
        "arms": {"b": {"groups": {"overall": {"rate": 25.0}}}},
        "differences": [{"arm": "b", "reference": "a", "groups": {
            "overall": group(5.0, 2.0, 9.0, 0.01)}}],
    }
    turned = difference(scores, "a", "b")["overall"]
    assert (turned["absolute"], turned["low"], turned["high"]) == (-5.0, -9.0, -2.0)
    assert turned["relative"] == -20.0 and turned["p_value"] == 0.01
    assert difference(scores, "a", "c") is None


def test_a_classifier_near_chance_is_called_so():
    assert near_chance({"chance": 1 / 3, "balanced_accuracy": 0.344})  # 70 real speakers
    assert near_chance({"chance": 0.125, "balanced_accuracy": 0.18})  # 10 speakers an accent
    assert near_chance({"chance": 0.5, "balanced_accuracy": 0.65, "low": 0.48, "high": 0.8})
    good = {"chance": 0.125, "balanced_accuracy": 0.7, "low": 0.6, "high": 0.8}
    assert near_chance(good | {"near_chance": True})
    assert not near_chance({"chance": 0.125, "balanced_accuracy": 0.7, "low": 0.6, "high": 0.8})


def test_warnings_name_the_numbers():
    few = comparison(UNCLEAR)
    few["sets"]["test_unseen"] |= {"speakers": 1, "words": 1200}
    chance = {"sets": {
        "train": {"chance": 0.33, "balanced_accuracy": 1.0},
        "test": {"chance": 0.3333, "balanced_accuracy": 0.344},
    }}
    titles, texts = zip(*warnings(few, "test_unseen", NAMES, chance)[:2])
    assert titles == ("The accent classifier is near chance", "Few data")
    assert "(test) is 34.4 %, chance is 33.3 %" in texts[0]
    assert "1 speaker and 1,200 words" in texts[1]
    chance["sets"]["test"]["balanced_accuracy"] = 0.9
    assert warnings(comparison(UNCLEAR, UNCLEAR), "test_unseen", NAMES, chance) == []
    (_, text), _ = warnings(few, "test_unseen", {}, None)
    assert text.startswith("The set test_unseen has 1 speaker and 1,200 words.")


def test_arms_that_learnt_on_to_the_end_are_named():
    one = comparison(UNCLEAR, UNCLEAR)
    ((title, text),) = warnings(one, "test_unseen", NAMES, None, {"specaug": 0.31, "none": 0.2})
    assert title == "Not all had finished learning"
    assert "still fell for SpecAugment (31 %) and no augmentation (20 %)." in text
    many = dict.fromkeys("abcdef", 0.2)
    assert "d (20 %) and 2 more arms." in warnings(one, "test_unseen", NAMES, None, many)[0][1]


def test_small_texts():
    assert (p_text(0.0004), p_text(0.14), p_text(None)) == ("<\u00a00.001", "0.140", "–")
    assert interval_text({"low": None, "high": None}) == "–"
    assert flat(interval_text({"low": -1.94, "high": 0.31})) == "−1.9 to +0.3"
