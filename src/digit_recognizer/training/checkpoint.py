"""Checkpoints of a member in training: it is resumed with the same weights as without the interruption.

Keras' BackupAndRestore is not exact: it saves neither dropout's random state nor the history, and writes its two files
one after the other.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.files import load_arrays, reading, replacing


class Checkpoint(NamedTuple):
    """The state of a training after an epoch."""

    epoch: int  # number of finished epochs
    history: dict[str, list[float]]  # their values
    losses: np.ndarray  # float32 [n], of each row when it was trained on last
    variables: list[np.ndarray]  # of the model, with random states, and of its optimizer


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Read a checkpoint; return None if there is none, and raise a `UserError` if it is damaged."""
    if not path.exists():
        return None
    with reading(path, "a checkpoint", "move it away"):
        arrays = load_arrays(path)
        history = json.loads(str(arrays.pop("history")))
        losses = arrays.pop("losses")
        return Checkpoint(len(history["loss"]), history, losses, [arrays[str(index)] for index in range(len(arrays))])


def write_checkpoint(path: Path, history: dict[str, list[float]], losses: np.ndarray, variables: Iterable[Any]) -> None:
    """Write the state of a training (`get_variables`) atomically."""
    values: dict[str, Any] = {str(index): np.asarray(value) for index, value in enumerate(variables)}
    with replacing(path) as temporary:
        np.savez(temporary, history=json.dumps(history), losses=losses, **values)


def get_variables(model: Any, optimizer: Any) -> list[Any]:
    """Return all variables of a `keras.Model`, with its random states, and of its optimizer."""
    return [*model.variables, *optimizer.variables]
