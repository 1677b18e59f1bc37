"""What the values of a recipe's options may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from espnet_saliency.errors import UserError
from espnet_saliency.recipe.conditions import check_conditions
from espnet_saliency.scoring.normalize import POLICIES
from espnet_saliency.yaml_file import read_yaml

if TYPE_CHECKING:
    # Which checks what it has read.
    from espnet_saliency.recipe.options import RecipeOptions

LAST_STAGE = 15


def check_options(options: RecipeOptions) -> None:
    """Refuse values out of their range, and options that do not go together.

    Raises:
        UserError: naming the option, its value and the mend.
    """

    def require(good: bool, message: str) -> None:
        if not good:
            raise UserError(message)

    for name in ("stage", "stop_stage"):
        value = getattr(options, name)
        require(
            1 <= value <= LAST_STAGE,
            f"--{name} {value}: stages are 1 to {LAST_STAGE}; --help lists them",
        )
    require(
        options.stage <= options.stop_stage,
        f"--stage {options.stage} lies after --stop_stage {options.stop_stage}: nothing to run",
    )
    if options.use_lm:
        _check_lm(options)
    for seed in (options.seed, *options.seeds):
        require(0 <= seed < 2**31, f"--seed {seed}: a seed lies between 0 and {2**31 - 1}")
    for name in ("datadir", "dumpdir", "expdir"):
        folder = getattr(options, name)
        require(
            folder != options.corpus_dir,
            f"--{name} {folder}: is --corpus_dir too, where nothing is written: name another folder",
        )
    for name in ("nj", "inference_nj", "num_nodes", "nbpe", "bootstrap_draws"):
        value = getattr(options, name)
        require(value >= 1, f"--{name} {value}: must be 1 or more")
    require(options.ngpu >= 0, f"--ngpu {options.ngpu}: must be 0 (CPU) or more")
    require(
        options.num_nodes == 1 or options.ngpu >= 1,
        f"--num_nodes {options.num_nodes} with --ngpu {options.ngpu}: several machines need --ngpu 1 or more",
    )
    require(
        0 <= options.max_reject <= 1,
        f"--max_reject {options.max_reject}: a share between 0 and 1",
    )
    require(
        0 <= options.min_wav_duration < options.max_wav_duration,
        f"--min_wav_duration {options.min_wav_duration} and --max_wav_duration "
        f"{options.max_wav_duration}: the first must be the smaller, neither negative",
    )
    require(
        all(0 < f <= 10 for f in options.speed_perturb_factors)
        and len(set(options.speed_perturb_factors)) == len(options.speed_perturb_factors),
        f"--speed_perturb_factors {options.speed_perturb_factors}: different positive factors, e.g. '0.9 1.0 1.1'",
    )
    require(
        options.token_type in ("bpe", "char", "word"),
        f"--token_type {options.token_type}: one of bpe, char, word",
    )
    require(
        options.scoring_text in POLICIES,
        f"--scoring_text {options.scoring_text}: one of {', '.join(POLICIES)}",
    )
    require(bool(options.arms), "--arms is empty: name at least one, e.g. 'specaug saliency_specaug'")
    require(
        len(set(options.arms)) == len(options.arms),
        f"--arms {' '.join(options.arms)}: one is named twice",
    )
    require(
        len(set(options.seeds)) == len(options.seeds),
        f"--seeds {' '.join(map(str, options.seeds))}: one is named twice",
    )
    require(
        not (options.stability and options.classifier),
        f"--stability true compares the recipe's own classifier with one of another seed, and --classifier "
        f"{options.classifier} was trained elsewhere: leave one of the two out",
    )
    shares = options.probe_shares
    require(
        bool(shares) and all(0 < share <= 1 for share in shares) and len(set(shares)) == len(shares),
        f"--probe_shares '{' '.join(map(str, shares))}': different shares above 0 and up to 1, e.g. '0.1 0.2'",
    )
    sets = [options.train_set, options.valid_set, *options.test_sets]
    require(
        len(set(sets)) == len(sets),
        f"sets {' '.join(sets)}: training, validation and test sets must be different sets",
    )
    for name in [*sets, *options.arms, options.lang, options.asr_tag or "x"]:
        require(
            name.replace("_", "").replace("-", "").replace(".", "").isalnum(),
            f"{name!r} becomes a folder's name: use letters, digits, '_', '-' and '.'; a list is written 'a b'",
        )
    check_conditions(options)


def _check_lm(options: RecipeOptions) -> None:
    """A language model has a say in decoding, and the text that it learns from is there."""
    # 1.0 is what ESPnet takes where the configuration does not say.
    weight = read_yaml(options.inference_config).get("lm_weight", 1.0)
    if not isinstance(weight, (int, float)) or weight <= 0:
        raise UserError(
            f"--use_lm true: {options.inference_config} sets lm_weight {weight}, so the language model would have "
            "no say: set a weight above 0 there, e.g. 0.3, or leave --use_lm out"
        )
    if options.lm_train_text and not options.lm_train_text.is_file():
        raise UserError(f"--lm_train_text {options.lm_train_text}: no such file: give text, one sentence a line")
