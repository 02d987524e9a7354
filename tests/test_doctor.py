"""What doctor finds, and what it advises."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from kaggle_server import TOKEN, KaggleServer

from digit_recognizer import doctor
from digit_recognizer.doctor import FAULT, OK, WARNING
from digit_recognizer.errors import UserError

WRONG = "KGAT_wrong_and_secret"


@pytest.fixture
def run_doctor(clean_environment, tmp_path):
    """Run the command with a token, a loopback Kaggle and an imitation of TensorFlow; return status and findings."""
    (tmp_path / "tensorflow.py").write_text("class config:\n    list_physical_devices = str.lower\n__version__ = '9.9'")

    def run(rules_accepted=True, **variables):
        with KaggleServer(b"") as server:
            server.rules_accepted = rules_accepted
            environment = clean_environment | {"KAGGLE_API_TOKEN": TOKEN, **server.environment} | variables
            command = [sys.executable, "-m", "digit_recognizer", "doctor"]  # imports from this folder
            answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert WRONG not in answer.stdout + answer.stderr
        lines = answer.stdout.replace("\n" + " " * 20 + "next:", "; next:").splitlines()
        return answer.returncode, {check: (status, found) for status, check, found in (x.split(None, 2) for x in lines)}

    return run


def check(function, *folders):
    """Return status, finding and next step of a check of faults."""
    return tuple(doctor._run("", FAULT, function, *map(Path, folders))[1:])


def test_without_faults_the_exit_status_is_0_and_no_folder_is_made(run_doctor, tmp_path):
    status, findings = run_doctor()
    assert (status, [name for name in findings if findings[name][0] == FAULT]) == (0, [])
    assert findings["Kaggle"][1].startswith("the token in KAGGLE_API_TOKEN and the rules are accepted")
    assert findings["TensorFlow"][1].startswith("version 9.9, trains in ")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} <= {"home", "__pycache__"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"rules_accepted": False}, "You must accept this competition's rules"),
        ({"KAGGLE_API_TOKEN": WRONG, "VERBOSE": "1"}, "Kaggle rejected the token in KAGGLE_API_TOKEN"),
        ({"http_proxy": "http://127.0.0.1:1"}, "no valid response from Kaggle (ProxyError); gave up after 1 attempt"),
    ],
)
def test_kaggle_is_a_fault_with_a_next_step_and_without_secrets(run_doctor, variables, found):
    status, findings = run_doctor(**variables)
    assert (status, [name for name in findings if findings[name][0] == FAULT]) == (1, ["Kaggle"])
    assert found in findings["Kaggle"][1]
    assert "; next: " in findings["Kaggle"][1]


def test_credentials_that_others_can_read_are_a_warning(run_doctor, clean_environment):
    path = Path(clean_environment["HOME"], ".kaggle", "access_token")
    path.parent.mkdir()
    path.write_text(TOKEN)
    path.chmod(0o640)
    status, findings = run_doctor(KAGGLE_API_TOKEN="")
    assert (status, findings["Kaggle"][0]) == (0, WARNING)
    assert findings["Kaggle"][1].endswith(f"; next: chmod 600 {path}")


def test_findings_are_printed_before_tensorflow_ends_the_process(run, monkeypatch):
    monkeypatch.setattr(doctor, "check_tensorflow", Mock(side_effect=SystemExit(4)))
    answer = run("doctor")
    assert answer.returncode == 4
    lines = answer.stdout.splitlines()
    assert lines[0] == "ok      versions    all packages are in the ranges of pyproject.toml"
    assert lines[3] == "                    next: make download"
    assert lines[-2] == "fault   Kaggle      found no Kaggle credentials"


def test_any_exception_is_a_finding():
    assert check({}.__getitem__, "name") == (FAULT, "KeyError: PosixPath('name')", "rm -rf .venv && make setup")
    assert check(Mock(side_effect=UserError("no remedy"))) == (FAULT, "no remedy", "make doctor")


def test_packages_are_compared_with_the_project(monkeypatch):
    extras = ['none>=1; extra == "cpu"', 'numpy>=99; extra == "gpu"', 'none>=1; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["rich>=1", "absent<2", *extras])
    found = f"expected absent <2, found none, expected numpy >=99, found {importlib.metadata.version('numpy')}"
    assert check(doctor.check_versions) == (FAULT, found, "rm -rf .venv && make setup")
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: extras[::2])
    assert check(doctor.check_versions)[0] == OK


def test_folders_need_space_and_permission_and_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my data").mkdir()
    assert check(doctor.check_data, "my data")[2] == "make download 'DATA_DIR=my data'"
    Path("my data", "train.csv").touch()
    monkeypatch.setattr("shutil.disk_usage", Mock(return_value=Mock(free=40e6)))
    assert check(doctor.check_folders, "my data", "none") == (OK, "my data, none have the 30 MB that are needed", "")
    assert check(doctor.check_folders, "elsewhere")[1].endswith("has 40 MB of free space, 250 are needed")
    assert check(doctor.check_folders, "my data", "my data/train.csv")[1] == "cannot write into my data/train.csv"


def test_tensorflow_is_imported_and_a_gpu_that_it_cannot_use_is_a_warning(monkeypatch):
    assert check(doctor.check_tensorflow)[1].startswith("version 2.")
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda _: [])
    monkeypatch.setattr(doctor.devices, "query_gpus", lambda _: ["H100"])
    assert check(doctor.check_tensorflow)[:2] == (WARNING, "TensorFlow cannot use H100")
