"""Compare any finished experiments, or the output of any recogniser:

    python -m espnet_saliency.scoring.compare exp/asr_A exp/asr_B …
    python -m espnet_saliency.scoring.compare --reference ref.stm --accents spk2accent \\
        baseline=a.trn ours=b.trn …

writes comparison.json, index.html and report.md: error rates by accent, their intervals, paired
tests. A name given several times stands for several trainings (seeds) of one system.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Sequence

from espnet_saliency.datadir.kaldi import check_id
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_file
from espnet_saliency.scoring.comparison import ArmDecode, compare, write_comparison
from espnet_saliency.scoring.normalize import POLICIES
from espnet_saliency.scoring.report import ReportInputs, write_report
from espnet_saliency.scoring.score_folder import first_few, score_decode
from espnet_saliency.scoring.transcripts import read_labels, read_transcripts


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
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m espnet_saliency.scoring.compare",
        description="Compare recognisers by accent, with intervals and paired tests.",
    )
    parser.add_argument(
        "systems", nargs="+", metavar="[NAME=]PATH",
        help="experiment folder (exp/asr_…, or one decode folder in it); with --reference a file of "
        "hypotheses: Kaldi text, .trn or .stm. The first is the baseline.",
    )  # fmt: skip
    parser.add_argument("--reference", type=Path, help="references: Kaldi text, .trn or .stm")
    parser.add_argument(
        "--speakers", type=Path, help="utterance -> speaker (Kaldi table, csv or tsv)"
    )
    parser.add_argument(
        "--accents", type=Path,
        help="utterance or speaker -> accent (Kaldi table, or csv/tsv with a column `accent`)",
    )  # fmt: skip
    parser.add_argument("--set", default="test", help="name of the set, with --reference [test]")
    parser.add_argument("--text", default="basic", choices=POLICIES,
                        help="text policy of scoring, with --reference [basic]")  # fmt: skip
    parser.add_argument("--baseline", help="name of the system to measure against [the first]")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="where to write")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap draws [10000]")
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws [1]")
    return parser


def compare_systems(options: argparse.Namespace) -> Path:
    """Do what the command line asks for; returns the page."""
    if options.draws < 1:
        raise UserError(f"--draws {options.draws}: must be 1 or more")
    check_id("set", options.set, "--set")
    named = [_named(system) for system in options.systems]
    if options.reference:
        arms = _from_files(named, options)
    else:
        for name in ("speakers", "accents"):
            if getattr(options, name):
                raise UserError(
                    f"--{name} goes with --reference: scored experiments have their own"
                )
        arms = _from_experiments(named, options.command)
    arms = _with_seeds(arms)
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
    if equals and name and "/" not in name:
        return name, Path(path)
    return None, Path(system)


def _with_seeds(arms: Sequence[ArmDecode]) -> list[ArmDecode]:
    """Number the runs of a name that is given several times."""
    names = [arm.name for arm in arms]
    if len(set(names)) == len(names):
        return list(arms)
    seen: dict[str, int] = {}
    numbered = []
    for arm in arms:
        seen[arm.name] = seen.get(arm.name, 0) + 1
        numbered.append(ArmDecode(**{**vars(arm), "seed": seen[arm.name]}))
    return numbered


def _from_experiments(named: Sequence[tuple[str | None, Path]], command: str) -> list[ArmDecode]:
    """Arms of scored experiments, on the sets that each of them has."""
    found = []
    for name, path in named:
        decode = _decode_folder(path)
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
    if not path.is_dir():
        raise UserError(f"{path}: no such experiment folder")
    if any(path.glob("*/score_wer")):
        return path
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
    speakers = dict(reference.speakers)
    if options.speakers:
        speakers = read_labels(options.speakers, "speaker")
    accents = _accents(options.accents, ids, speakers)
    data = options.out / "data" / options.set
    # Without speakers an utterance stands for one: intervals are then too narrow, and said to be.
    tables = {
        "text": reference.texts,
        "utt2spk": {i: speakers.get(i) or i for i in ids},
        "utt2accent": {i: accents[i] for i in ids if i in accents},
    }
    if not speakers:
        print(
            f"note: no speakers are known: each of the {len(ids)} utterances counts as one, so "
            "intervals are narrower than they should be; give --speakers",
            file=sys.stderr,
        )
    elif without := [i for i in ids if not speakers.get(i)]:
        print(
            f"note: {len(without)} of {len(ids)} utterances have no speaker ({', '.join(without[:3])}"
            f"{', …' if len(without) > 3 else ''}): each counts as one",
            file=sys.stderr,
        )
    for name, table in tables.items():
        _write_table(data / name, table)
    arms = []
    for number, (name, path) in enumerate(named):
        name = name or path.stem
        experiment = options.out / "systems" / f"{number + 1}"
        folder = experiment / "decode" / options.set
        _write_table(folder / "text", read_transcripts(path).texts)
        try:
            score_decode(folder, data, options.text)
        except UserError as error:
            mended = str(error).replace(str(folder / "text"), str(path))
            mended = mended.replace(str(data / "text"), str(options.reference))
            raise UserError(mended.replace(": decode the set again", "")) from None
        arms.append(
            ArmDecode(name, experiment.absolute(), "decode", (options.set,), options.command)
        )
    return arms


def _accents(path: Path | None, ids: Sequence[str], speakers: dict[str, str]) -> dict[str, str]:
    """Utterance -> accent, from a map of utterances or of speakers."""
    if path is None:
        return {}
    labels = read_labels(path, "accent")
    accents = {i: labels.get(i) or labels.get(speakers.get(i, ""), "") for i in ids}
    missing = [i for i in ids if not accents[i]]
    if len(missing) == len(ids):
        raise UserError(
            f"{path}: has an accent for none of the {len(ids)} utterances, nor for their speakers "
            f"(first utterance {ids[0]}, first label of {next(iter(labels), 'nothing')})"
        )
    if missing:
        print(
            f"note: {path} has no accent for {len(missing)} of {len(ids)} utterances "
            f"({first_few(missing)}): they are shown as unknown",
            file=sys.stderr,
        )
    return {i: accent for i, accent in accents.items() if accent}


def _write_table(path: Path, table: dict[str, str]) -> None:
    with atomic_file(path) as handle:
        handle.writelines(f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
