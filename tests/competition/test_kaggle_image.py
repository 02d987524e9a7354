"""The notebook with Kaggle's package versions, in an environment that is built for the test and deleted.

It takes about 2 GB of disk and one to three minutes to build.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from test_notebook import FLAGS, ROOT, SETTINGS, execute

REQUIREMENTS = ROOT / "tests" / "requirements-kaggle.txt"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment with Kaggle's versions."""
    folder = tmp_path_factory.mktemp("kaggle") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    options = ("--quiet", "--disable-pip-version-check", "--no-cache-dir")
    subprocess.run([python, "-m", "pip", "install", *options, "-r", REQUIREMENTS], check=True, timeout=1200)
    yield python
    shutil.rmtree(folder)


@pytest.mark.kaggle_image
def test_the_notebook_equals_the_command_line_with_kaggles_versions(python, demo_dir, tmp_path):
    folder = tmp_path / "input" / "competitions" / "digit-recognizer"
    shutil.copytree(demo_dir, folder)
    status, log = execute(tmp_path, SETTINGS, python=python)
    assert status == 0, log
    assert not (tmp_path / "connections.txt").exists()

    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    for stage in (("train", *FLAGS), ("submission",)):
        command = [python, "-m", "digit_recognizer", *stage, "--data-dir", folder]
        answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
    (local,) = tmp_path.glob("submissions/*/submission.csv")
    assert (tmp_path / "working" / "submission.csv").read_bytes() == local.read_bytes()

    (record,) = tmp_path.glob("working/models/*/run.json")
    wanted = dict(re.findall(r"^([\w-]+)==(.+)$", REQUIREMENTS.read_text(), re.MULTILINE))
    assert json.loads(record.read_text())["versions"].items() >= wanted.items()
