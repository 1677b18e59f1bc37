"""Where a recipe keeps what it makes: the names of ESPnet's asr.sh, with one experiment an arm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from espnet_saliency.recipe.conditions import DecodedSet, decoded_sets
from espnet_saliency.recipe.extra_sets import ExtraSet, find_extra_sets
from espnet_saliency.recipe.options import RecipeOptions

if TYPE_CHECKING:
    from espnet_saliency.saliency.map_settings import MapSettings


@dataclass(frozen=True)
class Layout:
    """Folders and files of a recipe, from its options."""

    options: RecipeOptions

    @property
    def train_set(self) -> str:
        """The set that is trained on: <train>_sp where there is speed perturbation."""
        suffix = "_sp" if self.options.speed_perturb_factors else ""
        return self.options.train_set + suffix

    @property
    def formatted_sets(self) -> tuple[str, ...]:
        """All sets that audio is formatted for, each once."""
        return tuple(
            dict.fromkeys([self.train_set, self.options.valid_set, *self.options.test_sets])
        )

    @property
    def decoded_sets(self) -> tuple[DecodedSet, ...]:
        """What is decoded and scored: the test sets, each followed by its copies under conditions."""
        return decoded_sets(self.test_sets, self.options.conditions)

    @property
    def extra_test_sets(self) -> tuple[ExtraSet, ...]:
        """Sets of other recipes that are decoded and scored too."""
        return find_extra_sets(self.options)["extra_test_sets"]

    @property
    def test_sets(self) -> tuple[str, ...]:
        """The test sets as they are, the extra ones included."""
        return (*self.options.test_sets, *(extra.name for extra in self.extra_test_sets))

    @property
    def extra_train_sets(self) -> tuple[ExtraSet, ...]:
        """Sets of other recipes that are trained on too."""
        return find_extra_sets(self.options)["extra_train_sets"]

    @property
    def _joined(self) -> str:
        """What the extra training sets add to names: runs with and without them stand side by side."""
        names = [extra.name for extra in self.extra_train_sets]
        return f"_with_{'_'.join(names)}" if names else ""

    @property
    def joined_train_set(self) -> str:
        """What tokens, models and classifier learn from: the training set with the extra ones."""
        return self.train_set + self._joined

    def data(self, name: str) -> Path:
        """Data directory of a set."""
        return self.options.datadir / name

    def dump(self, name: str) -> Path:
        """Formatted audio of a set."""
        return self.options.dumpdir / "raw" / name

    @property
    def tokens(self) -> str:
        """Kind and number of tokens, as in experiment names: bpe500, char, word."""
        kind = self.options.token_type
        return f"bpe{self.options.nbpe}" if kind == "bpe" else kind

    @property
    def token_dir(self) -> Path:
        """Folder of tokens.txt and bpe.model."""
        kind = self.options.token_type
        name = f"bpe_unigram{self.options.nbpe}" if kind == "bpe" else kind
        if model := self.options.pretrained_model:
            name = f"pretrained_{model.parent.name if model.suffix == '.pth' else model.name}"
        return self.options.datadir / "token_list" / (name + self._joined)

    @property
    def token_list(self) -> Path:
        """ESPnet's token list."""
        return self.token_dir / "tokens.txt"

    @property
    def bpe_model(self) -> Path:
        """SentencePiece model."""
        return self.token_dir / "bpe.model"

    @property
    def _speed(self) -> str:
        return "_sp" if self.options.speed_perturb_factors else ""

    @property
    def _text_tag(self) -> str:
        start = "_pretrained" if self.options.pretrained_model else ""
        return f"{self.options.lang}_{self.tokens}{start}{self._joined}"

    @property
    def lm_stats(self) -> Path:
        """The language model's training text and the lengths of its sentences."""
        return self.options.expdir / f"lm_stats_{self._text_tag}"

    @property
    def lm_exp(self) -> Path:
        """Experiment of the language model."""
        return self.options.expdir / f"lm_{self.options.lm_config.stem}_{self._text_tag}"

    @property
    def accent_exp(self) -> Path:
        """Experiment of the accent classifier: the recipe's own, or the one given."""
        if self.options.classifier:
            return self.options.classifier
        name = self.options.accent_config.stem
        return self.options.expdir / f"accent_{name}_raw{self._speed}{self._joined}"

    @property
    def second_accent_exp(self) -> Path:
        """Experiment of the same classifier with the next seed, for --stability."""
        return self.accent_exp.with_name(f"{self.accent_exp.name}_seed{self.options.seed + 1}")

    def maps(self, settings: MapSettings) -> Path:
        """Stored maps of the training set."""
        layers = [settings.layer] if isinstance(settings.layer, str) else settings.layer or ()
        parts = ["maps", settings.method, settings.target, settings.reference_accent, *layers]
        if settings.min_confidence:
            parts.append(f"confidence{settings.min_confidence:g}")
        return self.saliency_exp / quote("_".join(str(part) for part in parts if part), safe="=,+ ")

    @property
    def first_recogniser(self) -> Path | None:
        """Experiment, or .pth in it, of the recogniser whose words can be spared."""
        return self.options.first_recogniser or self.options.pretrained_model

    @property
    def phonetic_maps(self) -> Path:
        """Stored maps of what the first recogniser needs of the training set."""
        path = self.first_recogniser
        name = path.parent.name if path.suffix == ".pth" else path.name
        return self.options.expdir / f"phonetic_{name}_{self.joined_train_set}"

    @property
    def saliency_exp(self) -> Path:
        """Faithfulness and pictures of the classifier's maps."""
        return self.options.expdir / f"saliency_{self.accent_exp.name.removeprefix('accent_')}"

    @property
    def _data_tag(self) -> str:
        start = "_pretrained" if self.options.pretrained_model else ""
        return f"raw_{self.options.lang}_{self.tokens}{self._speed}{start}{self._joined}"

    @property
    def asr_stats(self) -> Path:
        """Statistics of the recogniser's features, shared by all arms."""
        return self.options.expdir / f"asr_stats_{self._data_tag}"

    def asr_exp(self, arm: str) -> Path:
        """Experiment of one arm."""
        if self.options.asr_tag:
            return self.options.expdir / f"asr_{self.options.asr_tag}_{arm}"
        return self.options.expdir / f"asr_{self.options.asr_config.stem}_{arm}_{self._data_tag}"

    def decode(self, arm: str, name: str) -> Path:
        """Decoding of one set by one arm: text and scores."""
        tag = self.options.inference_config.stem
        model = self.options.inference_asr_model.removesuffix(".pth")
        if self.options.use_lm:
            tag += f"_lm_{self.lm_exp.name}_{self.options.inference_lm.removesuffix('.pth')}"
        return self.asr_exp(arm) / f"{tag}_asr_model_{model}" / name

    def probe(self, arm: str) -> Path:
        """Decodings of the validation set by one arm with parts of it hidden, a folder each."""
        return self.asr_exp(arm) / "probe"

    @property
    def report(self) -> Path:
        """The comparison of the arms."""
        return self.options.expdir / "report"
