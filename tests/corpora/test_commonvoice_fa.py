"""Common Voice Persian: columns of each release, odd rows, the release on record."""

from __future__ import annotations

import tracemalloc

import pytest
from espnet_saliency.corpora.commonvoice_fa import Options, prepare
from espnet_saliency.errors import UserError
from fixtures import COMMONVOICE_COLUMNS, make_commonvoice_fa


def read(root, options=Options()):
    corpus = prepare(root, options, seed=1)
    return corpus, {name: list(utterances) for name, utterances in corpus.sets.items()}


@pytest.mark.parametrize("release", COMMONVOICE_COLUMNS)
def test_each_release(tmp_path, release):
    root = make_commonvoice_fa(tmp_path, clips=(12, 6, 6), release=release)
    corpus, sets = read(root)
    assert {name: len(s) for name, s in sets.items()} == {"train": 12, "dev": 6, "test": 6}
    assert corpus.rejected == [] and f"release {release}" in corpus.notes[0]
    for s in sets.values():
        assert {u.columns["release"] for u in s} == {release}
        assert all(u.path.is_file() and u.accent == "" for u in s)
        assert all(u.utt_id == f"{u.speaker}-{u.path.stem}" and len(u.speaker) == 32 for u in s)
    assert not {u.speaker for u in sets["train"]} & {u.speaker for u in sets["test"]}
    # Arabic yeh and ZWNJ, quotation marks, an unbalanced quote, digits: the training text has none.
    assert {c for u in sets["train"] for c in u.text} <= set("سلامخنهکتبرودشحپجیرآغگلکوی ۀدیا123 ")
    test = " ".join(u.text for u in sets["test"])
    assert "مي\u200cشود" in test and '"' in test and "«" in test


def test_broken_rows_are_listed(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(6, 3, 3), broken=True)
    corpus, sets = read(root)
    assert [r.reason for r in corpus.rejected[:2]] == [
        "14 fields where the header has 13 (a stray separator or quote): train.tsv line 11",
        "no text: train.tsv line 12",
    ]
    rows = sum(len((root / "fa" / f"{n}.tsv").read_text().splitlines()) - 1 for n in sets)
    assert rows == sum(map(len, sets.values())) + len(corpus.rejected)


def test_odd_rows(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(3, 3, 3))
    table = root / "fa" / "train.tsv"
    lines = table.read_bytes().splitlines()
    client = "c" * 128
    lines += [
        f"{client}\todd1.mp3\t1\tسلام\u2028دنیا\u00a0خوب\t\t2\t0\t\t\t\t\tfa\t".encode(),
        f"{client}\todd2.mp3\t1\t«!»\t\t2\t0\t\t\t\t\tfa\t".encode(),
        f"{client}\todd3.mp3\t1\tbad \t\t2\t0\t\t\t\t\tfa\t".encode() + b"\xff",
        "\todd4\t1\tسلام\t\t2\t0\t\t\t\t\tfa\t".encode(),
        f"{client}\t../../odd5.mp3\t1\tسلام\t\t2\t0\t\t\t\t\tfa\t".encode(),
        b"",
    ]
    table.write_bytes(b"\r\n".join(lines))
    corpus, sets = read(root)
    odd = {u.path.name: u for u in sets["train"][3:]}
    assert odd["odd1.mp3"].text == "سلام دنیا خوب"
    assert {r.utt_id[-4:]: r.reason.partition(":")[0] for r in corpus.rejected} == {
        "odd2": "no text",
        "odd3": "a character that is not UTF-8",
    }
    # Without a client each clip is its own speaker; a path never leaves the folder of the clips.
    assert odd["odd4.mp3"].speaker == "odd4"
    assert odd["odd5.mp3"].path == root / "fa" / "clips" / "odd5.mp3"


def test_own_labels(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(6, 3, 3))
    lines = (root / "fa" / "train.tsv").read_text(encoding="utf-8-sig").splitlines()
    client, path = lines[1].split("\t")[:2]
    labels = tmp_path / "labels.tsv"
    labels.write_text(f"client_id\taccent\n{client}\t Isfahani\n")
    _, sets = read(root, Options(accent_labels=labels))
    named = [u for u in sets["train"] if u.accent]
    assert len(named) == 2 and {u.accent for u in named} == {"isfahani"}
    assert all(u.speaker == client[:32] for u in named)
    labels.write_text(f"path\taccent\n{path}\tYazdi\n")
    _, sets = read(root, Options(accent_labels=labels))
    assert [u.path.name for u in sets["train"] if u.accent == "yazdi"] == [path]
    corpus, sets = read(root, Options(accent_labels=labels, unseen_accents=("Yazdi",)))
    assert len(sets["train"]) == 5 and len(corpus.excluded) == 1


@pytest.mark.parametrize(
    "content, message",
    [
        ("client_id\n1\n", "no column 'accent'"),
        ("speaker\taccent\n", "needs a column client_id or path"),
        ("path\taccent\na\tx\na\ty\n", "line 3: a has the accent y here and x above"),
        ("path\taccent\na\tx\tz\n", "line 2: 3 fields where the header has 2"),
        ("path\taccent\n\tx\n", "line 2: no path"),
    ],
)
def test_bad_labels(tmp_path, content, message):
    root = make_commonvoice_fa(tmp_path, clips=(3, 3, 3))
    labels = tmp_path / "labels.tsv"
    labels.write_text(content)
    with pytest.raises(UserError, match=message):
        prepare(root, Options(accent_labels=labels), 1)


def test_release_that_no_folder_names(tmp_path):
    root = make_commonvoice_fa(tmp_path / "x", clips=(3, 3, 3)).rename(tmp_path / "cv")
    corpus, sets = read(root)
    assert "--release 17.0" in corpus.notes[1] and sets["train"][0].columns["release"] == "unknown"
    corpus, sets = read(root, Options(release="25.0"))
    assert sets["train"][0].columns["release"] == "25.0" and len(corpus.notes) == 1


@pytest.mark.parametrize("level", [".", "cv", "cv/fa", "cv/fa/clips"])
def test_folders(tmp_path, level):
    make_commonvoice_fa(tmp_path / "x", clips=(3, 3, 3)).rename(tmp_path / "cv")
    assert len(read(tmp_path / level)[1]["train"]) == 3


def test_two_releases_are_ambiguous_and_another_language_is_not_taken(tmp_path):
    for release in ("13.0", "17.0"):
        root = make_commonvoice_fa(tmp_path, clips=(3, 3, 3), release=release)
    with pytest.raises(UserError, match="several folders fit, name one of them: .*13.0.*, .*17.0"):
        prepare(tmp_path, Options(), 1)
    (root / "fa").rename(root / "en")
    with pytest.raises(UserError, match="no folder fa with train.tsv"):
        prepare(root, Options(), 1)
    with pytest.raises(UserError, match="no folder fa with train.tsv"):
        prepare(root / "en", Options(), 1)


def test_what_is_missing_is_named(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(3, 3, 3))
    dev = root / "fa" / "dev.tsv"
    good = dev.read_text()
    dev.write_text(good.replace("sentence\t", "phrase\t", 1))
    with pytest.raises(UserError, match="dev.tsv: no column 'sentence'; it has: client_id, path"):
        prepare(root, Options(), 1)
    dev.write_text("")
    with pytest.raises(UserError, match="dev.tsv: the table is empty"):
        prepare(root, Options(), 1)
    dev.unlink()
    with pytest.raises(UserError, match="dev.tsv: no such file"):
        prepare(root, Options(), 1)
    (root / "fa" / "clips").rename(root / "fa" / "mp3")
    with pytest.raises(UserError, match="no folder clips beside the tables"):
        prepare(root, Options(), 1)


def test_memory_does_not_grow_with_the_tables(tmp_path):
    root = make_commonvoice_fa(tmp_path, clips=(3, 3, 3))
    table = root / "fa" / "train.tsv"
    head, row, *_ = table.read_text().splitlines()

    def peak(rows):
        with open(table, "w") as handle:
            handle.write(head + "\n")
            handle.writelines(row.replace(".mp3", f"{n}.mp3") + "\n" for n in range(rows))
        tracemalloc.start()
        assert sum(1 for _ in prepare(root, Options(), 1).sets["train"]) == rows
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    assert peak(5000) < 1.2 * peak(500) + 50_000
