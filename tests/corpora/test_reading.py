"""Tables as they come: marks, line ends, quotes, separators; ids and labels."""

from __future__ import annotations

import pytest
from espnet_saliency.corpora.reading import (
    header,
    identifier,
    label,
    lines,
    locate,
    read_pairs,
    read_table,
    utterance_id,
)
from espnet_saliency.errors import UserError


def table(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_tab_separated_quotes_are_text(tmp_path):
    path = table(tmp_path, "a.tsv", b'\xef\xbb\xbfa\tb\r\n"x\ty"\r\n\r\n1\t2\t3\r\n1\r\n\xff\t2')
    rows = list(read_table(path, ("a", "b")))
    assert [(row.line, row.values) for row in rows[:1]] == [(2, {"a": '"x', "b": 'y"'})]
    assert [(row.line, row.problem) for row in rows[1:]] == [
        (4, "3 fields where the header has 2 (a stray separator or quote)"),
        (5, "1 fields where the header has 2 (a stray separator or quote)"),
        (6, "a character that is not UTF-8"),
    ]


def test_comma_separated_quotes_are_quotes_and_end_with_the_line(tmp_path):
    path = table(tmp_path, "a.csv", b'a,b\n"x, ""y""",2\n"open,2\nlone\rreturn,2\n')
    rows = list(read_table(path))
    assert rows[0].values == {"a": 'x, "y"', "b": "2"} and rows[0].problem == ""
    assert rows[1].problem.startswith("1 fields where the header has 2")
    assert rows[2].values == {"a": "lone return", "b": "2"} and rows[2].problem == ""


def test_only_line_feeds_end_a_line(tmp_path):
    path = table(tmp_path, "text", "u1 a\u2028b\x85c\rd\n  \nu2\nu3  x  y \n".encode())
    assert [number for number, _ in lines(path)] == [1, 3, 4]
    assert list(read_pairs(path)) == [
        (1, "u1", "a\u2028b\x85c\rd"),
        (3, "u2", ""),
        (4, "u3", "x  y "),
    ]


@pytest.mark.parametrize(
    "content, message",
    [(b"", "is empty"), (b"\n\n", "is empty"), (b"a\tb\ta\n", "column 'a' is there twice")],
)
def test_bad_headers(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        header(table(tmp_path, "a.tsv", content))


def test_a_missing_column_is_named_at_once(tmp_path):
    path = table(tmp_path, "a.tsv", b"a\tb\n")
    with pytest.raises(UserError, match=r"a.tsv: no column 'c'; it has: a, b"):
        read_table(path, ("a", "c"))
    with pytest.raises(UserError, match="b.tsv: no such file"):
        read_table(tmp_path / "b.tsv")
    with pytest.raises(UserError, match="segments: no such file"):
        read_pairs(tmp_path / "segments")


def test_ids_and_labels():
    assert identifier(" a b/c\\d\t") == "a_b_c_d"
    assert utterance_id("s1", "s1-001") == "s1-001"
    assert utterance_id("s1", "s10-001") == "s1-s10-001"
    assert identifier("\ufeff\x07a\u200b\u202ab") == "ab" and label("...") == ""
    assert identifier("می\u200cشود") == "می\u200cشود"
    assert label("  South\u00a0AFRICAN ") == "south_african"
    assert label("\u200bWelsh / English\ufeff") == "welsh_english"


def test_the_folder_itself_comes_first_then_below_then_above(tmp_path):
    fits = lambda folder: (folder / "mark").is_file()  # noqa: E731
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "mark").touch()
    assert locate(tmp_path / "a", fits, "mark") == tmp_path
    (inner / "mark").touch()
    assert locate(tmp_path / "a", fits, "mark") == inner
    (tmp_path / "a" / "mark").touch()
    assert locate(tmp_path / "a", fits, "mark") == tmp_path / "a"
    with pytest.raises(UserError, match="no mark there, nor one level above or below it"):
        locate(tmp_path, lambda folder: False, "mark")
