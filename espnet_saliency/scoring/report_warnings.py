"""What makes a report less trustworthy than it looks: a classifier near chance, few data, trainings
that ended too soon, no control."""

from __future__ import annotations

from typing import Any, Mapping

from espnet_saliency.scoring.charts import number
from espnet_saliency.scoring.report_roles import roles
from espnet_saliency.scoring.report_words import arm_name, capital, count, listed

FEW_SPEAKERS = 20  # overall, in the set that answers the question
FEW_WORDS = 2000
MOST_NAMED = 4  # arms
NEAR_CHANCE = 0.15  # of the way from chance to perfect


def warnings(
    comparison: Mapping[str, Any],
    headline_set: str,
    set_names: Mapping[str, str],
    classifier: Mapping[str, Any] | None,
    unfinished: Mapping[str, float] | None = None,
) -> list[tuple[str, str]]:
    """(title, text) of everything that makes the page less trustworthy than it looks.

    Args:
        unfinished: arms that were still learning at the end, see `report_training.unfinished`.
    """
    found = []
    heard = unseen_speakers(classifier)
    if heard is not None:
        name, scores = heard
        if near_chance(scores):
            found.append((
                "The accent classifier is near chance",
                f"Balanced accuracy on unseen speakers ({name}) is "
                f"{number(100 * scores['balanced_accuracy'])} %, chance is "
                f"{number(100 * scores['chance'])} %. It does not know accents, so every saliency "
                "map on this page is worthless, however faithful it looks, and the saliency arms "
                "are no test of the method.",
            ))
    one = comparison["sets"][headline_set]
    if one["speakers"] < FEW_SPEAKERS or one["words"] < FEW_WORDS:
        name = set_names.get(headline_set)
        called = f"{capital(name)} ({headline_set}) has" if name else f"The set {headline_set} has"
        found.append((
            "Few data",
            f"{called} {count(one['speakers'], 'speaker')} and {count(one['words'], 'word')}. "
            "Only a very large effect could show; intervals from so few speakers are rough and "
            "tend to be too narrow.",
        ))
    if unfinished:
        falls = [f"{arm_name(arm)} ({100 * fall:.0f} %)" for arm, fall in unfinished.items()]
        if len(falls) > MOST_NAMED:
            falls[MOST_NAMED:] = [f"{len(falls) - MOST_NAMED} more arms"]
        found.append((
            "Not all had finished learning",
            f"In the last fifth of training the lowest validation loss still fell for "
            f"{listed(falls)}. What hides more is learnt more slowly: a difference to such an arm may "
            "be one of speed, and more epochs (max_epoch in --asr_config) may undo it.",
        ))
    part = roles(comparison)
    lacks = []
    if part.lacks_control:
        lacks.append(
            "none that does the same at random places, so where it is done may not matter"
        )
    if part.lacks_plain:
        lacks.append(
            "none without augmentation, which beats SpecAugment too wherever that does harm"
        )
    if lacks:
        found.append((
            "An arm is missing",
            f"Of the arms there is {'; and '.join(lacks)}. Add such an arm to --arms.",
        ))
    return found


def unseen_speakers(classifier: Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]] | None:
    """The classifier's set to judge it by: test, else dev, else the first that is not training.

    Sets without an accent that the classifier knows have no accuracy and do not count.
    """
    if classifier is None:
        return None
    sets = {
        name: scores
        for name, scores in classifier["sets"].items()
        if not name.startswith("train") and scores["balanced_accuracy"] is not None
    }
    for name in [*(n for n in ("test", "dev") if n in sets), *sets]:
        return name, sets[name]
    return None


def near_chance(scores: Mapping[str, Any]) -> bool:
    """Whether an accuracy says little: said to, its interval holds chance, or it is close to it."""
    chance, balanced = scores["chance"], scores["balanced_accuracy"]
    low = scores.get("low")
    if scores.get("near_chance") or (low is not None and low <= chance):
        return True
    return balanced < chance + NEAR_CHANCE * (1 - chance)
