"""One member: repeatable, and never trained on what it is judged by."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY, train

from digit_recognizer.data import csv_files
from digit_recognizer.training import ensemble, member, runs


@pytest.mark.slow
def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(rows, tmp_path):
    config = replace(TINY, augment=True, epochs=3, plain_epochs=1, dropout=0.3)
    for name in ("one", "two"):
        train(config, rows, tmp_path / name)
    train(replace(config, seed=1), rows, tmp_path / "other")
    one, two, other = (runs.read_predictions(tmp_path / name).probabilities for name in ("one", "two", "other"))
    assert (one == two).all()
    assert (one != other).any()


@pytest.mark.parametrize("augment", [False, True])
def test_no_held_out_row_is_trained_on(rows, monkeypatch, tmp_path, augment):
    """Each image carries its row number in its pixels, its distorted copy too; the batches are looked at."""
    marked = rows.images.copy()
    marked[:, 0, 0], marked[:, 0, 1] = np.divmod(np.arange(400), 256)
    seen = []
    original = member.normalise

    def spy(images):
        if len(images) == TINY.batch_size:
            pixels = images[:, 0, :2].astype(int)
            seen.extend((pixels[:, 0] * 256 + pixels[:, 1]).tolist())
        return original(images)

    monkeypatch.setattr(member, "normalise", spy)
    monkeypatch.setattr(ensemble, "augmented_epochs", lambda images, *, epochs, seed: iter([images] * epochs))
    config = replace(TINY, augment=augment)
    train(config, csv_files.Dataset(marked, rows.labels, "0"), tmp_path / "run")
    held_out = set(runs.read_predictions(tmp_path / "run").rows.tolist())
    assert len(held_out) == 80
    assert len(seen) == 2 * 10 * TINY.batch_size
    assert len(set(seen)) > 300
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
    plain = csv_files.Dataset(np.full_like(rows.images, 30), rows.labels, "0")
    (fold,) = csv_files.make_folds(rows.labels, folds=1, validation=0.2, seed=0)
    augmented = iter([np.full_like(rows.images, value) for value in (10, 20)])  # after the first epoch
    seen, told = [], []
    original = member.normalise

    def spy(images):
        if len(images) == TINY.batch_size:
            seen.append(int(images.max()))
        return original(images)

    monkeypatch.setattr(member, "normalise", spy)
    member.train_member(
        replace(TINY, epochs=4),
        plain,
        fold,
        rows.images[:3],
        seed=0,
        architecture="plain",
        precision="float32",
        augmented=augmented,
        tell=told.append,
    )
    steps = member.steps_per_epoch(len(fold.train), TINY.batch_size)
    assert seen == [30] * steps + [10] * steps + [20] * steps + [30] * steps
    assert [(step.epoch, step.step) for step in told] == [divmod(number, steps) for number in range(4 * steps)]
    assert [step.epoch for step in told if step.last] == [0, 1, 2, 3]
    assert all("val_accuracy" in step.logs for step in told if step.last)


def test_a_member_on_all_rows_has_no_validation(rows, tmp_path):
    record = train(replace(TINY, epochs=1, folds=0), rows, tmp_path / "run")
    assert record["scores"] == {"validation_accuracy": None, "validation_loss": None, "validation_rows": 0}
    assert "val_loss" not in runs.read_history(tmp_path / "run" / "member-0")
    assert runs.read_test_answers(tmp_path / "run").shape == (50, 10)
