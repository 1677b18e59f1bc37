"""What must be installed beside this package, said in one line where it is not.

ESPnet and torch are the extra `espnet` of pyproject.toml and no plain dependency: recent pip refuses
ESPnet, and whoever adds this package to an environment of their own has both already.
"""

from __future__ import annotations

import importlib.util
import sys

from espnet_saliency.errors import UserError

NEEDED = ("torch", "torchaudio", "espnet2", "torcheval")


def require_espnet() -> None:
    """Check that ESPnet and what its tasks need can be imported, without importing them.

    Raises:
        UserError: names what is missing and the interpreter that lacks it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not installed for {sys.executable}: start ./run.sh, which makes "
            "its own environment, or uv pip install -r requirements.txt into this one"
        )
