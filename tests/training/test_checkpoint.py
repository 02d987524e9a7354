"""Checkpoints of a member in training."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from digit_recognizer.data.folds import make_folds
from digit_recognizer.training import member
from digit_recognizer.training.checkpoint import Checkpoint, count_begun_epochs, read_checkpoint, write_checkpoint

STATE = Checkpoint(3, 7, 1.5, {"loss": 0.5}, {"loss": [2.0, 1.0, 0.5]}, [np.float32([[1, 2]]), np.array(5)])


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    write_checkpoint(tmp_path / "state.npz", STATE)
    found = read_checkpoint(tmp_path / "state.npz")
    assert replace(found, variables=[]) == replace(STATE, variables=[])
    assert [value.tolist() for value in found.variables] == [[[1, 2]], 5]
    assert found.variables[0].dtype == np.float32


def test_a_damaged_checkpoint_is_not_used(tmp_path):
    path = tmp_path / "state.npz"
    assert read_checkpoint(path) == read_checkpoint(None) == Checkpoint()
    write_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:-50])
    assert read_checkpoint(path) == Checkpoint()


@pytest.mark.parametrize(("epoch", "begun"), [(0, 0), (1, 0), (2, 1), (9, 5)])
def test_augmented_epochs_before_a_checkpoint_are_counted(tmp_path, epoch, begun):
    write_checkpoint(tmp_path / "state.npz", Checkpoint(epoch))
    config = replace(TINY, epochs=8, augment=True, plain_epochs=2)
    assert count_begun_epochs(config, tmp_path / "state.npz") == begun


@pytest.mark.parametrize("seconds", [0, 61])
def test_a_checkpoint_is_written_after_each_epoch_and_once_a_minute(rows, monkeypatch, tmp_path, seconds):
    saved, ticks = [], itertools.count(0, seconds or 1e-9)
    monkeypatch.setattr(member.time, "monotonic", lambda: next(ticks))  # called at each step
    monkeypatch.setattr(member, "write_checkpoint", lambda path, state: saved.append((state.epoch, state.step)))
    folds = make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    options = {"precision": "float32", "augmented": iter([]), "report": lambda *_: None}
    member.train_member(TINY, rows, folds, 0, checkpoint=tmp_path / "state.npz", **options)
    steps = TINY.steps_per_epoch(320)
    every_step = [divmod(number, steps) for number in range(1, 2 * steps + 1)]
    assert saved == (every_step if seconds else [(1, 0), (2, 0)])
