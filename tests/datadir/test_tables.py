"""Tables, their order, and the sort that does not need memory."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from espnet_saliency.datadir.kaldi import copy_kept, iter_table, read_table, write_category2utt
from espnet_saliency.datadir.parallel import ordered_map
from espnet_saliency.datadir.sorting import ExternalSort
from espnet_saliency.errors import UserError


def test_read_table(tmp_path):
    path = tmp_path / "text"
    # Only "\n" ends a line; everything behind the first blank is the value.
    path.write_bytes("a one  two\r\nb\tx\u2028y \nc\nd \u200cz".encode())
    assert read_table(path) == {"a": "one  two", "b": "x\u2028y", "c": "", "d": "\u200cz"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a 1\n\nb 2\n", "text: line 2 is empty"),
        (b"a 1\na 2\n", "text: a is there twice: '1' and '2'"),
        (b"a 1\nb \xff\n", "text: after line .: not UTF-8"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "text")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match="nothing: no such file"):
        list(iter_table(tmp_path / "nothing"))


def test_copy_kept(tmp_path):
    (tmp_path / "text").write_text("a 1\nb 2 2\nc 3\nd 4\n")
    (tmp_path / "kept").write_text("b x\nd y\n")
    copy_kept(tmp_path / "text", tmp_path / "new", tmp_path / "kept")
    assert (tmp_path / "new").read_text() == "b 2 2\nd 4\n"
    for missing in ("bb", "e"):
        (tmp_path / "kept").write_text(f"b x\n{missing} y\n")
        with pytest.raises(UserError, match=f"text: utterance {missing} is missing"):
            copy_kept(tmp_path / "text", tmp_path / "new", tmp_path / "kept")


def test_category2utt_is_what_espnet_reads(tmp_path):
    from espnet2.fileio.read_text import read_2columns_text

    (tmp_path / "utt2accent").write_text("a1 us\na2 irish\nb1 us\n")
    write_category2utt(tmp_path)
    table = read_2columns_text(tmp_path / "category2utt")
    assert {k: v.split(" ") for k, v in table.items()} == {"irish": ["a2"], "us": ["a1", "b1"]}


@pytest.mark.parametrize("n, limit", [(0, 4), (3, 4), (4, 4), (5000, 64), (5000, 1500)])
def test_external_sort_is_a_stable_sort(tmp_path, n, limit):
    records = [(random.Random(i).randrange(100), i) for i in range(n)]
    sort = ExternalSort(lambda record: record[0], tmp_path, limit)
    for record in records:
        sort.add(record)
    expected = sorted(records, key=lambda record: record[0])
    assert len(sort) == n and list(sort) == expected and list(sort) == expected
    assert list(tmp_path.iterdir()) == []


def test_ordered_map():
    tasks = list(range(-50, 50))
    expected = [abs(task) for task in tasks]
    assert list(ordered_map(abs, tasks)) == expected
    assert list(ordered_map(abs, tasks, nj=3)) == expected
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(ordered_map(abs, tasks, nj=2, executor=pool)) == expected


def test_ordered_map_takes_few_tasks_ahead_and_passes_errors_on():
    taken = []

    def tasks():
        for i in range(100):
            taken.append(i)
            yield i

    results = ordered_map(lambda i: 1 // (i - 5), tasks(), nj=2)
    assert next(results) == -1 and len(taken) <= 9
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert len(taken) < 20
