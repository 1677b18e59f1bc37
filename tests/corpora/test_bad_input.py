"""Every reader on corpora that came to harm: a bad row is a rejected row, and nothing is lost."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from pathlib import Path

import pytest
from espnet_saliency import corpora
from espnet_saliency.datadir.kaldi import read_table
from espnet_saliency.datadir.prepare import write_data_dir
from espnet_saliency.datadir.rejection import RejectionLog
from espnet_saliency.datadir.validate import validate_data_dir
from espnet_saliency.errors import UserError
from fixtures import (
    make_commonaccent_lists,
    make_commonvoice_en,
    make_commonvoice_fa,
    make_edacc,
    make_librispeech,
    make_pdid,
)


def stage_1(name: str, root: Path, data: Path) -> tuple[dict[str, dict[str, str]], list[list[str]]]:
    """What stage 1 does with a corpus: the texts of each set, and the lines of rejected.tsv."""
    module = corpora.load(name)
    corpus = module.prepare(root, module.Options(), 1)
    with RejectionLog(data / "rejected.tsv") as log:
        for set_name, utterances in corpus.sets.items():
            write_data_dir(data / set_name, utterances, log)
            validate_data_dir(data / set_name)
        log.extend(corpus.rejected)
        log.extend(corpus.excluded)
    lines = (data / "rejected.tsv").read_text(encoding="utf-8").splitlines()[1:]
    texts = {set_name: read_table(data / set_name / "text") for set_name in corpus.sets}
    return texts, [line.split("\t") for line in lines]


def append(path: Path, *lines: str) -> None:
    with open(path, "ab") as handle:
        handle.writelines(line.encode() + b"\r\n" for line in lines)


def count(texts: dict[str, dict[str, str]], rejected: list) -> int:
    return sum(map(len, texts.values())) + len(rejected)


def kinds(rejected: list[list[str]]) -> list[str]:
    return sorted(reason.partition(":")[0] for _, _, reason in rejected)


# Doubles ----------------------------------------------------------------------------------------


def test_commonvoice_fa_doubles(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(6, 3, 3)) / "fa"
    names = ("train", "dev", "test")
    rows = {name: (root / f"{name}.tsv").read_text().splitlines() for name in names}
    append(root / "train.tsv", rows["train"][1], rows["dev"][1], rows["test"][1])
    append(root / "dev.tsv", rows["test"][2])
    texts, rejected = stage_1("commonvoice_fa", root, tmp_path / "data")
    assert {name: len(set_) for name, set_ in texts.items()} == {"train": 6, "dev": 3, "test": 3}
    assert kinds(rejected) == ["duplicate id"] * 4
    assert [line[2] for line in rejected if "train.tsv and in test.tsv" in line[2]]
    first = rows["test"][1].split("\t")
    assert f"{first[0][:32]}-{Path(first[1]).stem}" in texts["test"]


def test_commonaccent_doubles(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(2, 1, 1), accents=("us", "wales"))
    lists = root / "data" / "en_cv7"
    rows = {}
    for name in ("train", "dev", "test"):
        with open(lists / f"{name}.csv", newline="") as handle:
            rows[name] = list(csv.reader(handle))
    renamed = [*rows["test"][2][:1], "another-id", *rows["test"][2][2:]]
    for row in (rows["train"][1], rows["dev"][1], rows["test"][1], renamed):
        append(lists / "train.csv", ",".join(row))
    append(lists / "dev.csv", ",".join(rows["test"][1]))
    texts, rejected = stage_1("commonaccent", root, tmp_path / "data")
    assert {name: list(set_) for name, set_ in texts.items()} == {
        name: sorted(row[1] for row in table[1:]) for name, table in rows.items()
    }
    assert kinds(rejected) == ["duplicate id"] * 5
    assert "another-id" in [line[0] for line in rejected]


def test_edacc_doubles(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=4, test_conversations=2, utterances=4)
    for table in ("segments", "text", "utt2spk"):
        lines = {n: (root / n / table).read_text().splitlines() for n in ("dev", "test")}
        append(root / "dev" / table, lines["dev"][0], lines["test"][0])
        append(root / "test" / table, lines["test"][1])
    texts, rejected = stage_1("edacc", root, tmp_path / "data")
    assert len(texts["train"]) + len(texts["dev"]) == 16 and len(texts["test"]) == 8
    assert kinds(rejected) == ["duplicate id"] * 3


def test_librispeech_doubles(tmp_path):
    root = make_librispeech(tmp_path, speakers=2, utterances=2)
    test = root / "test-other" / "160007" / "121"
    for part in ("train-clean-100", "dev-clean"):
        shutil.copytree(test, root / part / "160007" / "121")
    shutil.copytree(root / "dev-other" / "80007", root / "train-clean-100" / "80007")
    texts, rejected = stage_1("librispeech", root, tmp_path / "data")
    sizes = {"train": 4, "dev": 8, "test_clean": 4, "test_other": 4}
    assert {name: len(set_) for name, set_ in texts.items()} == sizes
    assert sorted(line[2] for line in rejected) == [
        *["duplicate id: in dev-clean and in test-other"] * 2,
        *["duplicate id: in train-clean-100 and in dev-other"] * 2,
        *["duplicate id: in train-clean-100 and in test-other"] * 2,
    ]


@pytest.mark.parametrize("splits", [False, True])
def test_pdid_doubles(tmp_path, splits):
    root = make_pdid(tmp_path, speakers=4, utterances=1, splits=splits)
    lines = (root / "metadata.csv").read_text(encoding="utf-8-sig").splitlines()
    test = next((line for line in lines if line.endswith("test")), lines[2])
    append(root / "metadata.csv", lines[1], test.replace(",test", ",train"))
    texts, rejected = stage_1("pdid", root, tmp_path / "data")
    assert sum(map(len, texts.values())) == 16 and kinds(rejected) == ["duplicate id"] * 2
    if splits:
        assert {name.rpartition("-")[2] for name in texts["test"]} >= {test.split(",")[0]}


# Odd characters ---------------------------------------------------------------------------------

ODD = "\u00a0one\u200b \u2018two\u2019\u00a0 three\ufeff"


def test_odd_characters_in_commonvoice(tmp_path):
    root = make_commonvoice_en(tmp_path, speakers=4, clips=1)
    table = root / "en" / "validated.tsv"
    rows = table.read_text(encoding="utf-8-sig").splitlines()
    n = next(n for n, row in enumerate(rows) if "United States English\t" in row)
    fields = rows[n].split("\t")
    fields[3], fields[9] = f'"{ODD}', "\u00a0UNITED  states English "
    double = [hashlib.sha512(b"x").hexdigest(), *fields[1:]]
    rows[n] = "\t".join(fields)
    table.write_bytes(("\ufeff" + "\r\n".join([*rows, "\t".join(double)])).encode())
    texts, rejected = stage_1("commonaccent", root, tmp_path / "data")
    found = {name.partition("-")[2]: text for set_ in texts.values() for name, text in set_.items()}
    assert re.fullmatch("\"?.?ONE.? .?TWO.? THREE", found[fields[1][:-4]].upper())
    assert count(texts, rejected) == len(rows)
    assert sum(reason.startswith("duplicate id") for _, _, reason in rejected) == 1


def test_odd_characters_in_librispeech(tmp_path):
    root = make_librispeech(tmp_path, speakers=1, utterances=4)
    table = root / "train-clean-100" / "7" / "121" / "7-121.trans.txt"
    names = [line.split()[0] for line in table.read_text().splitlines()]
    lines = [f"{names[0]}\t{ODD}", f"{names[1]} \u200b", f'{names[2]} "SO', f"{names[3]} caf"]
    table.write_bytes(("\ufeff" + "\r\n".join(lines)).encode() + b"\xe9\r\n")
    texts, rejected = stage_1("librispeech", root, tmp_path / "data")
    assert texts["train"] == {names[0]: "ONE 'TWO' THREE", names[2]: "SO"}
    assert kinds(rejected) == ["a character that is not UTF-8 in the text", "no text"]


def test_odd_characters_in_pdid(tmp_path):
    root = make_pdid(tmp_path, speakers=3, utterances=1)
    rows = (root / "metadata.csv").read_text(encoding="utf-8-sig").splitlines()
    file, _, speaker, _ = rows[1].split(",")
    rows[1] = f'{file},"a ""quoted"", {ODD}",{speaker},\u00a0TEHRANI\u200b '
    rows[2] = f'{rows[2].split(",")[0]},"an open quote,spk001,Tehrani'
    rows[3] = f"{rows[3].split(',')[0]},\u200c\u00a0\u200b,spk002,Tehrani"
    (root / "metadata.csv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n\r\n").encode())
    texts, rejected = stage_1("pdid", root, tmp_path / "data")
    assert texts["train"][f"{speaker}-{file}"] == "a quoted one two three"
    accents = {a for n in texts for a in read_table(tmp_path / "data" / n / "utt2accent").values()}
    assert {a.casefold() for a in accents} == {"tehrani", "isfahani", "shirazi", "yazdi"}
    assert len(accents) == 4
    stray = "2 fields where the header has 4 (a stray separator or quote)"
    assert kinds(rejected) == [stray, "empty text"]
    assert count(texts, rejected) == len(rows) - 1


def test_odd_lines_of_edacc(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=4, test_conversations=2, utterances=4)
    for table in ("segments", "text", "utt2spk"):
        path = root / "test" / table
        text = path.read_text().replace("\n", "\r\n").replace(" ", "\t", 1)
        path.write_bytes(("\ufeff" + text).encode())
    lines = (root / "test" / "utt2spk").read_text(encoding="utf-8-sig").splitlines()
    lines[1] += " and more"
    (root / "test" / "utt2spk").write_text("\n".join(lines))
    end = float((root / "test" / "segments").read_text().splitlines()[3].split()[3])
    times = {"x": "1 nan", "y": f"0 {end + 1}", "z": "-1 2"}
    append(root / "test" / "segments", *(f"EDACC-C05-{c} EDACC-C05 {t}" for c, t in times.items()))
    append(root / "test" / "utt2spk", *(f"EDACC-C05-{c} EDACC-C05-A" for c in "xyz"))
    append(root / "test" / "text", *(f"EDACC-C05-{c} words" for c in "xyz"))
    texts, rejected = stage_1("edacc", root, tmp_path / "data")
    assert len(texts["test"]) == 8
    assert kinds(rejected) == [*["not 'recording start end'"] * 2, "segment outside the recording"]


def test_an_open_quote_in_the_background_of_edacc(tmp_path):
    root = make_edacc(tmp_path, dev_conversations=4, test_conversations=2, utterances=4)
    path = root / "linguistic_background.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("EDACC-C02-A,Female", 'EDACC-C02-A,"Female'), encoding="utf-8")
    # The answer goes on to the next quote: some speakers lose their accent, no utterance is lost.
    texts, rejected = stage_1("edacc", root, tmp_path / "data")
    assert count(texts, rejected) == 24 and rejected == []
    path.write_text(text.replace("EDACC-C02-A,", f'EDACC-C02-A,"{"x" * 200_000}'), encoding="utf-8")
    with pytest.raises(UserError, match="line [0-9]+: field larger .* unbalanced quote"):
        stage_1("edacc", root, tmp_path / "again")


# Folders and files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dev.csv", "test.csv"])
def test_a_missing_list_of_commonaccent_is_named(tmp_path, name):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    (root / "data" / "en_cv7" / name).unlink()
    with pytest.raises(UserError, match=f"has train.csv, but no {name}; and .* no folder en with"):
        stage_1("commonaccent", root, tmp_path / "out")


def test_a_missing_column_of_commonaccent_is_named(tmp_path):
    root = make_commonaccent_lists(tmp_path, clips=(1, 1, 1), accents=("us",))
    table = root / "data" / "en_cv7" / "dev.csv"
    table.write_text(table.read_text().replace("accent", "dialect", 1))
    with pytest.raises(UserError, match=r"dev.csv: no column 'accent'; it has: ID, .*dialect"):
        stage_1("commonaccent", root, tmp_path / "out")


@pytest.mark.parametrize("name", sorted({*corpora.NAMES} - {"mini_accent"}))
def test_an_empty_folder_is_said_to_lack_what_was_looked_for(tmp_path, name):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "a"))) as error:
        stage_1(name, tmp_path / "a", tmp_path / "out")
    assert re.search("no folder|no linguistic|no table|has no manifest", str(error.value))
    assert "\n" not in str(error.value)
