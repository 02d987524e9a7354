"""What several tests share."""

import gc
import io
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import tiny
from kaggle_server import TOKEN, KaggleServer

from digit_recognizer.competition.archive import EXPECTED
from digit_recognizer.data import csv_files, demo


@pytest.fixture(scope="session")
def competition_dir() -> Path:
    """The folder of the competition's real files: DATA_DIR, or data/ once `make download` has filled it."""
    folder = Path(os.environ.get("DATA_DIR", "data"))
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


@pytest.fixture(scope="session")
def competition_models(competition_dir, tmp_path_factory):
    """The folder of one run, trained in half a minute on the competition's data."""
    folder = tmp_path_factory.mktemp("competition") / "models"
    arguments = ["--preset=fast", "--epochs=1", f"--data-dir={competition_dir}", f"--models-dir={folder}"]
    script = Path(sys.executable).with_name("digit-recognizer")
    subprocess.run([script, "train", *arguments], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def competition_files():
    """The competition's files by name, with the right header and number of rows, but short ones."""
    return {name: (header + "\r\n" + "0\r\n" * rows).encode() for name, (header, rows) in EXPECTED.items()}


@pytest.fixture
def make_archive(competition_files):
    """Makes the bytes of a zip archive of the competition's files, some of them replaced or added."""

    def make(**changes):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (competition_files | changes.pop("extra", {}) | changes).items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def client_home(tmp_path_factory):
    """The home of the client in this process, which takes it once, when it is imported."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def kaggle(make_archive, client_home, monkeypatch):
    """A loopback Kaggle that the client in this process reaches with a good token."""
    for name in list(os.environ):
        if name.startswith("KAGGLE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with KaggleServer(make_archive()) as server:
        for name, value in (server.environment | {"HOME": str(client_home), "KAGGLE_API_TOKEN": TOKEN}).items():
            monkeypatch.setenv(name, value)
        yield server
    if "download" in server.requests:
        with warnings.catch_warnings():  # the client forgets answers, unread and open, that it does not go on with
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture
def clean_environment(tmp_path):
    """The environment of a command of a user who has set nothing, in an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    return {"HOME": str(home), "PATH": os.environ["PATH"], "COLUMNS": "80"}


@pytest.fixture
def command(tmp_path, clean_environment):
    """Runs the console script in an empty folder as a user would; keyword arguments are environment variables."""
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
