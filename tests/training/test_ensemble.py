"""Runs: resumable, and never trained on what they are judged by."""

from dataclasses import replace

import pytest
from tiny import TINY, train

from digit_recognizer.errors import UserError
from digit_recognizer.training import devices, ensemble, runs, workers
from digit_recognizer.training.time_budget import TimeBudget


@pytest.mark.slow
def test_an_interrupted_run_trains_only_what_is_missing_and_ends_the_same(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=2, members=2, augment=True)
    train(config, rows, tmp_path / "whole")

    original = workers.share_out
    tasks = []

    def interrupted(function, missing, parts, **options):
        tasks.append(list(missing))
        for done, result in enumerate(original(function, missing, parts, **options)):
            yield result
            if len(tasks) == 1 and done == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(workers, "share_out", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, rows, tmp_path / "parts")
    complete = [path.name for path in runs.member_dirs(tmp_path / "parts")]
    assert 2 <= len(complete) < 4 or complete == ["member-0", "member-1", "member-2", "member-3"]
    assert not list((tmp_path / "parts").glob(".*"))
    with pytest.raises(UserError, match="interrupted; run `make train` again"):
        runs.read_finished_record(tmp_path / "parts")
    train(config, rows, tmp_path / "parts")
    assert tasks[1:] == [[index for index in range(4) if f"member-{index}" not in complete]]
    whole, parts = (runs.read_predictions(tmp_path / name) for name in ("whole", "parts"))
    assert whole.rows.tolist() == parts.rows.tolist() == list(range(400))
    assert (whole.probabilities == parts.probabilities).all()
    assert (runs.read_test_answers(tmp_path / "whole") == runs.read_test_answers(tmp_path / "parts")).all()


def test_a_finished_run_is_not_trained_again(trained, rows, monkeypatch):
    monkeypatch.setattr(ensemble, "_train_members", lambda *_: pytest.fail("trained again"))
    before = runs.read_finished_record(trained)
    assert train(TINY, rows, trained) == before


def test_a_run_of_other_settings_is_not_mixed_with(trained, rows):
    with pytest.raises(UserError, match="differs in epochs"):
        train(replace(TINY, epochs=3), rows, trained)


@pytest.mark.slow
def test_members_do_not_depend_on_how_many_are_trained_at_once(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=3, augment=True)
    train(config, rows, tmp_path / "at-once")
    part = devices.machine_parts(3, [])[0]
    monkeypatch.setattr(devices, "machine_parts", lambda *_: [part])
    train(config, rows, tmp_path / "in-turn")
    for name in ("member-0", "member-1", "member-2"):
        one, other = (runs.read_member_predictions(tmp_path / run / name) for run in ("in-turn", "at-once"))
        assert (one.probabilities == other.probabilities).all()
        assert (one.rows == other.rows).all()


@pytest.mark.slow
def test_an_epoch_that_cannot_be_made_ends_the_run(rows, monkeypatch, tmp_path):
    def broken(images, *, epochs, seed):
        raise MemoryError("no room for an epoch")
        yield

    monkeypatch.setattr(ensemble, "augmented_epochs", broken)
    with pytest.raises(MemoryError, match="no room for an epoch"):
        train(replace(TINY, folds=2, augment=True), rows, tmp_path / "run")


class _TwoMembers(TimeBudget):
    """Has room until two members are complete."""

    def __init__(self, run_dir):
        super().__init__()
        self._run_dir = run_dir

    def has_room(self):
        return len(runs.member_dirs(self._run_dir)) < 2


@pytest.mark.slow
def test_members_that_do_not_fit_are_left_out_and_recorded(rows, monkeypatch, tmp_path):
    part = devices.machine_parts(4, [])[0]
    monkeypatch.setattr(devices, "machine_parts", lambda *_: [part])
    config = replace(TINY, folds=4, epochs=1)
    record = train(config, rows, tmp_path / "run", budget=_TwoMembers(tmp_path / "run"))
    assert [path.name for path in runs.member_dirs(tmp_path / "run")] == ["member-0", "member-1"]
    assert record["left_out"] == [2, 3]
    assert runs.read_finished_record(tmp_path / "run")["left_out"] == [2, 3]
    assert record["scores"]["validation_rows"] == 200
    assert train(config, rows, tmp_path / "run")["left_out"] == []  # with time enough they are trained after all
    assert len(runs.read_predictions(tmp_path / "run").rows) == 400


@pytest.mark.slow
def test_a_single_member_that_does_not_fit_is_an_error_after_its_second_epoch(rows, tmp_path):
    times = iter([0, 0, 30, 60])
    with pytest.raises(UserError, match=r"found that its 9 epochs of 30\.0 s each would end .* minutes late; choose"):
        train(replace(TINY, epochs=9), rows, tmp_path / "run", budget=TimeBudget(100, clock=lambda: next(times)))
    assert not runs.member_dirs(tmp_path / "run")
