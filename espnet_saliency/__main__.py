"""Launcher: `python -m espnet_saliency -m MODULE ARGUMENTS` runs an ESPnet program plugged in.

An existing ESPnet recipe gets the augmentation by `--python "python3 -m espnet_saliency"`. Whatever
else such a recipe asks of its Python (a script, `-c`, flags) happens as with Python itself.
"""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import sys
from typing import NoReturn, Sequence

from espnet_saliency import plugin
from espnet_saliency.errors import UserError

USAGE = f"""{__doc__}
For example: python -m espnet_saliency -m espnet2.bin.asr_train --config train.yaml …
"""

# Processes that are spawned import the main module again, and so have what it registers, but not a
# package's __main__: multiprocessing leaves alone what is named so. Without a spec it goes by the
# file.
__spec__ = None


def main(arguments: Sequence[str]) -> None:
    """Do what Python would do with `arguments`, plugged in where they name a module."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return
    flags = leading_flags(arguments)
    command = arguments[flags:]
    if len(command) < 2 or command[0] != "-m":
        _become_python(arguments)
    if flags:
        # They are for an interpreter that starts.
        _become_python([*arguments[:flags], "-m", "espnet_saliency", *command])
    try:
        run_module(command[1], command[2:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def leading_flags(arguments: Sequence[str]) -> int:
    """How many of the first arguments are flags of the interpreter, such as `-u` or `-W ignore`."""
    count = 0
    while count < len(arguments):
        flag = arguments[count]
        if not flag.startswith("-") or flag == "-" or flag[1] in "mc":
            break
        count += 2 if flag in ("-W", "-X", "--check-hash-based-pycs") else 1
    return min(count, len(arguments))


def tasks_of(program: str) -> tuple[str, ...]:
    """The tasks that a program may need; registering with a task imports it, which takes seconds.

    Args:
        program: name of a module, or its file.
    """
    espnet = re.search(r"espnet2[./\\]bin[./\\](\w+)(\.py)?$", program)
    if espnet is None or espnet[1].startswith("lightning_"):
        return plugin.TASKS
    if espnet[1].startswith("cls_"):
        return ("cls",)
    if espnet[1].startswith(("asr_", "s2t_", "st_", "slu_", "enh_s2t_")):
        return tuple(plugin.RECOGNISERS)
    # Such as launch and tokenize_text: recipes run many of them, and they need nothing of ours.
    return ()


def run_module(name: str, arguments: Sequence[str]) -> None:
    """`python -m name arguments` in this process, which stays the main module.

    Raises:
        UserError: there is no such module.
    """
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None:
        raise UserError(f"no module named {name}: check the name behind -m")
    sys.argv = [spec.origin or name, *arguments]
    plugin.register(tasks_of(name))
    # alter_sys would make the module the main one, and spawned processes would import that instead.
    runpy.run_module(name, run_name="__main__", alter_sys=False)


def _become_python(arguments: Sequence[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__mp_main__":
    plugin.register(tasks_of(sys.argv[0]))
elif __name__ == "__main__":
    main(sys.argv[1:])
