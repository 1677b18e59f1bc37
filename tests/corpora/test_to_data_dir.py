"""Each published corpus to data directories: nothing lost, read-only, the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from espnet_saliency import corpora
from espnet_saliency.datadir.prepare import write_data_dir
from espnet_saliency.datadir.rejection import RejectionLog
from espnet_saliency.datadir.validate import validate_data_dir
from fixtures import MAKERS

# Corpus of the recipe -> (fixture, how many utterances its publisher lists)
CASES = {
    "librispeech": ("librispeech", lambda root: _librispeech(root)),
    "edacc": ("edacc", lambda root: sum(_lines(root / n / "segments") for n in ("dev", "test"))),
    "commonaccent": ("commonaccent", lambda root: sum(_lines(p) - 1 for p in root.rglob("*.csv"))),
    "commonaccent from a release": (
        "commonvoice_en",
        lambda root: _lines(root / "en" / "validated.tsv") - 1,
    ),
    "commonvoice_fa": (
        "commonvoice_fa",
        lambda root: sum(_lines(root / "fa" / f"{n}.tsv") - 1 for n in ("train", "dev", "test")),
    ),
    "pdid": ("pdid", lambda root: _lines(root / "metadata.csv") - 1),
}


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines())


def _librispeech(root: Path) -> int:
    listed = {
        line.split()[0] for t in root.rglob("*.trans.txt") for line in t.read_text().splitlines()
    }
    return len(listed | {path.stem for path in root.rglob("*.flac")})


def prepare(name: str, root: Path, data: Path) -> tuple[int, int]:
    """What stage 1 does; the utterances written and those listed in rejected.tsv."""
    module = corpora.load(name.split()[0])
    corpus = module.prepare(root, module.Options(), 1)
    written = 0
    with RejectionLog(data / "rejected.tsv") as log:
        for set_name, utterances in corpus.sets.items():
            written += write_data_dir(data / set_name, utterances, log).utterances
            validate_data_dir(data / set_name)
        log.extend(corpus.rejected)
        log.extend(corpus.excluded)
    return written, log.count


@pytest.mark.parametrize("name", CASES)
def test_counts_in_are_counts_out_and_rejections(tmp_path, name):
    maker, count = CASES[name]
    root = MAKERS[maker](tmp_path / "corpus", broken=True)
    entries = [root, *root.rglob("*")]
    for path in entries:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        written, rejected = prepare(name, root, tmp_path / "data")
        assert rejected >= 3 and written + rejected == count(root)
        prepare(name, root, tmp_path / "again")
        assert [root, *root.rglob("*")] == entries
    finally:
        for path in entries:
            path.chmod(0o755)
    first = {
        p.relative_to(tmp_path / "data"): p.read_bytes()
        for p in (tmp_path / "data").rglob("*")
        if p.is_file()
    }
    second = {
        p.relative_to(tmp_path / "again"): p.read_bytes()
        for p in (tmp_path / "again").rglob("*")
        if p.is_file()
    }
    assert first == second
