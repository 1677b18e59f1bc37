"""YAML as configurations hold it."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_saliency.errors import UserError
from espnet_saliency.yaml_file import read_yaml, section


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "conf.yaml"


def test_keys_with_values(file):
    file.write_text("a: 1\nb: {c: [x, 2.5]}\nd:\n")
    config = read_yaml(file)
    assert config == {"a": 1, "b": {"c": ["x", 2.5]}, "d": None}
    assert section(config, "b", file) == {"c": ["x", 2.5]}
    assert section(config, "d", file) == section(config, "absent", file) == {}
    file.write_text("# nothing\n")
    assert read_yaml(file) == {}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"nj: 2\nlang: en\nnj: 3\n", "key 'nj' is given twice: keep one in .*, line 3, column 1"),
        (b"a: {b: 1, b: 2}\n", "key 'b' is given twice"),
        (b"- a\n", "holds a list, not keys with values"),
        (b"1: a\n", "key 1 is no text: put it in quotes"),
        (b"a: [1,\n", "not readable as YAML"),
        (b"a:\tb\n\tc: d\n", "not readable as YAML"),
        (b"a: caf\xe9\n", "not readable as YAML: 'utf-8'"),
        (b"a: 2020-99-99\n", "not readable as YAML: month must be in 1..12"),
    ],
)
def test_anything_else_is_one_line_that_names_the_file(file, content, message):
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)
    with pytest.raises(UserError, match="absent.yaml: No such file"):
        read_yaml(file.with_name("absent.yaml"))


@pytest.mark.parametrize("value", [3, [1], "x", {1: 2}])
def test_a_section_that_is_none(file, value):
    with pytest.raises(UserError, match="conf.yaml: frontend_conf: .* is no mapping of options to values"):
        section({"frontend_conf": value}, "frontend_conf", file)
