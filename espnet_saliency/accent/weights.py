"""Model files of ESPnet trainings, read without running what a stranger may have put in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from espnet_saliency.errors import UserError


def read_weights(path: Path, example: str) -> dict[str, Tensor]:
    """The parameters in a model file, on the CPU, by name.

    Args:
        path: the file.
        example: name of a file that would do, for messages.

    Raises:
        UserError: it cannot be read, holds more than weights, or none.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: not plain weights, so it is not loaded (it could run code); name a file such "
            f"as {example}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a model file that torch reads: {reason}") from error
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise UserError(f"{path}: not a model's weights; name a file such as {example}")
    return weights
