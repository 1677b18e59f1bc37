"""ESPnet's configurations, read by ESPnet's own parsers before the first stage runs.

ESPnet tells of a misspelt key when it starts, which in a recipe may be hours of data preparation and
a classifier later.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
from pathlib import Path
from typing import Any, Mapping, Sequence

from espnet_saliency import plugin
from espnet_saliency.errors import UserError
from espnet_saliency.recipe.jobs import call_in_fork
from espnet_saliency.recipe.options import RecipeOptions
from espnet_saliency.recipe.steps import Stage
from espnet_saliency.yaml_file import read_yaml, section

_TASKS = {"asr": "ASRTask", "cls": "CLSTask", "lm": "LMTask"}
_BUILT_FROM_CONF = ("frontend", "encoder", "decoder")
"""Parts of a model that take the arguments of their `…_conf` as they stand."""


def check_configs(options: RecipeOptions, stages: Sequence[Stage]) -> None:
    """Refuse configurations that the stages to come would stop at.

    Args:
        options: name the configurations.
        stages: those asked for; nothing is looked at where all of their programs are finished.

    Raises:
        UserError: an unknown key, a value of the wrong type, a class that ESPnet does not have, or an
            argument that the class does not have; naming the file.
    """
    files = {6: ("lm", options.lm_config), 7: ("cls", options.accent_config), 11: ("asr", options.asr_config),
             12: ("inference", options.inference_config)}  # fmt: skip
    to_run = {stage.number for stage in stages if any(not step.finished() for step in stage.steps)}
    wanted = [files[number] for number in sorted(to_run & files.keys())]
    if wanted:
        call_in_fork(_check, wanted)


def _check(files: Sequence[tuple[str, Path]]) -> None:
    for task, path in files:
        if task in plugin.TASKS:
            plugin.register([task])
        if task == "inference":
            parser, choices = importlib.import_module("espnet2.bin.asr_inference").get_parser(), ()
            needed = ["--output_dir", "x", "--data_path_and_name_and_type", "x,y,z"]
        else:
            its_class = getattr(importlib.import_module(f"espnet2.tasks.{task}"), _TASKS[task])
            parser, choices, needed = its_class.get_parser(), its_class.class_choices_list, []
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parser.parse_args([*needed, "--config", str(path)])
        except SystemExit:
            reason = said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
            reason = reason.replace(f" (from {path})", "")
            raise UserError(f"{path}: ESPnet refuses it: {reason}: correct it there") from None
        config = read_yaml(path)
        for choice in choices:
            _check_class(choice.name, choice.classes, config, path)


def _check_class(name: str, classes: Mapping[str, type], config: Mapping[str, Any], path: Path) -> None:
    value = config.get(name)
    if value is None:
        return
    if str(value).lower() not in classes:
        raise UserError(f"{path}: {name}: {value!r} is none of {', '.join(sorted(classes))}")
    parameters = inspect.signature(classes[str(value).lower()]).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = sorted(section(config, f"{name}_conf", path).keys() - parameters.keys())
    if name in _BUILT_FROM_CONF and unknown and not takes_any:
        raise UserError(
            f"{path}: {name}_conf.{unknown[0]}: {name} {value} has no such argument; it has {', '.join(parameters)}"
        )
