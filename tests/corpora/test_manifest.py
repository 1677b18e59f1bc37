"""The corpus that a table describes: how it is read, divided, and refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_saliency.corpora.manifest import Options, prepare, tables
from espnet_saliency.errors import UserError

HEADER = ("utt_id", "path", "text", "speaker", "accent")
DUKE = Path(__file__).resolve().parents[3] / "shared" / "data" / "duke_alnum"


def rows(speakers: int = 4, accents: tuple[str, ...] = ("us", "uk")) -> list[tuple[str, ...]]:
    """One utterance a speaker: us0-a, us1-a, ..., all of them in a.wav."""
    return [
        (f"{accent}{n}-a", "a.wav", f"text {n}", f"{accent}{n}", accent)
        for accent in accents
        for n in range(speakers)
    ]


def write(folder: Path, table: list[tuple[str, ...]], header=HEADER, name="manifest.tsv") -> Path:
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / "a.wav", np.zeros(800), 8000)
    separator = "," if name.endswith(".csv") else "\t"
    text = "".join(separator.join(row) + "\n" for row in [header, *table])
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, seed: int = 1, **options):
    return prepare(folder, Options(**options), seed)


def ids(corpus) -> dict[str, list[str]]:
    return {name: [u.utt_id for u in utterances] for name, utterances in corpus.sets.items()}


def everything(corpus) -> dict:
    return {u.utt_id: u for utterances in corpus.sets.values() for u in utterances}


def reasons(corpus) -> dict[str, str]:
    return {r.utt_id: r.reason for r in corpus.rejected}


def refuses(folder: Path, message: str, **options) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(folder, **options)
    assert "\n" not in str(error.value)


# Reading --------------------------------------------------------------------------------------


def test_an_utterance_as_the_table_has_it(tmp_path):
    header = (*HEADER, "split", "start", "end", "gender", "age")
    table = [
        ("us0-a", "a.wav", "  hello  there ", "us0", "us", "train", "0.5", "2", "f", "30"),
        ("b", "sub/b c.wav", "bye", "us1", "", "Valid", "", "", "", ""),
        ("c", "a.wav", "so long", "us2", "us", "test_far", "", "1.5", "not said", "20"),
    ]
    write(tmp_path, table, header)
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "sub" / "b c.wav", np.zeros((800, 2)), 8000)
    corpus = read(tmp_path, channel=1)
    assert ids(corpus) == {"train": ["us0-a"], "dev": ["us1-b"], "test_far": ["us2-c"]}
    assert (corpus.rejected, corpus.excluded, corpus.notes) == ([], [], [])
    first, second, third = everything(corpus).values()
    assert (first.text, first.speaker, first.accent) == ("hello there", "us0", "us")
    assert (first.start, first.end, first.channel) == (0.5, 2.0, 1)
    assert first.columns == {"gender": "f"}
    assert (second.accent, second.start, second.end, second.columns) == ("", None, None, {})
    assert second.path == tmp_path / "sub" / "b c.wav"
    assert (third.start, third.end, third.columns) == (0.0, 1.5, {"gender": "not_said"})


def test_csv_with_quotes_byte_order_mark_and_windows_line_ends(tmp_path):
    write(tmp_path, [])
    (tmp_path / "manifest.tsv").unlink()
    lines = [",".join((*HEADER, "split"))]
    for n, split in enumerate(("train", "dev", "test")):
        lines.append(f'{n},a.wav,"He said ""no"", twice",s{n},us,{split}')
    table = "\r\n".join(lines) + "\r\n\r\n"
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    corpus = read(tmp_path)
    assert {u.text for u in everything(corpus).values()} == {'He said "no", twice'}
    assert list(everything(corpus)) == ["s0-0", "s1-1", "s2-2"]


def test_quotes_in_a_tsv(tmp_path):
    table = rows(3, ("us",))
    texts = ['"say ""hi"" now"', '"no" and "yes"', '5" nails']
    table = [(row[0], row[1], text, *row[3:]) for row, text in zip(table, texts)]
    corpus = read(write(tmp_path, table))
    assert [everything(corpus)[f"us{n}-a"].text for n in range(3)] == [
        'say "hi" now', '"no" and "yes"', '5" nails',
    ]  # fmt: skip


def test_columns_under_other_names(tmp_path):
    header = ("id", "file", "sentence", "client", "dialect")
    write(tmp_path, rows(), header, "clips.csv")
    names = dict(
        manifest=Path("clips.csv"), utt_id_column="id", path_column="file", text_column="sentence",
        speaker_column="client", accent_column="dialect",
    )  # fmt: skip
    assert len(everything(read(tmp_path, **names))) == 8


def test_audio_lies_beside_a_table_elsewhere_or_has_a_whole_path(tmp_path):
    table = rows(3, ("us",))
    table[1] = (table[1][0], str(tmp_path / "tables" / "a.wav"), *table[1][2:])
    elsewhere = write(tmp_path / "tables", table, name="list.tsv") / "list.tsv"
    (tmp_path / "corpus").mkdir()
    corpus = read(tmp_path / "corpus", manifest=elsewhere)
    assert {u.path for u in everything(corpus).values()} == {tmp_path / "tables" / "a.wav"}


def test_ids_begin_with_the_speaker_and_hold_no_blank_or_slash(tmp_path):
    table = [
        ("ann lee_1", "a.wav", "x", "ann lee", "us"),
        ("x/2", "a.wav", "x", "bob", "us"),
        ("cy", "a.wav", "x", "cy", "us"),
    ]
    corpus = read(write(tmp_path, table))
    assert sorted(everything(corpus)) == ["ann_lee_1", "bob-x_2", "cy"]
    assert everything(corpus)["ann_lee_1"].speaker == "ann_lee"


def test_names_written_in_two_ways_of_unicode(tmp_path):
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    table = [*rows(), (f"{composed}-1", f"{decomposed}.wav", "x", composed, "us")]
    table.append((f"{decomposed}-2", f"{decomposed}.wav", "x", decomposed, "us"))
    soundfile.write(write(tmp_path, table) / f"{decomposed}.wav", np.zeros(800), 8000)
    corpus = read(tmp_path)
    assert corpus.rejected == []
    assert {u.speaker for u in everything(corpus).values() if "Jos" in u.utt_id} == {composed}


def test_group_columns_are_kept(tmp_path):
    table = [(*row, "tamil") for row in rows()]
    corpus = read(write(tmp_path, table, (*HEADER, "l1")), group_columns=("l1",))
    assert {u.columns["l1"] for u in everything(corpus).values()} == {"tamil"}


def test_accents_that_differ_in_case_are_one_and_it_is_said(tmp_path):
    table = rows(6, ("US",))
    table[0] = (*table[0][:4], "us ")
    corpus = read(write(tmp_path, table))
    assert {u.accent for u in everything(corpus).values()} == {"US"}
    assert corpus.notes == ["accent US is spelt US and us: taken as one"]


# Sets -----------------------------------------------------------------------------------------


def test_made_sets_share_no_speaker_and_have_each_accent(tmp_path):
    table = [(f"{row[0]}{n}", *row[1:]) for row in rows(10) for n in range(3)]
    corpus = read(write(tmp_path, table))
    speakers = {name: {(u.accent, u.speaker) for u in us} for name, us in corpus.sets.items()}
    assert [len(speakers[name]) for name in ("train", "dev", "test")] == [16, 2, 2]
    assert not speakers["train"] & speakers["test"] and not speakers["train"] & speakers["dev"]
    assert {accent for accent, _ in speakers["test"]} == {"us", "uk"}
    assert all(us == sorted(us, key=lambda u: u.utt_id) for us in corpus.sets.values())
    assert len(everything(corpus)) == 60 and corpus.notes == []


def test_made_sets_depend_on_the_seed_not_on_the_order_of_the_rows(tmp_path):
    forwards = read(write(tmp_path / "a", rows(20)))
    backwards = read(write(tmp_path / "b", rows(20)[::-1]))
    assert ids(forwards) == ids(backwards)
    assert ids(forwards) != ids(read(tmp_path / "a", seed=2))


def test_shares_of_the_made_sets(tmp_path):
    corpus = read(write(tmp_path, rows(10, ("us",))), split_shares=(0.5, 0.2, 0.3))
    assert {name: len(us) for name, us in corpus.sets.items()} == {"train": 5, "dev": 2, "test": 3}


def test_accent_with_one_speaker_is_said_and_only_trained_on(tmp_path):
    corpus = read(write(tmp_path, [*rows(4, ("us",)), *rows(1, ("uk",))]))
    assert "uk0-a" in ids(corpus)["train"]
    assert corpus.notes == ["accent uk has 1 speaker: none for dev and test"]


def test_missing_dev_is_made_out_of_train(tmp_path):
    table = [(*row, "test" if row[3] == "us0" else "train") for row in rows(10, ("us",))]
    corpus = read(write(tmp_path, table, (*HEADER, "split")))
    assert {name: len(us) for name, us in corpus.sets.items()} == {"train": 8, "dev": 1, "test": 1}
    assert ids(corpus)["test"] == ["us0-a"]
    assert corpus.notes == ["no row says dev: made out of train, by speaker"]


def test_rows_without_a_split_are_left_out_and_listed(tmp_path):
    table = [(*row, s) for row, s in zip(rows(4, ("us",)), ("train", "dev", "test", ""))]
    corpus = read(write(tmp_path, table, (*HEADER, "split")))
    assert [(r.utt_id, r.reason) for r in corpus.excluded] == [("us3-a", "manifest.tsv: no split")]
    assert len(everything(corpus)) == 3


def test_a_split_column_that_is_empty_is_as_good_as_none(tmp_path):
    plain = read(write(tmp_path / "a", rows(5)))
    empty = read(write(tmp_path / "b", [(*row, "") for row in rows(5)], (*HEADER, "split")))
    assert ids(plain) == ids(empty)


def test_speaker_in_train_and_test_is_said(tmp_path):
    table = [
        ("s-1", "a.wav", "x", "s", "us", "train"),
        ("s-2", "a.wav", "x", "s", "us", "test"),
        ("t-1", "a.wav", "x", "t", "us", "dev"),
    ]
    corpus = read(write(tmp_path, table, (*HEADER, "split")))
    assert corpus.notes == [
        "1 speaker is in train and in another set (first: s, also in test): "
        "scores there are not of unheard speakers"
    ]


def test_unseen_accents_are_only_in_test_unseen(tmp_path):
    write(tmp_path, rows(10, ("US", "uk")))
    seen, held = read(tmp_path), read(tmp_path, unseen_accents=("us",))
    assert {u.accent for u in held.sets["train"]} == {"uk"}
    # The same utterances are tested, held out or not.
    assert ids(held)["test_unseen"] == [u.utt_id for u in seen.sets["test"] if u.accent == "US"]
    assert len(everything(held)) + len(held.excluded) == 20


@pytest.mark.skipif(not DUKE.is_dir(), reason="the recordings are not at hand")
def test_real_recordings():
    corpus = read(DUKE)
    found = everything(corpus)
    assert {name: len(us) for name, us in corpus.sets.items()} == {
        "train": 115, "dev": 18, "test": 60, "test_unseen": 15,
    }  # fmt: skip
    assert len({u.speaker for u in found.values()}) == 70
    assert (corpus.rejected, corpus.excluded, corpus.notes) == ([], [], [])
    assert {u.accent for u in corpus.sets["test_unseen"]} == {"other"}


# Rows that are rejected -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "row, name, reason",
    [
        (("s-1", "b.wav", "x", "s", "us", "", ""), "s-1", "no file: b.wav in"),
        (("s-1", ".", "x", "s", "us", "", ""), "s-1", r"no file: \. in"),
        (("s-1", "", "x", "s", "us", "", ""), "s-1", "no path"),
        (("s-1", "a.wav", " \u00a0 ", "s", "us", "", ""), "s-1", "empty text"),
        (("s-1", "a.wav", "x", " ", "us", "", ""), "s-1", "no speaker"),
        (("", "a.wav", "x", "s", "us", "", ""), "line-10", "no id"),
        (("s-1", "a.wav", "x", "s", "us", "2", "1"), "s-1", r"ends \(1 s\) before it starts \(2 s\)"),
        (("s-1", "a.wav", "x", "s", "us", "2", "2"), "s-1", "before it starts"),
        (("s-1", "a.wav", "x", "s", "us", "2", ""), "s-1", "without an end"),
        (("s-1", "a.wav", "x", "s", "us", "0,5", "1"), "s-1", "must be numbers of seconds"),
        (("s-1", "a.wav", "x", "s", "us", "-1", "1"), "s-1", "from the beginning"),
        (("s-1", "a.wav", "x", "s", "us", "nan", "1"), "s-1", "from the beginning"),
        (("s-1", "a.wav", "x", "s", "us", ""), "s-1", "6 fields where the header has 7"),
    ],
)
def test_one_bad_row_is_listed_and_the_rest_goes_on(tmp_path, row, name, reason):
    table = [(*good, "", "") for good in rows()] + [row]
    corpus = read(write(tmp_path, table, (*HEADER, "start", "end")))
    assert len(everything(corpus)) == 8
    (rejected,) = corpus.rejected
    assert (rejected.utt_id, rejected.stage) == (name, "corpus")
    assert rejected.reason.endswith(": manifest.tsv line 10")
    assert re.search(reason, rejected.reason)


def test_a_row_that_is_not_utf8_is_listed(tmp_path):
    write(tmp_path, rows())
    with open(tmp_path / "manifest.tsv", "ab") as handle:
        handle.write("s-1\ta.wav\tcafé\ts\tus\n".encode("latin-1"))
    corpus = read(tmp_path)
    assert len(everything(corpus)) == 8
    assert "not UTF-8" in reasons(corpus)["s-1"]


def test_of_an_id_twice_the_first_good_row_is_kept(tmp_path):
    table = [
        *rows(),
        ("us1-a", "a.wav", "again", "us1", "us"),
        ("uk9-a", "absent.wav", "x", "uk9", "uk"),
        ("uk9-a", "a.wav", "the good one", "uk9", "uk"),
        ("us1 b", "a.wav", "x", "us1", "us"),
        ("us1/b", "a.wav", "x", "us1", "us"),
        ("us1-a", "a.wav", "of somebody else", "us2", "us"),
    ]
    corpus = read(write(tmp_path, table))
    assert [(r.utt_id, r.reason) for r in sorted(corpus.rejected, key=lambda r: r.reason)] == [
        ("us1-a", "duplicate id: 'us1-a', line 3 ('us1-a') is kept: manifest.tsv line 10"),
        ("us2-us1-a", "duplicate id: 'us1-a', line 3 ('us1-a') is kept: manifest.tsv line 15"),
        ("us1_b", "duplicate id: 'us1/b', line 13 ('us1 b') is kept: manifest.tsv line 14"),
        ("uk9-a", f"no file: absent.wav in {tmp_path}: manifest.tsv line 11"),
    ]
    found = everything(corpus)
    assert found["us1-a"].text == "text 1" and found["uk9-a"].text == "the good one"
    assert len(found) + len(corpus.rejected) == len(table)


def test_of_an_id_twice_the_one_that_is_tested_is_kept(tmp_path):
    splits = ("train", "dev", "test", "test_phone", "", "train", "dev")
    table = [(f"us{n}-a", "a.wav", split, f"us{n}", "us", split) for n, split in enumerate(splits)]
    table += [
        ("us0-a", "a.wav", "test", "us0", "us", "test"),
        ("us0-a", "a.wav", "dev", "us0", "us", "dev"),
        ("us1-a", "a.wav", "train", "us1", "us", "train"),
        ("us3-a", "a.wav", "train", "us3", "us", "train"),
        ("us4-a", "a.wav", "train", "us4", "us", "train"),
    ]
    corpus = read(write(tmp_path, table, (*HEADER, "split")))
    assert ids(corpus) == {
        "train": ["us4-a", "us5-a"],
        "dev": ["us1-a", "us6-a"],
        "test": ["us0-a", "us2-a"],
        "test_phone": ["us3-a"],
    }
    assert all(u.text == name for name, us in corpus.sets.items() for u in us)
    assert len(corpus.rejected) == 5 and corpus.excluded == []


def test_speakers_whose_ids_begin_alike_do_not_clash(tmp_path):
    table = [(f"s{n}_a", "a.wav", "x", f"s{n}", "us") for n in (1, 10, 2, 11)]
    found = everything(read(write(tmp_path, table)))
    # s10_a sorts before s1_a, though s1 sorts before s10.
    assert sorted(found) == ["s1-s1_a", "s10_a", "s11_a", "s2_a"]
    assert [found[name].speaker for name in sorted(found)] == ["s1", "s10", "s11", "s2"]


# Tables that are refused ----------------------------------------------------------------------


def test_no_folder_no_table_and_two(tmp_path):
    refuses(tmp_path / "x", "no such folder")
    refuses(tmp_path, "has no manifest.tsv or manifest.csv: name the table with --manifest FILE")
    refuses(tmp_path, "--manifest x.tsv: no such file", manifest=Path("x.tsv"))
    write(tmp_path, rows())
    write(tmp_path, rows(), name="manifest.csv")
    refuses(tmp_path, "manifest.tsv and manifest.csv: name one with --manifest")
    assert len(everything(read(tmp_path, manifest=Path("manifest.csv")))) == 8
    assert tables(tmp_path, Options(manifest=Path("manifest.csv"))) == [tmp_path / "manifest.csv"]


@pytest.mark.parametrize("missing", range(5))
def test_each_needed_column(tmp_path, missing):
    header = [name if n != missing else "other" for n, name in enumerate(HEADER)]
    write(tmp_path, rows(), tuple(header))
    has, name = ", ".join(header), HEADER[missing]
    refuses(tmp_path, f"no column '{name}'; it has {has}: say which with --{name}_column")


def test_columns_that_the_user_named_must_be_there(tmp_path):
    write(tmp_path, rows())
    refuses(tmp_path, "no column 'subset'; it has .*--split_column", split_column="subset")
    refuses(tmp_path, "--group_columns l1: .*no such column", group_columns=("l1",))
    refuses(tmp_path, "--group_columns dur: becomes the file utt2dur", group_columns=("dur",))
    refuses(tmp_path, "--group_columns a/b: ", group_columns=("a/b",))


def test_other_separators_encodings_and_an_empty_table(tmp_path):
    write(tmp_path, rows(), name="x.csv").joinpath("x.csv").rename(tmp_path / "manifest.tsv")
    refuses(tmp_path, "its header is one column, 'utt_id,path,text,speaker,accent': name it .csv")
    text = (tmp_path / "manifest.tsv").read_text()
    (tmp_path / "manifest.tsv").write_text(text.replace(",", ";"))
    refuses(tmp_path, "save it with commas or tabs")
    (tmp_path / "manifest.tsv").write_text(text.replace(",", "\t"), encoding="utf-16")
    refuses(tmp_path, "is not UTF-8; save it as UTF-8 text")
    (tmp_path / "manifest.tsv").write_text("")
    refuses(tmp_path, "the table is empty")
    write(tmp_path, [])
    refuses(tmp_path, "nothing to train on, no good row")


def test_speakers_that_become_the_same(tmp_path):
    table = [*rows(), ("1", "a.wav", "x", "ann lee", "us"), ("2", "a.wav", "x", "ann_lee", "us")]
    refuses(
        write(tmp_path, table),
        r"speakers 'ann lee' \(line 10\) and 'ann_lee' \(line 11\) both become 'ann_lee'",
    )


def test_two_people_with_one_id(tmp_path):
    table = [*rows(), ("us1-b", "a.wav", "x", "us1", "uk")]
    refuses(
        write(tmp_path, table),
        "speaker 'us1' has accent 'us' in line 3 and 'uk' in line 10: give each person an own id",
    )


def test_unknown_split(tmp_path):
    table = [(*row, "train") for row in rows()] + [("s-1", "a.wav", "x", "s", "us", "eval")]
    refuses(
        write(tmp_path, table, (*HEADER, "split")),
        "line 10: s-1 has split 'eval'; known are train, dev, valid, .* begin with test",
    )


def test_nothing_to_train_on(tmp_path):
    table = [(*row, "test") for row in rows()]
    refuses(write(tmp_path, table, (*HEADER, "split")), "nothing to train on, no row says train")
    (tmp_path / "a.wav").unlink()
    refuses(tmp_path, "nothing to train on, no good row; .* bad one: no file: .* manifest.tsv line 2")


def test_too_few_speakers_for_three_sets(tmp_path):
    refuses(
        write(tmp_path, rows(2)),
        r"too few speakers to make dev of \(4, 3 of one accent are needed\): add speakers",
    )


def test_options_that_are_wrong(tmp_path):
    write(tmp_path, rows())
    refuses(tmp_path, "--channel -1: channels are counted from 0", channel=-1)
    refuses(tmp_path, "--split_shares 0.9 0.1: three shares", split_shares=(0.9, 0.1))
    refuses(tmp_path, "must be positive and sum to 1", split_shares=(0.9, 0.1, 0.1))
    refuses(tmp_path, "--unseen_accents fi: .* the corpus has uk, us", unseen_accents=("fi",))
