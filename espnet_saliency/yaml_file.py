"""YAML files as configurations hold them: keys with values, each key once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import yaml

from espnet_saliency.errors import UserError


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses a key that is given twice: the first value would be lost in silence."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is given twice: keep one", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file with their values; {} where it is empty.

    Raises:
        UserError: it cannot be read as YAML, holds anything but keys with values, a key that is no
            text, or one twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8; 2020-99-99 looks like a date
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not keys with values")
    if strange := [key for key in content if not isinstance(key, str)]:
        raise UserError(f"{path}: key {strange[0]!r} is no text: put it in quotes, or remove it")
    return content


def section(config: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """The keys and values under a key of a configuration; {} where it is absent or empty.

    Args:
        config: what `read_yaml` gave.
        key: e.g. "frontend_conf".
        path: the file to name.

    Raises:
        UserError: something else stands there.
    """
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict) or any(not isinstance(name, str) for name in value):
        raise UserError(f"{path}: {key}: {value!r} is no mapping of options to values")
    return value
