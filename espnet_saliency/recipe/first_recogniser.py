"""The first recogniser: what it needs of the training audio is spared where an arm protects it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from espnet_saliency.accent.features import FeatureSettings
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.recipe.pretrained import Pretrained
from espnet_saliency.recipe.steps import digest
from espnet_saliency.saliency.archive import feature_differences
from espnet_saliency.saliency.phonetic import find_recogniser
from espnet_saliency.yaml_file import read_yaml


@dataclass(frozen=True)
class FirstRecogniser:
    """A trained recogniser with a CTC head."""

    weights: Path
    config_file: Path
    stats: Path | None = None
    """Statistics of the features, where those that its configuration names may have moved."""

    @classmethod
    def find(cls, options: RecipeOptions) -> FirstRecogniser:
        """That of --first_recogniser, or else of --pretrained_model; one of them must be given.

        Raises:
            UserError: a file is missing.
        """
        if options.first_recogniser is None:
            model = Pretrained.find(options.pretrained_model)
            return cls(model.weights, model.config_file, model.stats)
        try:
            return cls(*find_recogniser(options.first_recogniser))
        except UserError as error:
            raise UserError(f"--first_recogniser {error}") from error

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the files that its maps depend on."""
        files = (self.config_file, self.weights, self.stats)
        return {path.name: digest(path) for path in files if path}

    def check(self, asr_config: Path) -> None:
        """See that it can give maps for recognisers of this configuration, without loading it.

        Raises:
            UserError: it is no recogniser, has no CTC head, or hears other features.
        """
        config = read_yaml(self.config_file)
        missing = [key for key in ("token_list", "encoder", "ctc_conf") if key not in config]
        if missing:
            raise UserError(f"{self.config_file}: not of a recogniser (ESPnet's asr task): no {missing[0]}")
        if (config.get("model_conf") or {}).get("ctc_weight") == 0:
            raise UserError(
                f"{self.config_file}: no CTC head (ctc_weight 0), which says where the words are: give "
                f"--first_recogniser one trained with ctc_weight > 0"
            )
        frontend = config.get("frontend") or "default"
        if frontend != "default":
            raise UserError(
                f"{self.config_file}: frontend {frontend} gives no log-mel features: give "
                f"--first_recogniser one with frontend: default"
            )
        mine = FeatureSettings.from_frontend_conf(config.get("frontend_conf"))
        theirs = FeatureSettings.from_frontend_conf(read_yaml(asr_config).get("frontend_conf"))
        if differences := feature_differences(mine, "first recogniser", theirs):
            raise UserError(
                f"{self.config_file} and {asr_config} set different features ({differences}): give "
                f"--first_recogniser one with the same frontend_conf"
            )
