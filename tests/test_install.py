"""Wheels of the pins, and the kit with the oldest versions that pyproject.toml admits, in an environment of 2 GB."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_packaging import read_systems

from digit_recognizer.handwriting import sample_digits

pytestmark = pytest.mark.install
ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
OWN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS", "TF_"))}


def run(*command, folder=ROOT, **variables):
    """Run a command without the settings of others; its output is shown if it fails."""
    answer = subprocess.run(command, cwd=folder, env=OWN | variables, capture_output=True, text=True, timeout=1200)
    assert answer.returncode == 0, f"{answer.stdout[-3000:]}\n{answer.stderr[-3000:]}"
    return answer.stdout


def compile_requirements(path, *options, **variables):
    """Write the versions of all packages that the kit and its tests need."""
    extras = "--extra=cpu", "--extra=test"
    run(UV, "pip", "compile", "--quiet", "pyproject.toml", *extras, *options, "-o", path, **variables)


@pytest.mark.parametrize(("platform", "version"), read_systems())
def test_all_pins_have_wheels(platform, version, tmp_path):
    options = f"--python-platform={platform}", f"--python-version={version}", "--only-binary=:all:"
    variables = {"MACOSX_DEPLOYMENT_TARGET": "13.0"}
    compile_requirements(tmp_path / "pins", *options, "--constraint=constraints.txt", **variables)


@pytest.fixture(scope="module")
def oldest(tmp_path_factory):
    """The interpreter of an environment with the oldest versions."""
    folder = tmp_path_factory.mktemp("oldest")
    python = folder / "env" / "bin" / "python"
    compile_requirements(folder / "oldest.txt", "--python", sys.executable, "--resolution", "lowest-direct")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    run(UV, "pip", "install", "--quiet", "--python", python, "-r", folder / "oldest.txt")
    assert "keras==3.13.0" in (folder / "oldest.txt").read_text()
    return python


@pytest.fixture
def kit(oldest, tmp_path):
    """Run the command line with the oldest versions, in an empty folder."""
    variables = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path)}
    return lambda *arguments: run(oldest, "-m", "digit_recognizer", *arguments, folder=tmp_path, **variables)


def test_the_oldest_versions_refuse_damaged_csv_files(oldest):
    tests = "tests/data", "tests/test_files.py", "tests/handwriting/test_image_files.py"
    run(oldest, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, PYTHONPATH="src:tests:.")


def test_the_oldest_versions_read_the_shipped_network_and_that_of_a_run_of_the_pins(kit, trained, tmp_path):
    Image.fromarray(sample_digits.draw_digits()[3]).save(tmp_path / "three.png")
    kit("predict", "three.png", "--expect=3")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "pins").symlink_to(trained)
    kit("predict", "three.png", "--run=pins")


def test_the_oldest_versions_run_the_demo_and_the_pins_read_its_network(kit, tmp_path):
    from digit_recognizer.model.prediction import load_network, make_predictor

    assert "Wrote reports/" in kit("demo")
    (path,) = tmp_path.glob("demo/models/*/member-0/model.keras")
    assert make_predictor([load_network(path)])(np.zeros((1, 28, 28), np.uint8)).shape == (1, 10)
