"""Fixtures shared by several tests."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import made
import pytest
import tiny

from digit_recognizer.__main__ import ENDING, main
from digit_recognizer.data import csv_files, demo


@pytest.fixture(scope="session")
def competition_dir() -> Path:
    """The folder of the competition's real files: DATA_DIR, or data/ once `make download` has filled it."""
    folder = Path(os.environ.get("DATA_DIR", "data")).expanduser()
    if not (folder / "train.csv").exists():
        if "DATA_DIR" in os.environ:
            pytest.fail(f"DATA_DIR names {folder}, which holds no train.csv")
        pytest.skip("needs the competition's files: make download")
    return folder


@pytest.fixture(scope="session")
def demo_dir(tmp_path_factory):
    """The folder of the demo's data."""
    folder = tmp_path_factory.mktemp("data")
    demo.write_demo_data(folder)
    return folder


@pytest.fixture(scope="session")
def rows(demo_dir):
    """The first 400 rows of the demo's train.csv."""
    train = csv_files.load_train(demo_dir)
    return csv_files.Dataset(train.images[:400], train.labels[:400], train.sha256)


@pytest.fixture(scope="session")
def trained(rows, tmp_path_factory):
    """The folder of a tiny run."""
    run_dir = tmp_path_factory.mktemp("models") / "tiny"
    tiny.train(tiny.TINY, rows, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def small_run(demo_dir, tmp_path_factory):
    """A folder with the demo's data and a run with untrained networks."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "data").symlink_to(demo_dir)
    made.write_run(folder / "models" / "small", demo_dir, networks=True)
    return folder


@pytest.fixture
def clean_environment(tmp_path):
    """The environment of a user who has set nothing, with an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    return {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "80"}


@pytest.fixture
def command(tmp_path, clean_environment):
    """Run the console script in an empty folder; keyword arguments are environment variables."""
    script = Path(sys.executable).with_name("digit-recognizer")

    def run(*arguments, **variables):
        return subprocess.run(
            [script, *arguments],
            cwd=tmp_path,
            env=clean_environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def run_command(tmp_path, monkeypatch, capfd):
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run_in_process(*arguments):
        monkeypatch.setattr(sys, "argv", ["digit-recognizer", *map(str, arguments)])
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
        handlers = {number: signal.getsignal(number) for number in ENDING}
        capfd.readouterr()
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, status, out, err)

    return run_in_process


@pytest.fixture
def run(run_command, clean_environment, monkeypatch):
    """Run the command line in this process, in an empty folder and a clean environment."""
    for name in set(os.environ) - {"PYTEST_CURRENT_TEST"}:
        monkeypatch.delenv(name)
    for name, value in clean_environment.items():
        monkeypatch.setenv(name, value)
    return run_command
