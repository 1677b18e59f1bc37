"""All stages of a recipe, in order."""

from __future__ import annotations

from espnet_saliency.recipe import stages_accent, stages_asr, stages_data, stages_lm, stages_score
from espnet_saliency.recipe.arms import load_arms
from espnet_saliency.recipe.layout import Layout
from espnet_saliency.recipe.options import Options
from espnet_saliency.recipe.recipe import Recipe
from espnet_saliency.recipe.steps import Stage
from espnet_saliency.recipe.titles import TITLES


def define_stages(given: Options) -> dict[int, Stage]:
    """Stage number -> stage, from the options alone: nothing is read from data/ or exp/, nothing written.

    Raises:
        UserError: a configuration is missing or wrong.
    """
    layout = Layout(given.recipe)
    recipe = Recipe(given, layout, load_arms(layout, given.folder))
    stages = [
        stages_data.stage_1(recipe),
        stages_data.stage_2(recipe),
        stages_data.stage_3(recipe),
        stages_data.stage_4(recipe),
        stages_data.stage_5(recipe),
        stages_lm.stage_6(recipe),
        stages_accent.stage_7(recipe),
        stages_accent.stage_8(recipe),
        stages_accent.stage_9(recipe),
        stages_asr.stage_10(recipe),
        stages_asr.stage_11(recipe),
        stages_asr.stage_12(recipe),
        stages_score.stage_13(recipe),
        stages_score.stage_14(recipe),
        stages_asr.stage_15(recipe),
    ]
    return {stage.number: stage for stage in stages}
