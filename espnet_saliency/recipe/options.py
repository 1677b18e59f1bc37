"""The options of a recipe: typed, read from recipe.yaml and the command line, checked before anything runs."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import textwrap
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from espnet_saliency import corpora
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.check_options import check_options
from espnet_saliency.recipe.pretrained import Pretrained
from espnet_saliency.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parents[2]
"""The top of the checkout: conf/ and egs2/ lie here."""


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options of every recipe. Each is `--name value` on the command line and a key of recipe.yaml."""

    corpus: str = "mini_accent"
    """Corpus to run; see egs2/."""
    corpus_dir: Path | None = None
    """Folder of the corpus as its publisher ships it (mini_accent is generated there)."""
    stage: int = 1
    """First stage to run."""
    stop_stage: int = 14
    """Last stage to run."""
    dry_run: bool = False
    """Print what each stage would run, and run nothing."""
    arms: tuple[str, ...] = ("specaug", "saliency_specaug", "random_specaug")
    """Augmentations to compare, each a file conf/aug/<arm>.yaml; the baseline is
    specaug, else none, else the first."""
    sweep: str = ""
    """Settings of the masking arms to try in all combinations: "aug.mask_ratio=0.1,0.2 aug.apply_prob=0.5,1.0"."""
    seed: int = 1
    """Seed of the splits, of every training and of the bootstrap."""
    seeds: tuple[int, ...] = ()
    """Train every arm once with each of these seeds, e.g. "1 2 3"; none: with --seed alone."""

    lang: str = "en"
    """Language, in the names of experiments."""
    train_set: str = "train"
    """Set to train on."""
    valid_set: str = "dev"
    """Set that chooses the best epoch."""
    test_sets: tuple[str, ...] = ("test",)
    """Sets to decode and score; none named: all test sets of the corpus."""
    extra_train_sets: tuple[str, ...] = ()
    """Prepared sets of other recipes to train on as well, e.g. "edacc:train_sp", or folders …/dump/raw/<set>."""
    extra_test_sets: tuple[str, ...] = ()
    """Prepared sets of other recipes to decode and score as well, e.g. "edacc:test commonaccent:test"."""
    leave_one_accent_out: bool = False
    """Run the recipe once for each accent of the training set with that accent unseen, and collect the results."""
    conditions: tuple[str, ...] = ("clean",)
    """How each test set is heard, the extra ones too: "clean noise_20 noise_0 reverb babble_10", the numbers SNRs
    in dB."""
    noise_dir: Path | None = None
    """Noises for noise_<dB>: MUSAN, or any folder of audio; none: made, with the spectrum of speech."""
    rir_dir: Path | None = None
    """Room impulse responses for reverb: RIRS_NOISES, or any folder of audio; none: simulated."""
    has_accents: bool = True
    """Whether the corpus labels accents; where it does not, the classifier comes by --classifier."""
    max_reject: float = 0.01
    """Share of broken utterances above which a stage stops."""
    speed_perturb_factors: tuple[float, ...] = ()
    """Speeds of the training set, e.g. "0.9 1.0 1.1"; none: no copies."""
    min_wav_duration: float = 0.1
    """Training and validation utterances shorter than this are dropped, in s."""
    max_wav_duration: float = 20.0
    """Training and validation utterances longer than this are dropped, in s."""
    token_type: str = "bpe"
    """bpe (SentencePiece unigram), char or word."""
    nbpe: int = 500
    """Number of bpe tokens."""
    use_lm: bool = False
    """Train a language model (stage 6) and decode with it, at the lm_weight of inference_config."""
    lm_config: Path = Path("conf/train_lm.yaml")
    """ESPnet configuration of the language model (lm task)."""
    lm_train_text: Path | None = None
    """More text for the language model besides the training set's: one sentence a line, plain or .gz."""
    inference_lm: str = "valid.loss.ave.pth"
    """Model file of the language model to decode with."""

    accent_config: Path = Path("conf/train_accent_resnet.yaml")
    """ESPnet configuration of the accent classifier (cls task)."""
    classifier: Path | None = None
    """Accent classifier trained elsewhere: its experiment folder; stage 7 is then left out."""
    stability: bool = False
    """Train the classifier a second time, with the next seed, and compare the maps of the two (stage 9)."""
    stored_maps: bool = True
    """Make the maps of the training set once (stage 9); false: anew for each batch while training."""
    first_recogniser: Path | None = None
    """Trained recogniser with a CTC head, whose words protect: recogniser spares; none: --pretrained_model."""
    asr_config: Path = Path("conf/train_asr_conformer.yaml")
    """ESPnet configuration of the recogniser, without augmentation."""
    pretrained_model: Path | None = None
    """Trained recogniser that every arm starts from: an ESPnet experiment folder or a .pth beside its config.yaml."""
    inference_config: Path = Path("conf/decode_asr.yaml")
    """ESPnet configuration of decoding."""
    inference_asr_model: str = "valid.acc.ave.pth"
    """Model file to decode with."""
    asr_tag: str | None = None
    """Name of the recognisers' folders, exp/asr_<tag>_<arm>; made from the configuration by default."""
    scoring_text: str = "none"
    """Text policy of scoring, for references and hypotheses alike: none, basic, english, persian."""
    bootstrap_draws: int = 10_000
    """Draws of the bootstrap over speakers."""
    probe: bool = False
    """Decode valid_set by the baseline with its most salient, random and least salient parts hidden, and compare."""
    probe_shares: tuple[float, ...] = (0.1, 0.2, 0.4)
    """Shares of the features that --probe hides."""

    datadir: Path = Path("data")
    """Data directories."""
    dumpdir: Path = Path("dump")
    """Formatted audio."""
    expdir: Path = Path("exp")
    """Experiments and the report."""
    nj: int = 2
    """Processes for data preparation and statistics, and recognisers trained at a time without a GPU."""
    inference_nj: int = 2
    """Processes for decoding."""
    ngpu: int = 0
    """GPUs for training (0: CPU)."""
    num_nodes: int = 1
    """Machines for training, under Slurm."""


@dataclass(frozen=True)
class Options:
    """A recipe's options with those of its corpus, and where the recipe lies."""

    recipe: RecipeOptions
    corpus: Any
    """The corpus's own Options (espnet_saliency/corpora/<name>.py)."""
    folder: Path
    """egs2/<corpus>/asr1."""
    command: str
    """The command line, for reports."""
    pretrained: Pretrained | None = None
    """What --pretrained_model names; None too where it is not there, or stage 5 and later are not asked for."""
    typed: frozenset[str] = frozenset()
    """Names of the options that the command line gives."""


def find_config(name: str | Path, places: Sequence[Path]) -> Path:
    """A configuration file by its name, from the first of several folders that has it.

    Raises:
        UserError: it is in none of them.
    """
    for place in places:
        if (place / name).is_file():
            return (place / name).resolve()
    raise UserError(f"no file {name}: looked in {', '.join(str(p) for p in dict.fromkeys(places))}")


def field_docs(cls: type) -> dict[str, str]:
    """Field name -> the docstring line under it, of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body
    docs = {}
    for statement, after in zip(body, body[1:]):
        if isinstance(statement, ast.AnnAssign) and isinstance(after, ast.Expr):
            docs[statement.target.id] = " ".join(str(after.value.value).split())
    return docs


def load_options(arguments: list[str]) -> Options:
    """Options from the command line, over those of egs2/<corpus>/asr1/conf/recipe.yaml, over the defaults.

    Raises:
        UserError: an unknown option or key, a value of the wrong type or out of range.
    """
    given = parse(arguments)
    corpus = given.get("corpus", RecipeOptions.corpus)
    module = corpora.load(corpus)
    folder = ROOT / "egs2" / corpus / "asr1"

    hints = {
        **typing.get_type_hints(RecipeOptions),
        **typing.get_type_hints(module.Options),
    }
    values: dict[str, Any] = {}
    recipe_yaml = folder / "conf" / "recipe.yaml"
    for name, value in recipe_file(corpus).items():
        _check_known(name, hints, where=f"key {name} in {recipe_yaml}")
        values[name] = convert(value, hints[name], where=f"{recipe_yaml}: {name}")
    for name, value in given.items():
        _check_known(name, hints, where=f"option --{name}")
        values[name] = convert(value, hints[name], where=f"--{name}")

    def build(cls):
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})

    recipe = _absolute(build(RecipeOptions), folder, given)
    corpus_options = _absolute_of_corpus(build(module.Options), folder, given, recipe.corpus_dir)
    if not recipe.test_sets:
        recipe = dataclasses.replace(recipe, test_sets=_all_test_sets(recipe, module, corpus_options))
    pretrained = None
    # Preparing the data needs no model; that a later stage misses it is said where it is defined.
    if recipe.pretrained_model and recipe.stop_stage >= 5 and recipe.pretrained_model.exists():
        pretrained = Pretrained.find(recipe.pretrained_model)
        recipe = _with_tokens_of(pretrained, recipe, given)
    check_options(recipe)
    command = " ".join(["./run.sh", *(f"'{a}'" if " " in a or not a else a for a in arguments)])
    return Options(recipe, corpus_options, folder, command, pretrained, frozenset(given))


def _with_tokens_of(
    pretrained: Pretrained, recipe: RecipeOptions, given: typing.Container[str]
) -> RecipeOptions:
    """The options with the kind and number of the model's tokens: those of a file give way, those typed do not."""
    changes: dict[str, Any] = {"token_type": pretrained.token_type}
    if pretrained.token_type == "bpe":
        changes["nbpe"] = len(pretrained.tokens)
    for name, value in changes.items():
        if name in given and getattr(recipe, name) != value:
            raise UserError(
                f"--{name} {getattr(recipe, name)}: --pretrained_model {pretrained.given} has {pretrained.kind}: "
                f"leave --{name} out, or give --pretrained_model none"
            )
    return dataclasses.replace(recipe, **changes)


def _all_test_sets(recipe: RecipeOptions, module: types.ModuleType, corpus_options: Any) -> tuple[str, ...]:
    """The test sets that the corpus itself names."""
    if not hasattr(module, "test_sets"):
        raise UserError("test_sets is empty: name at least one set to decode, with --test_sets")
    return module.test_sets(recipe.corpus_dir, corpus_options)


def recipe_file(corpus: str) -> dict[str, Any]:
    """What egs2/<corpus>/asr1/conf/recipe.yaml sets.

    Raises:
        UserError: it cannot be read, or is another corpus's.
    """
    path = ROOT / "egs2" / corpus / "asr1" / "conf" / "recipe.yaml"
    content = read_yaml(path) if path.is_file() else {}
    if content.pop("corpus", corpus) != corpus:
        raise UserError(f"{path}: its folder says which corpus it is of, {corpus}: remove the key corpus")
    return content


def parse(arguments: list[str]) -> dict[str, str]:
    """["--stop-stage", "3"] -> {"stop_stage": "3"}; a switch without a value is true.

    Raises:
        UserError: a word that is no option, or an option that is given twice.
    """
    given: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(
                f"unexpected argument {word!r}: options are given as --name value, lists as --name 'a b'; see --help"
            )
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            # A value may be a negative number or empty, never another option.
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        if name in given:
            raise UserError(f"option --{name} is given twice: {given[name]!r} and {value!r}")
        given[name] = value
    return given


def _check_known(name: str, known: typing.Container[str], where: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(str(name), list(known), n=1)
        hint = f"did you mean {near[0]}?" if near else "--help lists the options"
        raise UserError(f"unknown {where}: {hint}")


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` (from YAML or the command line) as the type `hint`.

    Lists are written "a b c" on the command line, and so or as a YAML list in a file.

    Raises:
        UserError: it is not of that type.
    """
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        if value is None or value == "" or str(value).lower() in ("none", "null"):
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, (list, tuple)) else ("" if value is None else str(value)).split()
        return tuple(convert(item, typing.get_args(hint)[0], where) for item in items)
    if hint is bool:
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise UserError(f"{where} takes true or false, not {value!r}")
    if typing.get_origin(hint) in (dict, typing.get_origin(typing.Mapping[str, str])):
        if isinstance(value, dict):
            return value
        raise UserError(f"{where} takes keys with values, in recipe.yaml only, not {value!r}")
    if value is None or isinstance(value, (list, dict)):
        raise UserError(f"{where} takes one value, not {value!r}")
    if hint in (int, float):
        kind = "a whole number" if hint is int else "a number"
        try:
            return hint(str(value))
        except ValueError:
            raise UserError(f"{where} takes {kind}, not {value!r}") from None
    if hint is Path and not str(value):
        raise UserError(f"{where} is empty: name a file or folder ('.' is this one), or leave it out")
    return hint(str(value))


def _absolute(options: RecipeOptions, folder: Path, given: typing.Container[str]) -> RecipeOptions:
    """The same with whole paths: a path typed is seen from here, one in a file or a default from the recipe.

    Configuration files are looked for in the recipe's folder and at the top besides.
    """

    def place(name: str) -> Path:
        return Path.cwd() if name in given else folder

    changes: dict[str, Any] = {}
    for name in ("accent_config", "asr_config", "inference_config", "lm_config"):
        changes[name] = find_config(getattr(options, name), [place(name), folder, ROOT])
    folders = ("datadir", "dumpdir", "expdir", "corpus_dir", "classifier", "pretrained_model", "noise_dir", "rir_dir")
    for name in (*folders, "first_recogniser", "lm_train_text"):
        value = getattr(options, name)
        if value is not None:
            changes[name] = (place(name) / value.expanduser()).absolute()
    for name in ("extra_train_sets", "extra_test_sets"):
        words = getattr(options, name)
        changes[name] = tuple(str(place(name) / Path(word).expanduser()) if "/" in word else word for word in words)
    return dataclasses.replace(options, **changes)


def _absolute_of_corpus(
    options: Any, folder: Path, given: typing.Container[str], corpus_dir: Path | None
) -> Any:
    """The corpus's options with whole paths, seen as in `_absolute`; else from the corpus folder."""
    changes: dict[str, Path] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            path = ((Path.cwd() if field.name in given else folder) / value.expanduser()).absolute()
            in_corpus = corpus_dir / value if corpus_dir else path
            changes[field.name] = in_corpus if in_corpus.exists() and not path.exists() else path
    return dataclasses.replace(options, **changes)
