"""A loopback Kaggle for the real client in this process, and a fake clock."""

import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import time
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from kaggle_server import ROWS, TOKEN, KaggleServer

from digit_recognizer.competition import client, kernel, submit
from digit_recognizer.competition.download import EXPECTED
from digit_recognizer.competition.submission import write_submission
from digit_recognizer.config import make_config
from digit_recognizer.training.run_folder import new_record


@pytest.fixture(scope="session")
def client_home(tmp_path_factory):
    """The HOME of the client in this process, which reads it and the environment once, at its import."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setenv("HOME", str(folder))
        patch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        import kaggle  # noqa: F401 - signs in, without credentials
    return folder


@pytest.fixture(autouse=True)
def clock(client_home, monkeypatch):
    """The `time` module of the retries and of the client's download, whose pauses are noted and take no time."""
    sleeps = []
    clock = SimpleNamespace(**vars(time) | {"sleeps": sleeps, "sleep": sleeps.append, "monotonic": lambda: sum(sleeps)})
    for module in (client, kernel, submit, sys.modules["kaggle.api.kaggle_api_extended"]):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(scope="session")
def competition_files():
    """The competition's files by name: with the expected header and number of rows, but one column of zeros."""
    return {name: (header + "\r\n" + "0\r\n" * rows).encode() for name, (header, rows) in EXPECTED.items()}


@pytest.fixture(scope="session")
def make_archive(competition_files):
    """Return the bytes of a zip archive of the competition's files, with some of them replaced or added."""

    def make(changes=None):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (competition_files | (changes or {})).items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make


@pytest.fixture
def kaggle(make_archive, client_home, monkeypatch):
    """A loopback Kaggle that the client in this process reaches with a valid token."""
    for name in list(os.environ):
        if name.startswith("KAGGLE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with KaggleServer(make_archive()) as server:
        for name, value in (server.environment | {"HOME": str(client_home), "KAGGLE_API_TOKEN": TOKEN}).items():
            monkeypatch.setenv(name, value)
        yield server
    if "download" in server.requests:
        with warnings.catch_warnings():  # the client does not close the responses that it does not need
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def start_python(clean_environment, kaggle, tmp_path):
    """Start a program in a process with a pipe as stdin, which is killed at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(program, *arguments):
            process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                cwd=tmp_path,
                env=clean_environment | kaggle.environment | {"KAGGLE_API_TOKEN": TOKEN},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def labels():
    """Predictions for the competition's test.csv."""
    return np.random.default_rng(0).integers(0, 10, ROWS)


@pytest.fixture
def run_record():
    """The record of a finished run."""
    data = {"train.csv": "1" * 64, "test.csv": "2" * 64}
    record = new_record(make_config("single"), run="single-seed0-abc123", competition="digit-recognizer", data=data)
    return record | {
        "git_commit": "0" * 40,
        "versions": {"numpy": "2.0.2"},
        "finished_at": "2026-11-22T12:00:00+00:00",
        "scores": {"validation_accuracy": 0.9942},
    }


@pytest.fixture
def kernel_files(run_record, labels, tmp_path):
    """Return the files of a finished kernel by name; the archive of the run is on the second page of their list."""

    def make(labels=labels):
        record = run_record | {"run": "fast-seed0-abc123"}
        write_submission(tmp_path / "made.csv", labels)
        content, buffer = (tmp_path / "made.csv").read_bytes(), io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("submission.csv", content)
            archive.writestr("run.json", json.dumps(record))
            archive.writestr("../../outside.txt", b"outside")
        return {f"figure-{index}.png": b"" for index in range(6)} | {
            "../outside.txt": b"outside",
            "run.zip": buffer.getvalue(),
            "submission.csv": content,
        }

    return make
