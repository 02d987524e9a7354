"""Checkpoints of a member in training."""

import keras
import numpy as np
import pytest
from tiny import TINY, train_member

from digit_recognizer.errors import UserError
from digit_recognizer.training import member
from digit_recognizer.training.checkpoint import get_variables, read_checkpoint, write_checkpoint

HISTORY, LOSSES = {"loss": [2.0, 1.0, 0.5]}, np.array([0.5, np.inf], np.float32)


@pytest.fixture
def path(tmp_path):
    """The checkpoint of a model after three epochs."""
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    variables = get_variables(model, model.optimizer)
    write_checkpoint(tmp_path / "state.npz", HISTORY, LOSSES, variables)
    state = read_checkpoint(tmp_path / "state.npz")
    expected = [np.asarray(value).tolist() for value in variables]
    assert [value.tolist() for value in state.variables] == expected
    return tmp_path / "state.npz"


def test_a_checkpoint_is_read_as_it_was_written(path):
    state = read_checkpoint(path)
    assert (state.epoch, state.history, state.losses.tolist()) == (3, HISTORY, LOSSES.tolist())
    assert [value.shape for value in state.variables[:2]] == [(2, 1), (1,)]


def test_a_damaged_checkpoint_is_an_error(path):
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=f"expected a checkpoint as {path}, found something else"):
        read_checkpoint(path)
    path.unlink()
    assert read_checkpoint(path) is None


def test_a_checkpoint_is_written_after_each_epoch(rows, monkeypatch, tmp_path):
    saved = []
    monkeypatch.setattr(member, "write_checkpoint", lambda path, history, *_: saved.append(len(history["loss"])))
    train_member(TINY, rows, checkpoint=tmp_path / "state.npz")
    assert saved == [1, 2]
