"""--sweep: several arms of one, each with other settings of its augmentation."""

from __future__ import annotations

from typing import Any, Mapping

import yaml

from espnet_saliency.errors import UserError
from espnet_saliency.saliency.specaug import MAPLESS

_OF_A_MAP = ("map_method", "layer", "target", "reference_accent", "min_confidence")
_OF_WEIGHTS = ("temperature", "uniform_mix", "weight_by")


def read_sweep(text: str) -> dict[str, list]:
    """"aug.mask_ratio=0.1,0.2 aug.fill=mean,noise" -> {"mask_ratio": [0.1, 0.2], "fill": [...]}

    Raises:
        UserError: anything else, a key or value given twice, a value that is no single word.
    """
    swept: dict[str, list] = {}
    for word in text.split():
        key, equals, values = word.partition("=")
        if not key.startswith("aug.") or not equals or not all(values.split(",")):
            raise UserError(f"--sweep {word!r}: write aug.<key of specaug_conf>=value,value,…")
        key = key.removeprefix("aug.")
        if key in swept:
            raise UserError(f"--sweep {text!r}: {key} is given twice")
        swept[key] = []
        for value in (_read_value(word, one) for one in values.split(",")):
            if value in swept[key]:
                raise UserError(f"--sweep {word!r}: a value is given twice")
            swept[key].append(value)
    return swept


def _read_value(word: str, text: str) -> Any:
    if text[0] in "[{":
        raise UserError(
            f"--sweep {word!r}: a sweep goes over single values, no lists: write conf/aug/NAME.yaml for each list"
        )
    if not text.replace(".", "").replace("_", "").replace("-", "").isalnum():
        raise UserError(f"--sweep {word!r}: {text!r} cannot be part of a folder's name")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2020-99-99 looks like a date
        raise UserError(f"--sweep {word!r}: {text!r} is no YAML value") from error


def set_key(conf: dict, key: str, value: Any) -> None:
    """Set a key, or one inside another: specaug.num_time_mask.

    Raises:
        UserError: what lies outside is no mapping.
    """
    *outer, last = key.split(".")
    for name in outer:
        conf = conf.setdefault(name, {})
        if not isinstance(conf, dict):
            raise UserError(f"--sweep aug.{key}: {name} is {conf!r} and has no keys inside it")
    conf[last] = value


def with_say(setting: Mapping[str, Any], conf: Mapping[str, Any]) -> dict[str, Any]:
    """What of a sweep's setting makes a difference to an arm: random masks have no temperature.

    Args:
        setting: what the sweep sets.
        conf: `specaug_conf` with that set.
    """
    method = conf.get("method", "grad_cam")
    silent: tuple[str, ...] = _OF_A_MAP if method in MAPLESS else ()
    if method in ("random", "frozen") and conf.get("protect", "none") == "none":
        silent += _OF_WEIGHTS
    return {key: value for key, value in setting.items() if key not in silent}
