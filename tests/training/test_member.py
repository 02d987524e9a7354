"""Training of one member."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tiny import TINY, train, train_member

from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.model import layers
from digit_recognizer.training import ensemble, member, run_folder


def test_another_seed_gives_other_predictions(trained, rows, tmp_path):
    train(replace(TINY, seed=1), rows, tmp_path / "other")
    one, other = (run_folder.read_predictions(path) for path in (trained, tmp_path / "other"))
    assert (one.rows == other.rows).all()
    assert (one.probabilities != other.probabilities).any()


@pytest.fixture
def batches(monkeypatch):
    """The training batches, float32 [128, 28, 28, 1] each, as they are normalised."""
    seen = []
    original = member.normalise

    def spy(images):
        if len(images) == TINY.batch_size:
            seen.append(images.copy())
        return original(images)

    monkeypatch.setattr(member, "normalise", spy)
    return seen


def test_no_validation_row_is_trained_on(rows, batches, monkeypatch, tmp_path):
    """Each image carries its row number in its pixels, and so does its augmented copy."""
    marked = rows.images.copy()
    marked[:, 0, 0], marked[:, 0, 1] = np.divmod(np.arange(400), 256)
    monkeypatch.setattr(ensemble, "augmented_epochs", lambda images, *, epochs, **_: iter([images] * epochs))
    train(replace(TINY, augment=True), Dataset(marked, rows.labels, "0"), tmp_path / "run")
    held_out = set(run_folder.read_predictions(tmp_path / "run").rows.tolist())
    pixels = np.concatenate(batches)[:, 0, :2].astype(int)
    trained_on = set((pixels[:, 0] * 256 + pixels[:, 1]).tolist())
    assert len(held_out) == 80
    assert len(pixels) == 2 * 10 * TINY.batch_size
    assert len(trained_on) > 300
    assert not held_out & trained_on


def test_the_learning_rate_follows_one_cycle():
    rates = member.one_cycle(0.01, 100)
    assert rates.argmax() == 20
    assert rates.max() == pytest.approx(0.01)
    assert (np.diff(rates[:20]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_an_epoch_has_the_hardest_rows_and_a_random_choice_of_the_others():
    rows, losses = np.arange(100, 200), np.zeros(300, np.float32)
    losses[150:180], losses[120:130] = 2, np.inf  # rows that were never trained on come first
    chosen, again = (member.choose_rows(rows, losses, 0.5, np.random.default_rng(seed)) for seed in (0, 1))
    assert len(set(chosen.tolist())) == 50
    assert set(range(120, 130)) <= set(chosen.tolist()) <= set(rows.tolist())
    assert 10 <= ((chosen >= 150) & (chosen < 180)).sum() < 30
    assert set(chosen.tolist()) != set(again.tolist())
    assert sorted(member.choose_rows(rows, losses, 1.0, np.random.default_rng(0))) == rows.tolist()


def test_first_and_last_epochs_are_not_augmented_and_steps_are_reported(rows, batches, monkeypatch):
    monkeypatch.setattr(member, "REPORT_SECONDS", 0)
    plain = Dataset(np.full_like(rows.images, 30), rows.labels, "0")
    augmented = [np.full_like(rows.images, value) for value in (10, 20)]
    config, reported = replace(TINY, epochs=4, augment=True, unaugmented_epochs=1), []
    trained = train_member(config, plain, augmented=augmented, report=lambda *step: reported.append(step))
    steps = TINY.steps_per_epoch(320)
    brightness = [int(batch.max()) for batch in batches]
    assert brightness == [30] * steps + [10] * steps + [20] * steps + [30] * steps
    assert [step[:2] for step in reported] == [divmod(number, steps) for number in range(4 * steps)]
    assert [epoch for epoch, _, _, last in reported if last] == [0, 1, 2, 3]
    assert all("val_accuracy" in logs for _, _, logs, last in reported if last)
    assert trained.history["learning_rate"][-1] == pytest.approx(0, abs=1e-9)
    assert trained.history["learning_rate"][0] > trained.history["learning_rate"][2]


def test_a_training_without_its_augmented_images_fails(rows):
    with pytest.raises(StopIteration):
        train_member(replace(TINY, augment=True), rows)


def test_a_member_trained_on_all_rows_has_no_validation(rows, tmp_path):
    record = train(replace(TINY, epochs=1, folds=0), rows, tmp_path / "run")
    assert record["scores"] == {"validation_accuracy": None, "validation_loss": None, "validation_rows": 0}
    assert "val_loss" not in run_folder.read_history(tmp_path / "run" / "member-0")


@pytest.mark.parametrize("count", [400, 24])
def test_statistics_of_a_short_training_are_those_of_the_training_rows(rows, count):
    """With a few steps, or one batch in all, a network predicts its training rows as well as in training."""
    few = Dataset(rows.images[:count], rows.labels[:count], "0")
    config = replace(TINY, folds=0, epochs=30 if count < 32 else 6, learning_rate=0.02)
    trained = train_member(config, few)
    accuracy = (trained.model(member.normalise(few.images)).numpy().argmax(axis=1) == few.labels).mean()
    assert trained.history["accuracy"][-1] > 0.4
    assert accuracy > trained.history["accuracy"][-1] - 0.1


def test_the_first_validation_has_statistics_without_their_initial_values():
    """Two steps on batches of mean 3 and variance 5 leave 81% of the initial values in the moving statistics."""
    images = tf.keras.Input((2, 2, 1))
    model = tf.keras.Model(images, layers.FusedBatchNormalization(momentum=layers.MOMENTUM, scale=False)(images))
    normalisation, initial = model.layers[1], layers.MOMENTUM**2
    normalisation.moving_mean.assign([3 * (1 - initial)])
    normalisation.moving_variance.assign([initial + 5 * (1 - initial)])
    member._correct_statistics(model, 2)
    assert np.asarray(normalisation.moving_mean) == pytest.approx(3, rel=1e-5)
    assert np.asarray(normalisation.moving_variance) == pytest.approx(5, rel=1e-5)


@pytest.mark.slow
def test_float16_trains_with_loss_scaling(rows):
    config = replace(TINY, epochs=8, learning_rate=0.02)
    half, full = (train_member(config, rows, precision=precision) for precision in ("mixed_float16", "float32"))
    assert half.history["loss"][-1] < 0.8 * half.history["loss"][0]
    assert half.history["loss"] == pytest.approx(full.history["loss"], rel=0.2)
    assert half.history["loss"] != full.history["loss"]
    assert np.isfinite(half.predictions.probabilities).all()
