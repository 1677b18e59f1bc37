"""A trained recogniser that training starts from: its files, and the tokens and statistics that go along.

Whether it fits a recipe is seen in pretrained_fit.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


from espnet_saliency.datadir.tokens import TOKEN_TYPES
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir, atomic_file
from espnet_saliency.yaml_file import read_yaml

MODEL_FILES = ("valid.acc.ave", "valid.acc.best", "valid.loss.ave", "valid.loss.best")
"""Model files (.pth) that are looked for in an experiment folder, in this order. A packed average is
called after the number of models in it: valid.acc.ave_10best.pth."""

_CONFIG_KEYS = ("token_type", "token_list", "frontend_conf", "encoder_conf", "decoder_conf", "ctc_conf")
"""Keys by which the configuration of ESPnet's asr task is known."""

PARTS = ("frontend", "normalize", "preencoder", "encoder", "postencoder", "decoder", "model")
"""Parts of a recogniser, each chosen by a key with its settings in <key>_conf."""


@dataclass(frozen=True)
class Pretrained:
    """A trained recogniser of ESPnet's asr task."""

    given: Path
    """What --pretrained_model names."""
    weights: Path
    config_file: Path
    config: dict[str, Any]
    """What decides the network: config.yaml without what is about training and paths."""
    token_type: str
    """bpe, char or word."""
    tokens: tuple[str, ...]
    """The token list, <blank> first."""
    bpe_model: Path | None
    """SentencePiece model, where token_type is bpe."""
    stats: Path | None
    """Mean and variance of the features, where normalize is global_mvn."""

    @classmethod
    def find(cls, path: Path) -> Pretrained:
        """The recogniser that `path` stands for.

        Args:
            path: an experiment folder, the folder of an unpacked ESPnet zip (with its meta.yaml), or
                a .pth beside its config.yaml.

        Raises:
            UserError: a file is missing, cannot be read, or is no recogniser's.
        """
        weights, config_file = _find(path)
        # ESPnet splits the option at colons: FILE:SOURCE:TARGET:EXCLUDED.
        if ":" in str(weights):
            raise UserError(f"{weights}: ESPnet cannot start from a file with a ':' in its path: move it")
        config = read_yaml(config_file)
        missing = [key for key in _CONFIG_KEYS if key not in config]
        if missing:
            raise UserError(f"{config_file}: not of a recogniser (ESPnet's asr task): no {', '.join(missing)}")
        token_type = config["token_type"]
        if token_type not in TOKEN_TYPES:
            raise UserError(
                f"{config_file}: token_type {token_type}: recipes tokenise by {', '.join(TOKEN_TYPES)}; "
                f"start from another model"
            )
        tokens = config["token_list"]
        if isinstance(tokens, str):
            tokens = _located(tokens, config_file, "token_list").read_text(encoding="utf-8").splitlines()
        stats = bpe_model = None
        if token_type == "bpe":
            bpe_model = _located(config.get("bpemodel"), config_file, "bpemodel")
        if config.get("normalize") == "global_mvn":
            named = (config.get("normalize_conf") or {}).get("stats_file")
            stats = _located(named, config_file, "normalize_conf.stats_file")
        names = [name for part in PARTS for name in (part, f"{part}_conf")]
        network = {name: config[name] for name in names if name in config}
        return cls(path, weights, config_file, network, token_type, tuple(tokens), bpe_model, stats)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that a training which starts from it depends on."""
        files = (self.config_file, self.weights, self.bpe_model, self.stats)
        return tuple(path for path in files if path)

    @property
    def kind(self) -> str:
        """Kind and number of its tokens, e.g. "5000 bpe tokens"."""
        return f"{len(self.tokens)} {self.token_type} tokens"

    def write_tokens(self, folder: Path) -> None:
        """Write tokens.txt, one token a line, and bpe.model into `folder`, as stage 5 lays them."""
        with atomic_dir(folder) as temporary:
            with open(temporary / "tokens.txt", "w", encoding="utf-8", newline="\n") as out:
                out.writelines(f"{token}\n" for token in self.tokens)
            if self.bpe_model:
                shutil.copyfile(self.bpe_model, temporary / "bpe.model")

    def write_stats(self, path: Path) -> None:
        """Copy its feature statistics to `path`; there must be some."""
        with atomic_file(path, "wb") as copy, open(self.stats, "rb") as source:
            shutil.copyfileobj(source, copy)


def _find(path: Path) -> tuple[Path, Path]:
    """The weights and the configuration that `path` stands for."""
    if not path.exists():
        raise UserError(f"--pretrained_model {path}: no such file or folder")
    if path.is_file():
        weights, config = path, path.parent / "config.yaml"
    elif (path / "meta.yaml").is_file():
        meta = read_yaml(path / "meta.yaml")
        try:
            weights = path / meta["files"]["asr_model_file"]
            config = path / meta["yaml_files"]["asr_train_config"]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path / 'meta.yaml'}: no {error}: not of a packed recogniser") from error
    else:
        weights, config = _model_file(path), path / "config.yaml"
    for file in (weights, config):
        if not file.is_file():
            raise UserError(
                f"--pretrained_model {path}: no {file}: name an experiment folder of ESPnet's asr task, the "
                f"folder of an unpacked zip, or a .pth beside its config.yaml"
            )
    return weights, config


def _model_file(folder: Path) -> Path:
    """The model file of an experiment folder."""
    for name in MODEL_FILES:
        plain = folder / f"{name}.pth"
        if plain.exists():
            return plain
        found = sorted(folder.glob(f"{name}_*best.pth"))
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise UserError(f"--pretrained_model {folder}: it has {names}: name the one to start from")
        if found:
            return found[0]
    names = ", ".join(f"{name}.pth" for name in MODEL_FILES)
    raise UserError(f"--pretrained_model {folder}: none of {names} in it; train it to the end, or name a .pth")


def _located(named: str | None, config_file: Path, key: str) -> Path:
    """A file that a configuration names, where it lies now: experiments move, and zips are unpacked.

    What is not where an absolute path says is looked for by the longest tail of its name, seen from
    the configuration's folder and those above; a bare file name counts in the former alone.

    Raises:
        UserError: it is nowhere.
    """
    if not named:
        raise UserError(f"{config_file}: {key} is not set, so there is nothing to take along")
    path = Path(named)
    if path.is_absolute() and path.is_file():
        return path
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for folder in config_file.absolute().parents:
        shortest = 1 if folder == config_file.absolute().parent else 2
        for start in range(len(parts) - shortest + 1):
            candidate = folder.joinpath(*parts[start:])
            if candidate.is_file():
                return candidate
    raise UserError(
        f"{config_file}: {key} names {named}, which is neither there nor below a folder above the "
        f"configuration: put it there, or correct the path"
    )
