"""Runs of several members: resumable, and independent of how many are trained at once."""

import io
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from rich.console import Console
from tiny import QUIET, TINY, train

from digit_recognizer import files
from digit_recognizer.config import PRESETS
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold
from digit_recognizer.errors import UserError
from digit_recognizer.training import ensemble, records, runs, session
from digit_recognizer.training.estimate import Cost


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
        pytest.raises(UserError, match=r"expected no other writer of .*run, found another process; wait"),
    ):
        train(TINY, rows, tmp_path / "run")


def change_record(run_dir, **values):
    files.write_json(run_dir / "run.json", files.read_json(run_dir / "run.json") | values)


def test_a_folder_with_a_run_of_other_code_is_refused(trained, rows, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    change_record(tmp_path / "run", code="0" * 64)
    with pytest.raises(UserError, match="found one that differs in code; choose another RUN="):
        train(TINY, rows, tmp_path / "run", code="1" * 64)


def test_members_of_other_versions_are_not_mixed(trained, rows, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    versions = runs.read_finished_record(trained)["versions"]
    change_record(tmp_path / "run", versions=versions | {"keras": "3.0.0"})
    train(TINY, rows, tmp_path / "run")  # nothing to train
    shutil.rmtree(tmp_path / "run" / "member-0")
    with pytest.raises(UserError, match=r"expected the versions of the members in .*run \(keras 3.0.0\), found others"):
        train(TINY, rows, tmp_path / "run")


def test_missing_disk_space_is_noticed_before_the_training(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(session.shutil, "disk_usage", lambda _: SimpleNamespace(free=10e6))
    with pytest.raises(UserError, match=r"expected 20 MB of free disk space for .*run, found 10 MB"):
        train(TINY, rows, tmp_path / "run")
    with pytest.raises(UserError, match="expected 102 MB of free"):  # and 197 augmented epochs of 400 images
        train(replace(TINY, augment=True, folds=2, epochs=200), rows, tmp_path / "many")


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny
from test_ensemble import CONFIGS
from digit_recognizer.data import csv_files
from digit_recognizer.training import ensemble, member, records, session

def kill(*_, **__):
    os.killpg(0, signal.SIGKILL)

def kill_at(module, name, call):
    original, calls = getattr(module, name), []
    def replacement(*arguments, **options):
        calls.append(None)
        return kill() if len(calls) == call else original(*arguments, **options)
    setattr(module, name, replacement)

if __name__ == "__main__":
    os.setpgrp()
    data_dir, run_dir, config, point = sys.argv[1:]
    rows = csv_files.load_train(Path(data_dir))
    rows = csv_files.Dataset(rows.images[:400], rows.labels[:400], rows.sha256)
    member.SAVE_SECONDS = 0
    exec(point)
    tiny.train(CONFIGS[config], rows, Path(run_dir))
"""
CONFIGS = {
    "single": replace(TINY, augment=True, epochs=4, plain_epochs=1, dropout=0.3),
    "several": replace(TINY, augment=True, epochs=4, dropout=0.3, folds=2),
}
UPDATE = "kill_at(ensemble.TrainingDisplay, 'update', {})"


@pytest.fixture(scope="module")
def undisturbed(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, config in CONFIGS.items():
        train(config, rows, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "point", "resumed"),
    [
        ("single", UPDATE.format(4), "epoch 1, step 4"),
        ("single", UPDATE.format(10), "epoch 1, step 10"),
        ("single", UPDATE.format(27), "epoch 3, step 7"),
        ("single", UPDATE.format(33), "epoch 4, step 3"),
        ("single", "kill_at(member, 'write_checkpoint', 25)", "epoch 3, step 5"),
        ("single", "kill_at(member, 'make_predictor', 1)", "the last step"),
        ("single", "kill_at(records.np, 'savez', 41)", "the last step"),
        ("several", "kill_at(ensemble.np, 'save', 2)", None),
        ("several", UPDATE.format(5), "epoch "),
        ("several", "kill_at(session.files, 'write_json', 2)", None),
    ],
)
def test_a_killed_training_is_resumed_with_the_same_result(
    demo_dir, rows, undisturbed, tmp_path, config, point, resumed
):
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "program.py", demo_dir, tmp_path / "run", config, point]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    killed = subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    output = io.StringIO()
    train(CONFIGS[config], rows, tmp_path / "run", console=Console(file=output, width=200))
    lines = output.getvalue()
    assert resumed is None or f"resumed from its checkpoint at {resumed}" in lines
    whole, again = (runs.read_predictions(folder) for folder in (undisturbed / config, tmp_path / "run"))
    assert (whole.probabilities == again.probabilities).all()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", ".lock.txt", "run.json", *(f"member-{index}" for index in range(len(names) - 3))}
    for name in ("accuracy", "loss", "val_accuracy"):
        one, other = (runs.read_history(path / "member-0")[name] for path in (undisturbed / config, tmp_path / "run"))
        assert one == pytest.approx(other, abs=1e-6)


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


@pytest.mark.parametrize("folds", [1, 2])
def test_a_failed_augmentation_ends_the_run(rows, monkeypatch, tmp_path, folds):
    def failing(images, **_):
        yield images
        raise MemoryError("no room for an epoch")

    monkeypatch.setattr(ensemble, "augmented_epochs", failing)
    with pytest.raises(MemoryError, match="no room for an epoch"):
        train(replace(TINY, folds=folds, epochs=4, augment=True), rows, tmp_path / "run")


def test_a_killed_augmentation_process_is_an_error_of_the_user(rows, monkeypatch, tmp_path):
    def killing(images, *, executor, **_):
        yield images
        executor.submit(signal.raise_signal, signal.SIGKILL).result()

    monkeypatch.setattr(ensemble, "augmented_epochs", killing)
    with pytest.raises(UserError, match="found one killed, probably because memory ran out"):
        train(replace(TINY, epochs=4, augment=True), rows, tmp_path / "run")


FASTER = "; PRESET=single is faster"


@pytest.mark.parametrize(
    ("preset", "members", "epochs", "line"),
    [
        ("fast", 1, 2, "fast: 1 network, 2 epochs on 320 images"),
        ("fast", 1, 9, "fast: 1 network, 9 epochs on 32,000 images, about 30 s on this machine"),
        ("best", 20, 9, "best: 20 networks, 9 epochs on 32,000 images, about 14 min on this machine" + FASTER),
    ],
)
def test_what_is_trained_is_said_in_one_line(monkeypatch, tmp_path, preset, members, epochs, line):
    config, measured = replace(PRESETS[preset], epochs=epochs, augment=False), []
    cost = Cost(10, 0.01, 0.02, 1, 0)
    monkeypatch.setattr(ensemble, "measure_apart", lambda config, *_: measured.append(config) or cost)
    monkeypatch.setattr(ensemble, "count_cores", lambda: 1)
    rows = 320 if epochs == 2 else 32_000
    fold = Fold(np.arange(rows), np.arange(rows, rows))
    data = Dataset(np.zeros((rows, 1)), np.zeros(rows), "")
    for seed in (3, 4):
        job = ensemble.Job(replace(config, seed=seed), data, [fold], members, tmp_path, "float32", log=False)
        assert ensemble._announce(job, members, []) == line
    assert len(set(measured)) <= 1  # the runs of a sweep share one measurement


@pytest.mark.slow
def test_runs_of_several_seeds_have_the_predictions_of_each_alone(rows, tmp_path):
    config = replace(TINY, augment=True)
    configs = [replace(config, seed=seed) for seed in (3, 4)]
    wanted = [
        ensemble.Run(
            one,
            tmp_path / "sweep" / str(one.seed),
            records.new_record(one, run="", competition="demo", data={"train.csv": rows.sha256, "test.csv": None}),
        )
        for one in configs
    ]
    done = [run.run_dir.name for run, _ in ensemble.train_runs(wanted, rows, QUIET)]
    assert done == ["3", "4"]
    for one in configs:
        train(one, rows, tmp_path / str(one.seed))
        alone, swept = (runs.read_predictions(folder / str(one.seed)) for folder in (tmp_path, tmp_path / "sweep"))
        assert (alone.probabilities == swept.probabilities).all()


def test_without_ray_the_option_cluster_is_an_error(rows, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "digit_recognizer.training.cluster", raising=False)
    record = records.new_record(TINY, run="", competition="demo", data={"train.csv": rows.sha256, "test.csv": None})
    wanted = [ensemble.Run(TINY, tmp_path / "run", record)]
    with pytest.raises(UserError, match="the packages of a cluster, found no ray; run `make train CLUSTER=auto`"):
        list(ensemble.train_runs(wanted, rows, QUIET, cluster="auto"))
