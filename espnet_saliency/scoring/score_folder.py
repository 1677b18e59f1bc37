"""The scores of one decoded set on disk: from its text to score_wer/ and score_cer/, and back.

    <decode>/<set>/text              hypotheses, "id text" (written by decoding)
    <decode>/<set>/score_wer/        and score_cer/, of the same form:
        result.txt                   counts and rates by speaker, in sclite's form
        ref.trn hyp.trn              the texts as they were scored
        utterances.tsv               one row an utterance, the columns of the data at its end
        by_accent.tsv                one row an accent, after one for all
        scoring.json                 metric and text policy
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Iterable

from espnet_saliency.datadir.kaldi import UNKNOWN, iter_table
from espnet_saliency.errors import UserError
from espnet_saliency.files import atomic_dir
from espnet_saliency.scoring.error_rates import METRICS, Rate, Scores, score, tokens
from espnet_saliency.scoring.groups import LENGTH, read_columns
from espnet_saliency.scoring.normalize import collapse_blanks, normalizer

OVERALL = "overall"
"""The name of the group of all utterances; no accent may have it."""

_COLUMNS = "utt_id speaker accent words hits sub del ins reference hypothesis".split()


def first_few(ids: Iterable[str], count: int = 3) -> str:
    """The first ids in sorted order, for a message: "a, b, c, ..."."""
    ids = sorted(ids)
    return ", ".join(ids[:count]) + (", ..." if len(ids) > count else "")


def read_table(path: Path) -> dict[str, str]:
    """A file of lines "id value", as Kaldi's text, utt2spk and utt2accent; a value may be empty.

    Raises:
        UserError: the file cannot be read as one (see `kaldi.iter_table`), or has ids twice.
    """
    table: dict[str, str] = {}
    doubled = set()
    for key, value in iter_table(path):
        if key in table:
            doubled.add(key)
        table[key] = value
    if doubled:
        raise UserError(
            f"{path}: {len(doubled)} ids occur more than once ({first_few(doubled)}): "
            "keep one line for each"
        )
    return table


def check_joined(
    references: dict[str, str], hypotheses: dict[str, str], ref: Path, hyp: Path, mend: str
) -> None:
    """Refuse hypotheses that do not belong one by one to the references.

    Args:
        references, hypotheses: by utterance id.
        ref, hyp: the files they are of.
        mend: what the user is to do about it.

    Raises:
        UserError: ids are missing, or without a reference.
    """
    found = []
    missing, extra = references.keys() - hypotheses.keys(), hypotheses.keys() - references.keys()
    if missing:
        found.append(f"{len(missing)} utterances have no hypothesis ({first_few(missing)})")
    if extra:
        found.append(f"{len(extra)} hypotheses have no reference ({first_few(extra)})")
    if not found:
        return
    forms = [{unicodedata.normalize("NFC", i) for i in ids} for ids in (missing, extra)]
    if alike := len(forms[0] & forms[1]):
        mend = f"{alike} of them differ in their Unicode form alone: bring the ids of both files to NFC"
    raise UserError(f"{hyp}, scored against {ref}: {' and '.join(found)}: {mend}")


def score_decode(decode_dir: Path, data_dir: Path, policy: str = "none") -> dict[str, Scores]:
    """Score one decoded set, and write score_wer/ and score_cer/ beside its text.

    Args:
        decode_dir: `<decode>/<set>`, with `text`.
        data_dir: the set's data directory: text, utt2spk, and utt2accent where accents are known.
        policy: text policy, see `normalize.POLICIES`.

    Returns:
        metric ("wer", "cer") -> scores.

    Raises:
        UserError: hypotheses are missing, without a reference, or doubled; a speaker is missing;
            no reference word is left; an accent has the reserved name "overall".
    """
    decode_dir, data_dir = Path(decode_dir), Path(data_dir)
    normalize = normalizer(policy)
    ref_file, hyp_file = data_dir / "text", decode_dir / "text"
    references, hypotheses = read_table(ref_file), read_table(hyp_file)
    check_joined(references, hypotheses, ref_file, hyp_file, "decode the set again")
    # A tab would end a column of utterances.tsv.
    speakers = {i: collapse_blanks(name) for i, name in read_table(data_dir / "utt2spk").items()}
    lost = [i for i in references if not speakers.get(i)]
    if lost:
        raise UserError(
            f"{data_dir / 'utt2spk'}: {len(lost)} utterances of text have no speaker "
            f"({first_few(lost)}): add them"
        )
    accents_file = data_dir / "utt2accent"
    accents = read_table(accents_file) if accents_file.exists() else {}
    accents = {i: "" if a == UNKNOWN else collapse_blanks(a) for i, a in accents.items()}
    if OVERALL in accents.values():
        raise UserError(f"{accents_file}: no accent may be called {OVERALL!r}: rename it")
    columns = read_columns(data_dir, sorted(references))
    clash = sorted(columns.keys() & {*_COLUMNS, LENGTH})
    if clash:
        raise UserError(
            f"{data_dir / f'utt2{clash[0]}'}: a column of the data may not be called {clash[0]!r}: "
            "the scores have one of that name; rename it"
        )
    if not any(text.split() for text in references.values()):
        raise UserError(
            f"{ref_file}: all {len(references)} references are empty: write the words that were said"
        )
    references = {i: normalize(text) for i, text in references.items()}
    hypotheses = {i: normalize(text) for i, text in hypotheses.items()}
    if not any(references.values()):
        raise UserError(f"{ref_file}: text policy {policy!r} leaves no word: choose another")
    results = {}
    for metric in METRICS:
        results[metric] = score(
            metric, references, hypotheses, speakers, accents, policy, columns
        )
        _write(results[metric], decode_dir / f"score_{metric}")
    return results


def read_scores(folder: Path) -> Scores:
    """The scores that `score_decode` wrote into `folder` (score_wer or score_cer), aligned again.

    Raises:
        UserError: the folder is missing, or its counts are not those of its texts.
    """
    folder = Path(folder)
    table, about = folder / "utterances.tsv", folder / "scoring.json"
    if not table.exists() or not about.exists():
        raise UserError(f"{folder} holds no scores: score the set first (stage 13)")
    header, *lines = table.read_text(encoding="utf-8").rstrip("\n").split("\n")
    names = header.split("\t")
    fields = [line.split("\t") for line in lines]
    rows = {row[0]: dict(zip(names, row)) for row in fields}
    try:
        about = json.loads(about.read_text(encoding="utf-8"))
        metric, policy = about["metric"], about["policy"]
        whole = {*_COLUMNS} <= {*names} and len(rows) == len(lines) and all(len(row) == len(names) for row in fields)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise UserError(f"{folder}: utterances.tsv or scoring.json is damaged: score the set again (stage 13)")
    column = {name: {i: row.get(name, "") for i, row in rows.items()} for name in names}
    scores = score(
        metric,
        column["reference"],
        column["hypothesis"],
        column["speaker"],
        column["accent"],
        policy,
        {name: column[name] for name in names if name not in _COLUMNS},
    )
    for index, utt_id in enumerate(scores.ids):
        written = [rows[utt_id].get(name) for name in ("hits", "sub", "del", "ins")]
        counted = [str(n) for n in scores.counts[index]]
        if written != counted:
            raise UserError(
                f"{table}: {utt_id} has counts {written}, its texts give {counted}: "
                "score the set again (stage 13)"
            )
    return scores


def _write(scores: Scores, folder: Path) -> None:
    with atomic_dir(folder) as new:
        for name, texts in (("ref.trn", scores.references), ("hyp.trn", scores.hypotheses)):
            lines = [
                f"{_trn(text, scores.metric)}\t({speaker}-{utt_id})"
                for text, speaker, utt_id in zip(texts, scores.speakers, scores.ids)
            ]
            _write_lines(new / name, lines)
        rows = zip(scores.ids, scores.speakers, scores.accents, scores.words, scores.counts)
        texts = zip(scores.references, scores.hypotheses, *scores.columns.values())
        lines = ["\t".join([*_COLUMNS, *scores.columns])] + [
            "\t".join([utt_id, speaker, accent, *map(str, [words, *counts]), *more])
            for (utt_id, speaker, accent, words, counts), more in zip(rows, texts)
        ]
        _write_lines(new / "utterances.tsv", lines)
        _write_lines(new / "by_accent.tsv", _by_accent(scores))
        _write_lines(new / "result.txt", _result(scores))
        about = {"metric": scores.metric, "policy": scores.policy}
        _write_lines(new / "scoring.json", [json.dumps(about)])


def _write_lines(path: Path, lines: list[str]) -> None:
    # The folder takes its name when it is whole: its files need no care of their own.
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _trn(text: str, metric: str) -> str:
    """A text in sclite's trn form: tokens between blanks, the blank as `<space>` (ESPnet's)."""
    return " ".join("<space>" if token == " " else token for token in tokens(text, metric))


def _by_accent(scores: Scores) -> list[str]:
    groups = [(OVERALL, scores.rate())]
    groups += [(accent or UNKNOWN, rate) for accent, rate in scores.by_accent().items()]
    header = "accent utterances speakers words hits sub del ins errors rate".split()
    lines = ["\t".join(header)]
    for accent, r in groups:
        counts = [r.utterances, r.speakers, r.words, r.hits]
        counts += [r.substitutions, r.deletions, r.insertions, r.errors]
        rate = "" if r.rate is None else f"{r.rate:.4f}"
        lines.append("\t".join([accent, *map(str, counts), rate]))
    return lines


def percentages(rate: Rate) -> list[str]:
    """Corr, Sub, Del, Ins, Err and S.Err as sclite prints them: in percent, one decimal."""
    counts = [rate.hits, rate.substitutions, rate.deletions, rate.insertions, rate.errors]
    values = [rate.percent(count) for count in counts]
    values.append(100.0 * rate.wrong_utterances / rate.utterances)
    return ["-" if value is None else f"{value:.1f}" for value in values]


def _result(scores: Scores) -> list[str]:
    """Rates by speaker; `Sum/Avg` is the line that ESPnet's show_asr_result.sh reads."""
    groups = [*scores.by(scores.speakers).items(), ("Sum/Avg", scores.rate())]
    width = max(len(name) for name, _ in groups)
    head = ["# Snt", "# Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err"]

    def row(name: str, fields: list[str]) -> str:
        cells = [f"{field:>8}" for field in fields]
        return f"| {name:<{width}} |{''.join(cells[:2])} |{''.join(cells[2:])} |"

    title = row("SPKR", head)
    line = "-" * len(title)
    rows = [row(name, [str(r.utterances), str(r.words), *percentages(r)]) for name, r in groups]
    return [
        f"{scores.metric.upper()}, rates in percent, text policy {scores.policy}",
        line,
        title,
        line,
        *rows[:-1],
        line,
        rows[-1],
        line,
    ]
