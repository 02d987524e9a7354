"""One member: repeatable, and never trained on what it is judged by."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import QUIET, TINY, train

from digit_recognizer import data, progress, runs, training


@pytest.mark.slow
def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(rows, tmp_path):
    config = replace(TINY, augment=True, plain_epochs=1, dropout=0.3)
    for name in ("one", "two"):
        train(config, rows, tmp_path / name)
    train(replace(config, seed=1), rows, tmp_path / "other")
    one, two, other = (runs.read_answers(tmp_path / name).probabilities for name in ("one", "two", "other"))
    assert (one == two).all()
    assert (one != other).any()


def test_no_held_out_row_is_trained_on(rows, monkeypatch, tmp_path):
    """Each image carries its row number in its pixels; the batches that Keras gets are looked at."""
    marked = rows.images.copy()
    marked[:, 0, 0], marked[:, 0, 1] = np.divmod(np.arange(400), 256)
    seen = []
    original = training._Batches.__getitem__

    def spy(self, index):
        batch = original(self, index)
        pixels = (batch[0][:, 0, :2, 0] * 255).round().astype(int)
        seen.extend((pixels[:, 0] * 256 + pixels[:, 1]).tolist())
        return batch

    monkeypatch.setattr(training._Batches, "__getitem__", spy)
    train(TINY, data.Dataset(marked, rows.labels, "0"), tmp_path / "run")
    held_out = set(runs.read_answers(tmp_path / "run").rows.tolist())
    assert len(held_out) == 80
    assert len(set(seen)) > 300  # every row is seen but for those that the last partial batch left out
    assert not held_out & set(seen)


def test_the_learning_rate_makes_one_cycle(rows, tmp_path):
    train(replace(TINY, epochs=10), rows, tmp_path / "run")
    rates = runs.read_history(tmp_path / "run" / "member-0")["learning_rate"]
    peak = rates.argmax()
    assert rates[peak] == pytest.approx(TINY.learning_rate, rel=0.05)
    assert peak == 1  # the end of the second epoch of ten
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_each_epoch_sees_its_own_images_and_the_last_ones_the_plain_images(rows, monkeypatch):
    seen = []
    original = training._Batches.__getitem__

    def spy(self, index):
        batch = original(self, index)
        seen.append(round(float(batch[0].max() * 255)))
        return batch

    monkeypatch.setattr(training._Batches, "__getitem__", spy)
    plain = data.Dataset(np.full_like(rows.images, 30), rows.labels, "0")
    (fold,) = data.make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    augmented = iter([np.full_like(rows.images[fold.train], value) for value in (10, 20)])
    with progress.TrainingDisplay(members=1, epochs=4, steps=10, batch_size=32, console=QUIET) as display:
        training.train_member(replace(TINY, epochs=4), plain, fold, seed=0, augmented=augmented, display=display)
    steps = training.steps_per_epoch(len(fold.train), TINY.batch_size)
    assert seen[-4 * steps :] == [10] * steps + [20] * steps + [30] * 2 * steps
    assert set(seen[: -4 * steps]) <= {30}  # what Keras looked at before
