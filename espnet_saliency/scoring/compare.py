"""Compare any finished experiments, or the output of any recogniser:

    python -m espnet_saliency.scoring.compare exp/asr_A exp/asr_B …
    python -m espnet_saliency.scoring.compare --reference ref.stm --accents spk2accent \\
        baseline=a.trn ours=b.trn …

writes comparison.json, index.html and report.md: error rates by accent, their intervals, paired
tests. A NAME= given several times stands for several trainings (seeds) of one system, which are
paired with those of the others in the order that they are given in.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Mapping, Sequence

from espnet_saliency.datadir.kaldi import UNKNOWN, check_id
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir, atomic_file
from espnet_saliency.scoring.comparison import ArmDecode, compare, write_comparison
from espnet_saliency.scoring.groups import NO_COLUMNS
from espnet_saliency.scoring.normalize import POLICIES
from espnet_saliency.scoring.report import ReportInputs, write_report
from espnet_saliency.scoring.score_folder import check_joined, first_few, score_decode
from espnet_saliency.scoring.transcripts import Transcripts, read_columns_of, read_labels, read_transcripts


MOST_DRAWS = 1_000_000
"""More draws would need more memory, and tell no more."""

_SCORED = "compared"
"""In --out: what was scored, and the scores that the page is made of. Replaced as a whole."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 2 for a mistake of the user's."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    options.command = shlex.join(["python", "-m", "espnet_saliency.scoring.compare", *given])
    try:
        print(compare_systems(options))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error.filename or options.out}: {error.strerror} (results go to {options.out}: --out)",
            file=sys.stderr,
        )
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet_saliency.scoring.compare",
        description="Compare recognisers by accent, with intervals and paired tests.",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="[NAME=]PATH",
        help="experiment folder (exp/asr_…, or one decode folder in it); with --reference a file of "
        "hypotheses: Kaldi text, .trn or .stm. The first is the baseline. One NAME given several times "
        "stands for trainings of one system that differ in their seed, in the same order for all.",
    )  # fmt: skip
    parser.add_argument("--reference", type=Path, help="references: Kaldi text, .trn or .stm")
    parser.add_argument(
        "--speakers", type=Path, help="utterance -> speaker (Kaldi table, csv or tsv)"
    )
    parser.add_argument(
        "--accents", type=Path,
        help="utterance or speaker -> accent (Kaldi table, or csv/tsv with a column `accent`)",
    )  # fmt: skip
    parser.add_argument(
        "--columns", type=Path,
        help="utterance or speaker -> whatever else to score by (gender, first language): csv or tsv, "
        "the first column holds the ids",
    )  # fmt: skip
    parser.add_argument("--set", help="name of the set, with --reference [test]")
    parser.add_argument("--text", choices=POLICIES, help="text policy of scoring, with --reference [basic]")
    parser.add_argument("--baseline", help="name of the system to measure against [the first]")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="where to write")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap draws [10000]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws [1]")
    return parser


def compare_systems(options: argparse.Namespace) -> Path:
    """Do what the command line asks for; returns the page."""
    for name, (low, high) in {"draws": (1, MOST_DRAWS), "seed": (0, 2**32 - 1)}.items():
        if not low <= (value := getattr(options, name)) <= high:
            raise UserError(f"--{name} {value}: must lie between {low} and {high}")
    named = [_named(system) for system in options.systems]
    files = Counter((name, path.resolve()) for name, path in named)
    if twice := next((path for (_, path), count in files.items() if count > 1), None):
        raise UserError(f"{twice}: given twice for one system: give it once")
    if options.reference:
        options.set, options.text = options.set or "test", options.text or "basic"
        check_id("set", options.set, "--set")
        arms = _from_files(named, options)
    else:
        for name in ("speakers", "accents", "columns", "set", "text"):
            if getattr(options, name):
                raise UserError(
                    f"--{name} goes with --reference: scored experiments have their own"
                )
        arms = _from_experiments(named, options.command)
    arms = _with_seeds(arms, {name for name, _ in named if name})
    baseline = options.baseline or arms[0].name
    title = "Comparison of recognisers"
    comparison = compare(arms, baseline, title, draws=options.draws, seed=options.seed)
    write_comparison(options.out / "comparison.json", comparison)
    return write_report(
        options.out,
        # Whether these sets hold seen or unseen accents is not known here.
        ReportInputs(comparison=comparison, title=title, command=options.command, set_names={}),
    )


def _named(system: str) -> tuple[str | None, Path]:
    name, equals, path = system.partition("=")
    if not equals or Path(system).exists():
        return None, Path(system)
    if not name or "/" in name:
        raise UserError(f"{system}: no such file or folder, and no NAME=PATH: a name is not empty and has no '/'")
    return name, Path(path)


def _with_seeds(arms: Sequence[ArmDecode], given: set[str]) -> list[ArmDecode]:
    """Number the runs of a name that is given several times.

    Args:
        given: names that the user gave. Those that follow from a file's name are no sign that two
            files are of one system.
    """
    counts = Counter(arm.name for arm in arms)
    if twice := next((name for name, count in counts.items() if count > 1 and name not in given), None):
        raise UserError(
            f"{counts[twice]} systems would be called {twice}: name them, e.g. ours=PATH theirs=PATH; one name for "
            "several stands for trainings of one system"
        )
    (first, wanted), *others = counts.items()
    for name, count in others:
        if count != wanted:
            raise UserError(
                f"{first} is given {wanted} times, {name} {count} times: give each system as many trainings (seeds)"
            )
    if wanted == 1:
        return list(arms)
    seen: Counter[str] = Counter()
    numbered = []
    for arm in arms:
        seen[arm.name] += 1
        numbered.append(replace(arm, seed=seen[arm.name]))
    return numbered


def _from_experiments(named: Sequence[tuple[str | None, Path]], command: str) -> list[ArmDecode]:
    """Arms of scored experiments, on the sets that each of them has."""
    found = []
    for name, path in named:
        decode = _decode_folder(path.resolve())
        sets = tuple(sorted(p.parent.name for p in decode.glob("*/score_wer")))
        found.append((name or decode.parent.name, decode, sets))
    (first, _, wanted), *others = found
    for name, _, sets in others:
        if sets != wanted:
            apart = set(sets) ^ set(wanted)
            raise UserError(
                f"{first} was scored on {', '.join(wanted)}, {name} on {', '.join(sets)}: "
                f"score {', '.join(sorted(apart))} for both, or name decode folders that have the same"
            )
    return [
        ArmDecode(name, decode.parent.absolute(), decode.name, sets, command)
        for name, decode, sets in found
    ]


def _decode_folder(path: Path) -> Path:
    """The one folder in an experiment (or the folder itself) that holds <set>/score_wer."""
    if path.is_file():
        raise UserError(f"{path}: a file: give its references with --reference, or name an experiment folder")
    if not path.is_dir():
        raise UserError(f"{path}: no such experiment folder")
    if any(path.glob("*/score_wer")):
        return path
    if (path / "score_wer").is_dir():
        raise UserError(f"{path}: one set of a decode folder: name {path.parent}")
    decodes = sorted({score.parents[1] for score in path.glob("*/*/score_wer")})
    if not decodes:
        raise UserError(
            f"{path}: nothing scored in it (no */*/score_wer): run stages 12 and 13, or give files "
            "with --reference"
        )
    if len(decodes) > 1:
        names = ", ".join(decode.name for decode in decodes)
        raise UserError(f"{path}: decoded in several ways ({names}): name one, e.g. {decodes[0]}")
    return decodes[0]


def _from_files(
    named: Sequence[tuple[str | None, Path]], options: argparse.Namespace
) -> list[ArmDecode]:
    """Score hypotheses of any program; what the scores are made of is kept in --out."""
    reference = read_transcripts(options.reference)
    ids = sorted(reference.texts)
    if not ids:
        raise UserError(f"{options.reference}: no utterance in it: give the references of the test set")
    if reference.ignored:
        _note(f"{options.reference}: {len(reference.ignored)} segments are not to be scored: left out")
    speakers = _speakers(options.speakers, ids, reference.speakers)
    accents = _accents(options.accents, ids, speakers)
    columns = _columns(options.columns, ids, speakers)
    hypotheses = [_hypotheses(path, reference, options.reference) for _, path in named]
    work = options.out / _SCORED
    _refuse_own_output(work, [options.reference, *(path for _, path in named)])
    # Without speakers an utterance stands for one: intervals are then too narrow, and said to be.
    tables = {
        "text": reference.texts,
        "utt2spk": {i: speakers.get(i) or i for i in ids},
        "utt2accent": accents,
        **{f"utt2{name}": values for name, values in columns.items()},
    }
    # What a message names instead of the copy that is scored.
    given = {name: options.columns for name in tables} | {
        "text": options.reference, "utt2spk": options.speakers, "utt2accent": options.accents
    }  # fmt: skip
    with atomic_dir(work) as folder:
        data = folder / "reference" / options.set
        for name, table in tables.items():
            _write_table(data / name, table)
        for number, texts in enumerate(hypotheses, 1):
            decode = folder / "systems" / str(number) / "decode" / options.set
            _write_table(decode / "text", texts)
            try:
                score_decode(decode, data, options.text)
            except UserError as error:
                message = str(error)
                for name, path in given.items():
                    message = message.replace(str(data / name), str(path))
                raise UserError(message) from None
    return [
        ArmDecode(
            name or path.stem, (work / "systems" / str(number)).absolute(), "decode", (options.set,), options.command
        )
        for number, (name, path) in enumerate(named, 1)
    ]


def _hypotheses(path: Path, reference: Transcripts, of: Path) -> dict[str, str]:
    """Texts of a system, one for each reference."""
    found = read_transcripts(path)
    texts = {i: text for i, text in found.texts.items() if i not in reference.ignored}
    mend = "give one line for each id of the references; an empty hypothesis is the id alone"
    check_joined(reference.texts, texts, of, path, mend)
    return texts


def _refuse_own_output(work: Path, inputs: Sequence[Path]) -> None:
    for path in inputs:
        if path.resolve().is_relative_to(work.resolve()):
            raise UserError(f"{path}: lies in {work}, which is written anew: name another folder with --out")


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _speakers(path: Path | None, ids: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """Utterance -> speaker, as far as they are known."""
    speakers = read_labels(path, "speaker") if path else dict(own)
    without = [i for i in ids if not speakers.get(i)]
    if path and len(without) == len(ids):
        raise UserError(
            f"{path}: has a speaker for none of the {len(ids)} utterances (first utterance {ids[0]}, first id of "
            f"{next(iter(speakers), 'nothing')}): give it the ids of the references"
        )
    if len(without) == len(ids):
        _note(
            f"no speakers are known: each of the {len(ids)} utterances counts as one, so intervals are narrower "
            "than they should be; give --speakers"
        )
    elif without:
        _note(f"{len(without)} of {len(ids)} utterances have no speaker ({first_few(without)}): each counts as one")
    return speakers


def _accents(path: Path | None, ids: Sequence[str], speakers: Mapping[str, str]) -> dict[str, str]:
    """Utterance -> accent, from a map of utterances or of speakers; {} without one."""
    if path is None:
        return {}
    return _by_utterance(read_labels(path, "accent"), ids, speakers, f"{path}: has an accent")


def _columns(path: Path | None, ids: Sequence[str], speakers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Column -> utterance -> value, from a table of utterances or of speakers; {} without one."""
    if path is None:
        return {}
    columns = read_columns_of(path)
    for name in columns:
        check_id("column", name, path)
        if name in NO_COLUMNS:
            raise UserError(f"{path}: a column to score by may not be called {name!r}: rename it")
    return {
        name: _by_utterance(labels, ids, speakers, f"{path}: has a {name}") for name, labels in columns.items()
    }


def _by_utterance(
    labels: Mapping[str, str], ids: Sequence[str], speakers: Mapping[str, str], has: str
) -> dict[str, str]:
    """Utterance -> its label, or its speaker's; `unknown` where there is none, which is told of."""
    found = {i: labels.get(i) or labels.get(speakers.get(i, ""), "") for i in ids}
    missing = [i for i in ids if not found[i]]
    if len(missing) == len(ids):
        raise UserError(
            f"{has} for none of the {len(ids)} utterances, nor for their speakers "
            f"(first utterance {ids[0]}, first label of {next(iter(labels), 'nothing')})"
        )
    if missing:
        _note(
            f"{has} for {len(ids) - len(missing)} of {len(ids)} utterances; the others "
            f"({first_few(missing)}) are shown as unknown"
        )
    return {i: label or UNKNOWN for i, label in found.items()}


def _write_table(path: Path, table: dict[str, str]) -> None:
    with atomic_file(path) as handle:
        handle.writelines(f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
