"""The folder of a run."""

import json
import os
import shutil
import subprocess
from dataclasses import replace

import made
import numpy as np
import pytest
from tiny import TINY

from digit_recognizer.errors import UserError
from digit_recognizer.training import environment, run_folder


def test_a_run_stores_settings_history_and_predictions(trained, rows):
    record = run_folder.read_finished_record(trained)
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
    history = run_folder.read_history(trained / "member-0")
    assert {name: len(values) for name, values in history.items()} == dict.fromkeys(
        ("epoch", "accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"), 2
    )
    predictions = run_folder.read_predictions(trained)
    assert record["scores"]["validation_rows"] == len(predictions.rows) == 80
    assert (rows.labels[predictions.rows] == predictions.labels).all()
    assert record["scores"]["validation_accuracy"] == (predictions.probabilities.argmax(1) == predictions.labels).mean()
    assert run_folder.find_run(trained.parent, None) == trained


def name(config, *, data="a"):
    return run_folder.new_record(config, run=None, competition="demo", data={"train.csv": data, "test.csv": None})[
        "run"
    ]


def test_a_run_is_named_after_settings_data_and_code(monkeypatch):
    first = name(TINY)
    assert first.startswith("tiny-seed0-")
    assert name(TINY) == first
    others = {name(replace(TINY, epochs=9)), name(TINY, data="b")}
    monkeypatch.setattr(environment, "code_sha256", lambda: "another")
    assert len(others | {first, name(TINY)}) == 4


def test_the_hash_of_the_code_depends_on_every_source_but_not_on_its_words_and_layout(monkeypatch, tmp_path):
    for source in environment.SOURCES:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        (tmp_path / source).write_text('"""A module."""\n\ndef f():\n    """Return 1."""\n    return 1\n')
    monkeypatch.setattr(environment, "PACKAGE", tmp_path)
    first = environment.code_sha256()
    (tmp_path / environment.SOURCES[0]).write_text(
        '"""Other\nwords."""\ndef f(\n):\n    # Why.\n    return (1)  # one\n'
    )
    assert environment.code_sha256() == first
    for source in environment.SOURCES:
        (tmp_path / source).write_text("def f():\n    return 2\n")
        assert len({first, first := environment.code_sha256()}) == 2


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_hash_of_the_code_is_the_same_in_every_python(version):
    command = f"python{version}", "-c", "from digit_recognizer.training import environment as e; print(e.code_sha256())"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(environment.PACKAGE.parent), "PYENV_VERSION": version}
    try:
        answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"needs python{version}")
    assert answer.stdout.strip() == environment.code_sha256()


def test_a_missing_run_is_reported_with_the_existing_ones(trained, tmp_path):
    with pytest.raises(UserError, match=r"found none; run `make train`"):
        run_folder.find_run(tmp_path, None)
    (tmp_path / "latest.json").write_text('"deleted"')
    assert run_folder.find_latest(tmp_path) is None
    with pytest.raises(UserError, match=r"expected a trained run in .*, found none; run `make train`"):
        run_folder.find_run(tmp_path, None)
    with pytest.raises(UserError, match=r"expected the run .other. in .*, found tiny"):
        run_folder.find_run(trained.parent, "other")


def test_predictions_of_several_members_for_one_row_are_averaged(tmp_path):
    for index, (rows, share) in enumerate([([5, 2], 0.25), ([2, 5], 0.75), ([1, 7], 1.0)]):
        folder = tmp_path / f"member-{index}"
        folder.mkdir()
        probabilities = np.full((2, 10), (1 - share) / 9, np.float32)
        probabilities[:, 3] = share
        np.savez(folder / "validation.npz", rows=rows, labels=[row % 10 for row in rows], probabilities=probabilities)
    predictions = run_folder.read_predictions(tmp_path)
    assert predictions.rows.tolist() == predictions.labels.tolist() == [1, 2, 5, 7]
    assert predictions.probabilities[:, 3] == pytest.approx([1, 0.5, 0.5, 1])
    assert predictions.probabilities.sum(axis=1) == pytest.approx(1)


def test_only_complete_members_count(tmp_path):
    for name in ("member-0", "member-10", "member-2", "member-1.bak", ".member-3.x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in run_folder.member_dirs(tmp_path)] == ["member-0", "member-2", "member-10"]


@pytest.fixture
def run_dir(demo_dir, tmp_path):
    """The folder of a run with made-up predictions."""
    return made.write_run(tmp_path / "models" / "made", demo_dir)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"config": None}, "invalid config"),
        ({"config": {"folds": "1"}}, "invalid config"),
        ({"machine": [], "versions": "1"}, "invalid machine, versions"),
        ({"training_seconds": 1e999}, "invalid training_seconds"),
        ({"scores": {"validation_accuracy": "high"}}, "invalid scores"),
    ],
)
def test_a_damaged_record_is_an_error(run_dir, change, found):
    record = json.loads((run_dir / "run.json").read_text())
    change = {name: record[name] | value if isinstance(value, dict) else value for name, value in change.items()}
    (run_dir / "run.json").write_text(json.dumps(record | change))
    with pytest.raises(UserError) as error:
        run_folder.read_finished_record(run_dir)
    assert str(error.value) == (
        f"expected the record of a run as {run_dir}/run.json, found something else ({found}); move it away and run "
        "`make train` with the same settings again; trained members are kept"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "not enough values to unpack"),
        ("epoch,loss\n1,2\n", "the columns epoch, loss"),
        ("<,>\x1b[2J", "the columns <, > .2J"),
        ("{header}\n1,1,1,1,1,1,1\n", "1 rows, not 3 of finite numbers"),
        ("{header}\n1,1,1,1,1,1,1\n2,1,1,1,1,1,x\n", "could not convert string to float: 'x'"),
    ],
)
def test_a_damaged_history_is_an_error(run_dir, text, found):
    path = run_dir / "member-0" / "history.csv"
    path.write_text(text.replace("{header}", path.read_text().splitlines()[0]))
    message = (
        f"^expected the history of a member as {path}, found something else .{found}.*; move {path.parent} away and run"
    )
    with pytest.raises(UserError, match=message):
        run_folder.read_history(path.parent)


def test_the_history_of_a_training_that_diverged_is_read(run_dir):
    path = run_dir / "member-0" / "history.csv"
    path.write_text(path.read_text().replace(",0.25,", ",,"))  # pandas writes nan as an empty field
    assert np.isnan(run_folder.read_history(path.parent)["loss"]).tolist() == [False, False, True]


class Marker:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):  # noqa: D105
        return os.mkdir, ("marker",)


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("rows", lambda rows: rows * 0, "other rows or labels"),
        ("labels", lambda labels: labels + 10, "other rows or labels"),
        ("labels", lambda labels: labels[1:], "arrays of another shape or type"),
        ("probabilities", lambda probabilities: probabilities.astype("U4"), "arrays of another shape or type"),
        ("probabilities", lambda probabilities: -probabilities, "numbers that are no probabilities"),
        ("rows", lambda rows: np.array([Marker()] * len(rows)), "Object arrays cannot be loaded"),
    ],
)
def test_damaged_predictions_are_an_error(run_dir, name, change, found, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = run_dir / "member-0" / "validation.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {name: change(arrays[name])})
    message = (
        f"^expected the predictions of a member as {path}, found something else .{found}.*; move {path.parent} away and"
    )
    with pytest.raises(UserError, match=message):
        run_folder.read_predictions(run_dir)
    assert not (tmp_path / "marker").exists()


def test_a_missing_member_is_an_error(run_dir):
    shutil.rmtree(run_dir / "member-0")
    (run_dir / "member-0").write_text("a file")
    with pytest.raises(UserError, match="made has 0 of 1 members; run the same `make train` again"):
        run_folder.read_finished_record(run_dir)


def test_the_latest_run_is_a_name_and_not_a_path(run_dir):
    elsewhere = run_dir.parent / "elsewhere"
    (run_dir.parent / "latest.json").write_text('"../models/made"')
    assert run_folder.find_latest(run_dir.parent) is None
    with pytest.raises(UserError, match="found none"):
        run_folder.find_run(elsewhere, "\0")


def test_runs_are_found_by_names_and_patterns_each_once(demo_dir, tmp_path):
    for name in ("b", "a-1", "a-2"):
        made.write_run(tmp_path / name, demo_dir)
    assert [path.name for path in run_folder.find_runs(tmp_path, ["b", "a-*", "*"])] == ["b", "a-1", "a-2"]
    with pytest.raises(UserError, match=r"expected the run 'c\*' in .*, found a-1, a-2, b; run"):
        run_folder.find_runs(tmp_path, ["c*"])


def test_files_of_a_member_are_written_whole_or_not_at_all(tmp_path):
    run_folder.write_member(tmp_path / "member-0", {"history.csv": b"1", "model.keras": b"2"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "member-0").iterdir()} == {
        "history.csv": b"1",
        "model.keras": b"2",
    }
    with pytest.raises(TypeError):
        run_folder.write_member(tmp_path / "member-1", {"history.csv": b"1", "model.keras": None})
    assert [path.name for path in tmp_path.iterdir()] == ["member-0"]
