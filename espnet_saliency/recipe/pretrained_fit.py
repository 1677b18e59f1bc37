"""Does a pretrained recogniser fit a recipe? Seen before any training, as ESPnet would lose things in silence.

ESPnet's `--init_param` overwrites what the file has and leaves the rest of the model as it was
initialised, without a word; a setting that changes no shape (an activation, a window) it cannot see.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.datadir.kaldi import iter_table
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.pretrained import MODEL_FILES, PARTS, Pretrained

if TYPE_CHECKING:
    from torch import Tensor

MAX_UNKNOWN = 0.1
"""Share of unknown tokens in the training text above which the pretrained tokens are refused."""


def not_there(path: Path, asr_config: Path) -> UserError:
    """What to say of a --pretrained_model that is missing: where it comes from, and how to do without."""
    parts = path.resolve().parts
    first = "correct the path"
    if "egs2" in parts[:-1]:
        first = f"train it first (./run.sh --corpus {parts[parts.index('egs2') + 1]}, to stage 11)"
    scratch = asr_config.name.replace("_finetune", "")
    config = f" --asr_config conf/{scratch}" if scratch != asr_config.name else ""
    return UserError(
        f"--pretrained_model {path.resolve()}: no such file or folder: {first}, or train from scratch, as a "
        f"trial: --pretrained_model none{config}"
    )


def check_settings(pretrained: Pretrained, config: dict[str, Any], asr_config: Path) -> None:
    """Refuse a configuration that sets another feature or network than the pretrained model has.

    Only what both set is compared, which needs no ESPnet; `check_fit` knows the defaults too. Dropout
    and the settings of the loss (model_conf) are a training's own.

    Args:
        pretrained: the model.
        config: the recogniser's configuration.
        asr_config: where it was read, for the message.

    Raises:
        UserError: they differ; the message names each setting with both values.
    """
    differences = list(_differences(pretrained.config, {"normalize": "global_mvn", **config}))
    if differences:
        raise UserError(
            f"--pretrained_model {pretrained.given} does not fit {asr_config}: {'; '.join(differences)}: give "
            f"--asr_config the pretrained model's settings, or --pretrained_model none"
        )


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    configs = (mine, theirs)
    parts = [part for part in PARTS if part != "model"]
    for part in PARTS:
        yield from _differing(*({part: c[part]} if part in c else {} for c in configs))
    if all(c.get("frontend", "default") == "default" for c in configs):
        # All settings of the features, with ESPnet's defaults.
        settings = [FeatureSettings.from_frontend_conf(c.get("frontend_conf")) for c in configs]
        yield from _differing(*map(dataclasses.asdict, settings), prefix="frontend_conf.")
        parts.remove("frontend")
    for conf in (f"{part}_conf" for part in parts):
        yield from _differing(*(c.get(conf) or {} for c in configs), prefix=f"{conf}.")


def _differing(mine: dict, theirs: dict, prefix: str = "") -> Iterator[str]:
    """What both set, and not alike; dropout and paths aside."""
    for key in sorted(mine.keys() & theirs.keys()):
        if "drop" in key or key in ("stochastic_depth_rate", "stats_file"):
            continue
        ours, others = (list(v) if isinstance(v, tuple) else v for v in (mine[key], theirs[key]))
        if ours != others:
            yield f"{prefix}{key}: pretrained {ours}, here {others}"


def check_fit(pretrained: Pretrained, config: dict[str, Any], asr_config: Path) -> None:
    """Build the recogniser of a configuration with ESPnet and compare it to the pretrained one, all of it:
    settings with defaults filled in, names and shapes of parameters and buffers, feature statistics.

    Args:
        pretrained, config, asr_config: as of `check_settings`.

    Raises:
        UserError: anything differs; or the weights could run code, and are not loaded.
    """
    from espnet2.tasks.asr import ASRTask

    # Needs torch, which the options' checks do without.
    from espnet_saliency.accent.weights import read_weights

    weights = read_weights(pretrained.weights, f"{MODEL_FILES[0]}.pth")
    words = ["--config", str(asr_config), "--output_dir", "none", "--token_list", "none"]
    args = ASRTask.get_parser().parse_args(words)
    args.token_list = list(pretrained.tokens)
    args.normalize = config.get("normalize", "global_mvn")
    # Augmentation and initialisation have no part in what is loaded.
    args.specaug, args.init = None, None
    check_settings(
        dataclasses.replace(pretrained, config=_with_defaults(pretrained.config)),
        _with_defaults(vars(args)),
        asr_config,
    )
    if args.normalize == "global_mvn":
        args.normalize_conf = {**args.normalize_conf, "stats_file": str(pretrained.stats)}
    # ESPnet's remarks on a model belong into a training's log, not on the console.
    logging.disable(logging.WARNING)
    try:
        state = ASRTask.build_model(args).state_dict()
    finally:
        logging.disable(logging.NOTSET)
    _compare_states(pretrained, weights, state, asr_config)


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the default of every argument that it leaves out."""
    from espnet2.tasks import asr

    full = dict(config)
    for part in PARTS:
        name = config.get(part)
        if name is None:
            continue
        parameters = inspect.signature(getattr(asr, f"{part}_choices").get_class(name)).parameters
        defaults = {k: p.default for k, p in parameters.items() if p.default is not p.empty}
        full[f"{part}_conf"] = {**defaults, **(config.get(f"{part}_conf") or {})}
    # Features have defaults that depend on each other.
    if config.get("frontend", "default") == "default":
        full["frontend_conf"] = config.get("frontend_conf")
    return full


def _compare_states(
    pretrained: Pretrained, weights: dict[str, Tensor], state: dict[str, Tensor], asr_config: Path
) -> None:
    import torch

    problems = []
    for names, what in ((state.keys() - weights, "not in it"), (weights.keys() - state, "in it alone")):
        if names:
            problems.append(f"{len(names)} parameters {what}, as {', '.join(sorted(names)[:3])}")
    shared = sorted(state.keys() & weights)
    wrong = [name for name in shared if weights[name].shape != state[name].shape]
    problems += [
        f"{name}: pretrained {tuple(weights[name].shape)}, here {tuple(state[name].shape)}" for name in wrong[:3]
    ]
    if problems:
        raise UserError(
            f"{pretrained.weights} does not fit the recogniser of {asr_config}: {'; '.join(problems)}: give "
            f"--asr_config the settings of {pretrained.config_file}"
        )
    for name in ("normalize.mean", "normalize.std"):
        # The file was found by its name: it might be another one of that name.
        if name in weights and not torch.allclose(weights[name].float(), state[name].float(), rtol=1e-4, atol=1e-5):
            raise UserError(
                f"{pretrained.stats}: not the statistics that {pretrained.weights} was trained with ({name}: "
                f"{float(state[name][0]):.4f} in the file, {float(weights[name][0]):.4f} in the weights): put "
                f"the right file there"
            )


def count_unknown(pretrained: Pretrained, text: Path) -> tuple[Counter[str], int]:
    """Tokens of a text that the model does not know, as ESPnet would tokenise it.

    Args:
        pretrained: the model.
        text: Kaldi text, an utterance a line.

    Returns:
        what becomes <unk>, with how often; and the number of all tokens.

    Raises:
        UserError: the SentencePiece model is not that of the token list; or more than MAX_UNKNOWN of
            the tokens are unknown: another language or another spelling.
    """
    from espnet2.text.build_tokenizer import build_tokenizer

    known = set(pretrained.tokens)
    if pretrained.bpe_model:
        _check_pieces(pretrained.bpe_model, known, pretrained.config_file)
    tokenizer = build_tokenizer(pretrained.token_type, bpemodel=pretrained.bpe_model)
    unknown: Counter[str] = Counter()
    total = 0
    for _, line in iter_table(text):
        tokens = tokenizer.text2tokens(line)
        total += len(tokens)
        unknown.update(token for token in tokens if token not in known)
    if unknown.total() > MAX_UNKNOWN * total:
        raise UserError(
            f"{text}: {unknown.total()} of {total} tokens are unknown to --pretrained_model {pretrained.given} "
            f"({most_common(unknown)}): give the text its spelling (--text_policy, where the corpus has it), or "
            f"start from another model"
        )
    return unknown, total


def most_common(unknown: Counter[str]) -> str:
    """The five that occur most, e.g. "é 12, ß 3"."""
    ranked = sorted(unknown.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{token} {count}" for token, count in ranked[:5])


def _check_pieces(bpe_model: Path, known: set[str], config_file: Path) -> None:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(bpe_model))
    pieces = {model.id_to_piece(i) for i in range(model.get_piece_size())}
    strange = sorted(pieces - known - {"<unk>", "<s>", "</s>"})
    if strange:
        raise UserError(
            f"{bpe_model}: not the model of the token list in {config_file}, which lacks {len(strange)} of its "
            f"pieces, as {strange[0]}: put the right file there"
        )
