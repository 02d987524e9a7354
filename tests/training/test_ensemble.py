"""Runs of several members: resumable, and independent of how many are trained at once."""

from dataclasses import replace

import pytest
from filelock import FileLock
from tiny import TINY, train

from digit_recognizer.errors import UserError
from digit_recognizer.training import ensemble, runs


@pytest.mark.slow
def test_an_interrupted_run_trains_only_missing_members_and_gives_the_same_predictions(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=2, members=2, augment=True)
    train(config, rows, tmp_path / "whole")

    original = ensemble.run_tasks
    tasks = []

    def interrupted(function, missing, devices, **options):
        tasks.append(list(missing))
        for done, result in enumerate(original(function, missing, devices[:1], **options)):
            yield result
            if len(tasks) == 1 and done == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(ensemble, "run_tasks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, rows, tmp_path / "parts")
    complete = [path.name for path in runs.member_dirs(tmp_path / "parts")]
    assert complete[:2] == ["member-0", "member-1"]
    assert "member-3" not in complete
    assert not list((tmp_path / "parts").glob(".epochs.*"))
    with pytest.raises(UserError, match="found an interrupted one; run `make train` again"):
        runs.read_finished_record(tmp_path / "parts")
    train(config, rows, tmp_path / "parts")
    assert tasks[1] == [index for index in range(4) if f"member-{index}" not in complete]
    whole, parts = (runs.read_predictions(tmp_path / name) for name in ("whole", "parts"))
    assert whole.rows.tolist() == parts.rows.tolist() == list(range(400))
    assert (whole.probabilities == parts.probabilities).all()


def test_a_finished_run_is_not_trained_again(trained, rows, monkeypatch):
    monkeypatch.setattr(ensemble, "_train_missing", lambda *_: pytest.fail("trained again"))
    before = runs.read_finished_record(trained)
    assert train(TINY, rows, trained) == before


def test_a_folder_with_a_run_of_other_settings_is_refused(trained, rows):
    with pytest.raises(UserError, match="found one that differs in epochs"):
        train(replace(TINY, epochs=3), rows, trained)


def test_two_trainings_of_one_run_at_once_are_refused(rows, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(UserError, match="expected no other training"),
    ):
        train(TINY, rows, tmp_path / "run")


@pytest.mark.slow
def test_predictions_do_not_depend_on_how_many_members_train_at_once(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=3, augment=True)
    train(config, rows, tmp_path / "at-once")
    device = ensemble.split_devices(3, [])[0]
    monkeypatch.setattr(ensemble, "split_devices", lambda *_: [device])
    train(config, rows, tmp_path / "in-turn")
    for name in ("member-0", "member-1", "member-2"):
        one, other = (runs.read_member_predictions(tmp_path / run / name) for run in ("in-turn", "at-once"))
        assert (one.probabilities == other.probabilities).all()
        assert (one.rows == other.rows).all()


@pytest.mark.slow
def test_a_failed_augmentation_ends_the_run(rows, monkeypatch, tmp_path):
    def failing(images, *, epochs, seed, executor):
        yield images
        raise MemoryError("no room for an epoch")

    monkeypatch.setattr(ensemble, "augmented_epochs", failing)
    for folds in (1, 2):
        with pytest.raises(Exception, match="no room for an epoch"):  # of a single member, TensorFlow wraps it
            train(replace(TINY, folds=folds, epochs=4, augment=True), rows, tmp_path / f"run-{folds}")
        assert not list(tmp_path.glob("run-*/.epochs.*"))
