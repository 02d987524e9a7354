"""The folder of a run."""

import os
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from digit_recognizer.errors import UserError
from digit_recognizer.training import records, runs


def test_a_run_stores_settings_history_and_predictions(trained, rows):
    record = runs.read_finished_record(trained)
    assert record["config"] == TINY.to_dict()
    assert record["data"] == {"train.csv": rows.sha256, "test.csv": None}
    assert {"python", "keras", "numpy"} < record["versions"].keys()
    machine = record["machine"]
    assert machine["processors"] == os.cpu_count()
    assert isinstance(machine["gpus"], list)
    assert 1 <= machine["threads"] <= os.cpu_count()
    assert machine["processor"]
    assert 100e6 < record["peak_memory_bytes"] < 100e9
    assert any(name.startswith("tensorflow") for name in record["versions"])
    history = runs.read_history(trained / "member-0")
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"), 2
    )
    predictions = runs.read_predictions(trained)
    assert record["scores"]["validation_rows"] == len(predictions.rows) == 80
    assert (rows.labels[predictions.rows] == predictions.labels).all()
    assert record["scores"]["validation_accuracy"] == (predictions.probabilities.argmax(1) == predictions.labels).mean()
    assert runs.find_run(trained.parent, None) == trained


def test_a_run_is_named_after_settings_data_and_code():
    name = records.run_name(TINY, data="a", code="b")
    assert name.startswith("tiny-seed0-")
    assert records.run_name(TINY, data="a", code="b") == name
    others = {
        records.run_name(replace(TINY, epochs=9), data="a", code="b"),
        records.run_name(TINY, data="b", code="b"),
        records.run_name(TINY, data="a", code="c"),
    }
    assert len(others | {name}) == 4


def test_the_hash_of_the_code_depends_on_every_source(monkeypatch):
    complete = runs.code_sha256()
    monkeypatch.setattr(runs, "SOURCES", runs.SOURCES[:-1])
    assert runs.code_sha256() != complete


def test_a_missing_run_is_reported_with_the_existing_ones(trained, tmp_path):
    with pytest.raises(UserError, match=r"found none; run `make train`"):
        runs.find_run(tmp_path, None)
    with pytest.raises(UserError, match=r"expected the run .other. in .*, found tiny"):
        runs.find_run(trained.parent, "other")


def test_predictions_of_several_members_for_one_row_are_averaged(tmp_path):
    for index, (rows, share) in enumerate([([5, 2], 0.25), ([2, 5], 0.75), ([1, 7], 1.0)]):
        folder = tmp_path / f"member-{index}"
        folder.mkdir()
        probabilities = np.full((2, 10), (1 - share) / 9, np.float32)
        probabilities[:, 3] = share
        np.savez(folder / "validation.npz", rows=rows, labels=[row % 10 for row in rows], probabilities=probabilities)
    predictions = runs.read_predictions(tmp_path)
    assert predictions.rows.tolist() == predictions.labels.tolist() == [1, 2, 5, 7]
    assert predictions.probabilities[:, 3] == pytest.approx([1, 0.5, 0.5, 1])
    assert predictions.probabilities.sum(axis=1) == pytest.approx(1)


def test_a_run_on_all_rows_has_no_validation_rows(tmp_path):
    none = runs.Predictions(np.arange(0), np.zeros(0, np.uint8), np.zeros((0, 10), np.float32))
    with pytest.raises(UserError, match=r"expected a run with validation rows, .* with FOLDS=5"):
        runs.require_held_out(none, tmp_path / "all")


def test_only_complete_members_count(tmp_path):
    for name in ("member-0", "member-10", "member-2", "member-1.bak", ".member-3.x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in runs.member_dirs(tmp_path)] == ["member-0", "member-2", "member-10"]
