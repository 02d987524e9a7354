"""Checkpoints of a member in training: it is resumed with the same weights as without the interruption.

Keras' BackupAndRestore is not exact: it saves neither dropout's random state nor the history, resumes an epoch at its
first batch, and writes its two files one after the other.
"""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import Config
from digit_recognizer.files import read_cached_arrays, replacing


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps."""

    epoch: int = 0  # of the next step
    step: int = 0  # next step of the epoch; 0 <= step < steps per epoch
    seconds: float = 0.0  # wall time of the steps before in this epoch
    means: dict[str, float] = field(default_factory=dict)  # loss and accuracy over the steps before in this epoch
    history: dict[str, list[float]] = field(default_factory=dict)  # of the epochs before
    variables: list[np.ndarray] = field(default_factory=list)  # of the model, with random states, and of its optimizer


def read_checkpoint(path: Path | None) -> Checkpoint:
    """Read a checkpoint; a missing or damaged file gives the state before the first step."""
    arrays = {} if path is None else read_cached_arrays(path)
    if "progress" not in arrays:
        return Checkpoint()
    progress = json.loads(str(arrays.pop("progress")))
    return Checkpoint(**progress, variables=[arrays[str(index)] for index in range(len(arrays))])


def count_begun_epochs(config: Config, path: Path | None) -> int:
    """Return the number of augmented epochs before that in which a training is resumed."""
    return min(max(read_checkpoint(path).epoch - 1, 0), config.augmented_epochs)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically."""
    progress = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint) if item.name != "variables"}
    variables: dict[str, Any] = {str(index): value for index, value in enumerate(checkpoint.variables)}
    with replacing(path) as temporary:
        np.savez(temporary, progress=json.dumps(progress), **variables)


def get_variables(model: Any) -> list[np.ndarray]:
    """Return the values of all variables of a compiled `keras.Model` and of its optimizer."""
    return [np.asarray(variable) for variable in _variables(model)]


def set_variables(model: Any, values: list[np.ndarray]) -> None:
    """Set all variables of a compiled `keras.Model` and of its optimizer to values of `get_variables`."""
    for variable, value in zip(_variables(model), values, strict=True):
        variable.assign(value)


def _variables(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
