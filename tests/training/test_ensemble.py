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

import pytest
from filelock import FileLock
from rich.console import Console
from tiny import TINY, train

from digit_recognizer import files
from digit_recognizer.errors import UserError
from digit_recognizer.training import ensemble, run_folder


def test_a_finished_run_is_not_trained_again(trained, rows, monkeypatch):
    monkeypatch.setattr(ensemble, "_train_missing", lambda *_: pytest.fail("trained again"))
    before = run_folder.read_finished_record(trained)
    assert train(TINY, rows, trained) == before


def test_a_folder_with_a_run_of_other_settings_is_refused(trained, rows):
    with pytest.raises(UserError, match="holds a run that differs in epochs"):
        train(replace(TINY, epochs=3), rows, trained)


def test_two_trainings_of_one_run_at_once_are_refused(rows, tmp_path):
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(UserError, match=r"run is being written by another process; wait"),
    ):
        train(TINY, rows, tmp_path / "run")


def change_record(run_dir, **values):
    files.write_json(run_dir / "run.json", files.read_json(run_dir / "run.json") | values)


def test_a_folder_with_a_run_of_other_code_is_refused(trained, rows, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    change_record(tmp_path / "run", code="0" * 64)
    with pytest.raises(UserError, match="holds a run that differs in code; choose another RUN="):
        train(TINY, rows, tmp_path / "run")


def test_members_of_other_versions_are_not_mixed(trained, rows, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    versions = run_folder.read_finished_record(trained)["versions"]
    change_record(tmp_path / "run", versions=versions | {"keras": "3.0.0"})
    train(TINY, rows, tmp_path / "run")  # nothing to train
    shutil.rmtree(tmp_path / "run" / "member-0")
    with pytest.raises(UserError, match=r"run holds a run that differs in keras 3.0.0; choose another RUN="):
        train(TINY, rows, tmp_path / "run")


def test_missing_disk_space_is_noticed_before_the_training(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(ensemble.shutil, "disk_usage", lambda _: SimpleNamespace(free=10e6))
    with pytest.raises(UserError, match=r"run needs 20 MB of disk space, 10 MB are free"):
        train(TINY, rows, tmp_path / "run")
    with pytest.raises(UserError, match="needs 102 MB"):  # and 197 augmented epochs of 400 images
        train(replace(TINY, augment=True, folds=2, epochs=200), rows, tmp_path / "many")


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny
from test_ensemble import CONFIGS
from digit_recognizer.data import csv_files
from digit_recognizer.training import ensemble, member, run_folder

def kill_at(module, name, call):
    original, calls = getattr(module, name), []
    def replacement(*arguments, **options):
        calls.append(None)
        return os.killpg(0, signal.SIGKILL) if len(calls) == call else original(*arguments, **options)
    setattr(module, name, replacement)

if __name__ == "__main__":
    os.setpgrp()
    data_dir, run_dir, config, point = sys.argv[1:]
    rows = csv_files.load_train(Path(data_dir))
    rows = csv_files.Dataset(rows.images[:400], rows.labels[:400], rows.sha256)
    member.REPORT_SECONDS = 0
    exec(point)
    tiny.train(CONFIGS[config], rows, Path(run_dir))
"""
CONFIGS = {
    "single": replace(TINY, augment=True, epochs=4, unaugmented_epochs=1, dropout=0.3),
    "several": replace(TINY, augment=True, epochs=4, dropout=0.3, folds=2),
}
UPDATE = "kill_at(ensemble.TrainingDisplay, 'show', {})"
POINTS = {  # one after the other in the same run
    "single": [
        UPDATE.format(4),  # in the first epoch, of ten steps
        UPDATE.format(25),  # in the third epoch
        "kill_at(member.np, 'savez', 1)",  # while the checkpoint of the third epoch is written
        "kill_at(member, 'make_predictor', 2)",  # in the prediction of the validation rows
        "kill_at(run_folder.tempfile, 'TemporaryDirectory', 1)",  # while the member's files are written
    ],
    "several": [
        "kill_at(ensemble.np, 'save', 2)",  # while an augmented epoch is written
        "kill_at(run_folder, 'write_member', 2)",  # between two members
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_a_killed_training_is_resumed_with_the_same_result(demo_dir, rows, tmp_path, config):
    train(CONFIGS[config], rows, tmp_path / "undisturbed")
    (tmp_path / "program.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "program.py", demo_dir, tmp_path / "run", config]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    for point in POINTS[config]:
        killed = subprocess.run([*command, point], env=environment, stderr=subprocess.PIPE, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    output = io.StringIO()
    train(CONFIGS[config], rows, tmp_path / "run", console=Console(file=output, width=200))
    if config == "single":
        assert "member 0 goes on from its checkpoint after epoch 4\n" in output.getvalue()
    undisturbed, resumed = tmp_path / "undisturbed", tmp_path / "run"
    assert (read_probabilities(undisturbed) == read_probabilities(resumed)).all()
    assert {path.name for path in resumed.iterdir()} == {path.name for path in undisturbed.iterdir()}
    for name in ("accuracy", "loss", "val_accuracy"):
        expected, history = (run_folder.read_history(path / "member-0")[name] for path in (undisturbed, resumed))
        assert expected == pytest.approx(history, abs=1e-6)


def read_probabilities(run_dir):
    return run_folder.read_predictions(run_dir).probabilities


def test_a_damaged_checkpoint_is_not_used_and_named(rows, tmp_path):
    folder = tmp_path / "run" / ".work"
    folder.mkdir(parents=True)
    (folder / "member-0.npz").write_bytes(b"PK")
    output = io.StringIO()
    train(replace(TINY, epochs=1), rows, tmp_path / "run", console=Console(file=output, width=200))
    assert output.getvalue().startswith("member 0: its checkpoint is damaged and was deleted; it starts again\n")


@pytest.mark.slow
def test_predictions_do_not_depend_on_how_many_members_train_at_once(rows, monkeypatch, tmp_path):
    config = replace(TINY, folds=2, augment=True)
    train(config, rows, tmp_path / "at-once")
    device = ensemble.devices.split_devices(2, [])[0]
    monkeypatch.setattr(ensemble.devices, "split_devices", lambda *_: [device])
    train(config, rows, tmp_path / "in-turn")
    assert (read_probabilities(tmp_path / "at-once") == read_probabilities(tmp_path / "in-turn")).all()


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
    with pytest.raises(UserError, match="a worker process was killed, probably because memory ran out"):
        train(replace(TINY, epochs=4, augment=True), rows, tmp_path / "run")


def test_without_ray_the_option_cluster_is_an_error(rows, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "digit_recognizer.training.cluster", raising=False)
    with pytest.raises(UserError, match="a cluster needs the package ray, which is not installed; run `make train`"):
        train(TINY, rows, tmp_path / "run", cluster="auto")
