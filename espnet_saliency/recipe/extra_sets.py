"""Prepared sets of other recipes, that join the training set or are tested on beside the own test sets.

Their tables are copied into this recipe's dump/raw; the audio stays where it is.
"""

from __future__ import annotations

import heapq
import json
import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from espnet_saliency.corpora.text import without_tags
from espnet_saliency.datadir.kaldi import (
    UNKNOWN,
    iter_table,
    read_table,
    utterance_tables,
    write_category2utt,
    write_spk2utt,
)
from espnet_saliency.datadir.probe import BadAudio, probe
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir, atomic_file
from espnet_saliency.recipe.options import ROOT, Options, RecipeOptions
from espnet_saliency.scoring.normalize import normalizer
from espnet_saliency.yaml_file import read_yaml

if TYPE_CHECKING:
    # The layout, which the recipe has, names its folders after these sets.
    from espnet_saliency.recipe.recipe import Recipe
    from espnet_saliency.recipe.steps import Step

MAX_UNCOVERED = 0.01
"""Share of a set's characters that may be missing among the tokens."""

REQUIRED = ("wav.scp", "text", "utt2spk", "utt2dur", "utt2num_samples")
"""Tables of every formatted set."""

_COLUMN_OF_AUDIO = ("utt2speed", "utt2channel")  # applied when the audio was formatted


@dataclass(frozen=True)
class ExtraSet:
    """A set of another recipe, as --extra_train_sets or --extra_test_sets names it."""

    option: str
    """The option that names it."""
    given: str
    """<corpus>:<set>, or the folder."""
    name: str
    """What it is called here: <corpus>_<set>."""
    folder: Path
    """The other recipe's dump/raw/<set>."""

    @classmethod
    def find(cls, option: str, given: str) -> ExtraSet:
        """The set that `given` stands for; whether it is prepared is not looked at.

        Raises:
            UserError: it is neither <corpus>:<set> nor a folder, or there is no such recipe.
        """
        if "/" in given:
            # Not resolved: a dump folder may be a link to another disk.
            folder = Path(os.path.normpath(given))
            if folder.parent.name != "raw" or len(folder.parents) < 3:
                raise UserError(
                    f"--{option} {given}: a prepared set lies in dump/raw of its recipe: …/dump/raw/<set>"
                )
            recipe = folder.parents[2]
            # egs2/edacc/asr1 is called edacc; data of another place after the folder that holds them.
            corpus = recipe.parent.name if recipe.name == "asr1" else recipe.name
            name = re.sub(r"[^\w.-]+", "-", f"{corpus}_{folder.name}")
            return cls(option, given, name, folder)
        corpus, colon, name = given.partition(":")
        if not (colon and corpus and name):
            raise UserError(
                f"--{option} {given}: write <corpus>:<set>, e.g. edacc:test, or the folder of a prepared "
                "set, …/dump/raw/<set>"
            )
        recipe = ROOT / "egs2" / corpus / "asr1"
        if not recipe.is_dir():
            known = ", ".join(sorted(path.parent.name for path in ROOT.glob("egs2/*/asr1")))
            raise UserError(f"--{option} {given}: there is no recipe {corpus}; egs2 has {known}")
        return cls(option, given, f"{corpus}_{name}", recipe / "dump" / "raw" / name)

    @property
    def recipe(self) -> Path:
        """The other recipe's folder, which holds data and dump."""
        return self.folder.parents[2]

    def stamp(self) -> dict[str, Any] | None:
        """What its last finished stage left: 4 for a training or validation set, 3 for a test set."""
        for stage in (4, 3):
            try:
                path = self.folder / ".stages" / f"{stage}-{self.folder.name}.done.json"
                return {"stage": stage, **json.loads(path.read_text(encoding="utf-8"))}
            except (OSError, ValueError):
                continue
        return None

    def inputs(self) -> dict[str, Any]:
        """What decides its content; for the inputs of the steps that use it."""
        stamp = self.stamp()
        return {"folder": str(self.folder), "fingerprint": stamp and stamp["fingerprint"]}

    def corpus_stamp(self) -> dict[str, Any]:
        """Inputs of the other recipe's stage 1; {} where they are not known."""
        try:
            path = self.recipe / "data" / ".stages" / "1-corpus.done.json"
            return json.loads(path.read_text(encoding="utf-8"))["inputs"]
        except (OSError, ValueError, KeyError):
            return {}


def needs_of(recipe: Recipe, stage: int, name: str) -> tuple[Step, ...]:
    """The step that makes a set, and where it holds another recipe's texts the one that has read these."""
    made = recipe.step(stage, name)
    return (made, recipe.step(5, name)) if (5, name) in recipe.steps else (made,)


def find_extra_sets(options: RecipeOptions) -> dict[str, tuple[ExtraSet, ...]]:
    """Option -> the sets that it names, by name, so that their order on the command line does not matter.

    Raises:
        UserError: a name that is no set's; a set named twice, or called as one of the recipe's own.
    """
    found = {}
    taken = {name: "the recipe's own" for name in (options.train_set, options.valid_set, *options.test_sets)}
    folders: dict[Path, str] = {}
    for option in ("extra_train_sets", "extra_test_sets"):
        sets = [ExtraSet.find(option, given) for given in getattr(options, option)]
        found[option] = tuple(sorted(sets, key=lambda extra: extra.name))
        for extra in found[option]:
            where = f"--{option} {extra.given}"
            if extra.folder in folders:
                raise UserError(f"{where}: the set is in --{folders[extra.folder]} already: name it once")
            if extra.folder.is_relative_to(options.dumpdir):
                own = "--test_sets" if option == "extra_test_sets" else "--train_set"
                raise UserError(f"{where}: is a set of this recipe: name it in {own}, or leave it out")
            if extra.name in taken:
                raise UserError(f"{where}: is called {extra.name}, as is {taken[extra.name]} set: rename one")
            folders[extra.folder], taken[extra.name] = option, f"--{option}'s"
    return found


def check_extra_sets(given: Options, fs: int) -> None:
    """`check_fits` of all sets, so that a run is refused at its start rather than hours later."""
    for extra in chain.from_iterable(find_extra_sets(given.recipe).values()):
        check_fits(extra, given, fs)


def check_fits(extra: ExtraSet, given: Options, fs: int) -> None:
    """Refuse a set that is not prepared, or was prepared in another way than this recipe's.

    Args:
        extra: the set.
        given: this recipe's options.
        fs: this recipe's sampling rate, in Hz.

    Raises:
        UserError: naming what differs, and the mend.
    """
    where = f"--{extra.option} {extra.given}"
    stamp = extra.stamp()
    if stamp is None or not (extra.folder / "wav.scp").is_file():
        there = sorted(path.parent.parent.name for path in extra.folder.parent.glob("*/.stages/*.done.json"))
        others = f" ({', '.join(dict.fromkeys(there))} are)" if there else ""
        run = extra.recipe / "run.sh"
        command = run if run.is_file() else f"the recipe that writes {extra.folder.parents[1]}"
        raise UserError(
            f"{where}: {extra.folder} is not prepared{others}: run {command} --corpus_dir DIR --stop_stage 4"
        )
    for utterance, path in _sample(extra.folder / "wav.scp"):
        try:
            found = probe(path).fs
        except BadAudio as error:
            raise UserError(f"{where}: {utterance}: {error}: prepare the set again (--stage 3)") from error
        if found != fs:
            raise UserError(
                f"{where}: {utterance} has {found} Hz, this recipe's audio {fs} Hz: format both alike (stage 3)"
            )
    # A test set keeps the publisher's text, whatever the policy: scoring sees to it.
    theirs = extra.corpus_stamp().get("corpus_options", {}).get("text_policy")
    own = getattr(given.corpus, "text_policy", None)
    if stamp["stage"] == 4 and theirs and own and theirs != own:
        raise UserError(
            f"{where}: its texts were made with --text_policy {theirs}, this recipe's with {own}: "
            "prepare one of them again with the other's"
        )
    unseen = set(getattr(given.corpus, "unseen_accents", ()))
    if extra.option == "extra_train_sets" and unseen:
        for accent, count in count_accents(extra.folder).items():
            if accent in unseen:
                raise UserError(
                    f"{where}: has {count} utterances of the accent {accent}, which --unseen_accents holds out of "
                    f"training: prepare it with --unseen_accents {accent} too, or leave it out"
                )


def _sample(table: Path) -> Iterator[tuple[str, str]]:
    """Lines 1, 2, 4, 8, … of a table."""
    for number, row in enumerate(iter_table(table), 1):
        if number & (number - 1) == 0:
            yield row


def join_sets(sources: Mapping[str, Path], target: Path) -> dict[str, int]:
    """Write `target`: the utterances of formatted sets together; return how many each has.

    Utterances keep their ids. A fact that a set does not tell of its utterances (accent, gender, …)
    is `unknown` there. The audio stays where it is.

    Args:
        sources: name -> dump/raw/<set>.
        target: dump/raw/<new set>; an older one is replaced.

    Raises:
        UserError: a table is missing; an utterance is in two sets; speakers' ids clash.
    """
    tables = set(REQUIRED)
    for folder in sources.values():
        tables.update(utterance_tables(folder))
    counts: Counter[str] = Counter()
    with atomic_dir(target) as temporary:
        for table in sorted(tables.difference(_COLUMN_OF_AUDIO)):
            rows = heapq.merge(*(_rows(name, folder, table) for name, folder in sources.items()))
            before, source = "", ""
            with open(temporary / table, "w", encoding="utf-8", newline="\n") as out:
                for utterance, name, value in rows:
                    if utterance == before:
                        raise UserError(
                            f"utterance {utterance} is in {source} ({sources[source]}) and in {name} "
                            f"({sources[name]}): leave one of the sets out, or prepare one with other ids"
                        )
                    out.write(f"{utterance} {value}\n")
                    before, source = utterance, name
                    counts[name] += table == "wav.scp"
        write_spk2utt(temporary, target)
        write_category2utt(temporary)
    return {name: counts[name] for name in sources}


def _rows(name: str, folder: Path, table: str) -> Iterator[tuple[str, str, str]]:
    """(utterance, set, value) of one table of one set."""
    if (folder / table).exists() or table in REQUIRED:
        return ((utterance, name, value) for utterance, value in iter_table(folder / table))
    return ((utterance, name, UNKNOWN) for utterance, _ in iter_table(folder / "utt2spk"))


def scoring_text(extra: ExtraSet, given: Options) -> str:
    """The text policy that a set is scored under: the one of its own recipe's recipe.yaml.

    Test sets keep their publishers' texts, and each recipe says what these need. --scoring_text on
    the command line holds for all sets.
    """
    recipe_yaml = extra.recipe / "conf" / "recipe.yaml"
    if "scoring_text" in given.typed or not recipe_yaml.is_file():
        return given.recipe.scoring_text
    return str(read_yaml(recipe_yaml).get("scoring_text", given.recipe.scoring_text))


def check_characters(
    text: Path, token_list: Path, token_type: str, policy: str, report: Path, where: str
) -> None:
    """Refuse texts that the tokens cannot write, e.g. lower case with tokens in upper case.

    Args:
        text: Kaldi table of transcripts. Tags (<laugh>) do not count.
        token_list: ESPnet's token list.
        token_type: bpe, char or word.
        policy: text policy of scoring; what it makes equal counts as covered. "none" for training.
        report: tab-separated file to write, with each missing character and how often it is there.
        where: what to name in an error.

    Raises:
        UserError: more than MAX_UNCOVERED of the characters, blanks apart, are missing.
    """
    form = normalizer(policy)
    # SentencePiece brings every text to this form first.
    prepared = (lambda s: unicodedata.normalize("NFKC", s)) if token_type == "bpe" else str
    special = ("<blank>", "<unk>", "<sos/eos>", "<space>")
    tokens = token_list.read_text(encoding="utf-8").split("\n")
    covered = set(chain.from_iterable(token for token in tokens if token not in special))
    forms = {form(character) for character in covered} | {""}
    counts: Counter[str] = Counter()
    for _, line in iter_table(text):
        counts.update(prepared(without_tags(line).replace(" ", "")))
    missing = {c: n for c, n in counts.items() if c not in covered and form(c) not in forms}
    ranked = sorted(missing, key=lambda character: (-missing[character], character))
    with atomic_file(report) as handle:
        handle.write("character\tcount\n")
        handle.writelines(f"{character}\t{missing[character]}\n" for character in ranked)
    share = sum(missing.values()) / max(1, counts.total())
    if share > MAX_UNCOVERED:
        shown = " ".join(ranked[:12]) + (" …" if len(ranked) > 12 else "")
        has = " ".join(sorted(covered - {"\u2581"})[:12])
        raise UserError(
            f"{where}: {100 * share:.1f} % of the characters of {text} are not among the tokens, which have "
            f"{has} …, not {shown}: prepare both recipes with the same --text_policy, or score with a "
            "--scoring_text that makes them equal"
        )


def count_accents(folder: Path) -> dict[str, int]:
    """Accent -> utterances of a set, by name; {} where no accent is known."""
    path = folder / "utt2accent"
    counts = Counter(read_table(path).values()) if path.exists() else Counter()
    return dict(sorted(counts.items())) if set(counts) - {UNKNOWN} else {}
