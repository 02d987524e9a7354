"""What doctor finds, and what it advises."""

import importlib.metadata
import json
import shlex
import shutil
import sys
from types import SimpleNamespace

import pytest
from filelock import FileLock
from kaggle_server import KEY, TOKEN, USERNAME, KaggleServer

from digit_recognizer import doctor
from digit_recognizer.competition import kernel, record
from digit_recognizer.competition.download import EXPECTED
from digit_recognizer.config import PRESETS, make_config
from digit_recognizer.doctor import FAULT, OK, WARNING, Finding
from digit_recognizer.errors import UserError
from digit_recognizer.training import devices, estimate

WRONG = "KGAT_wrong_and_secret"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return doctor.Folders(*(doctor.Path(name) for name in doctor.Folders._fields))


@pytest.fixture
def check(folders):
    """Run a check in this process; return all of the finding but its name."""
    return lambda name: tuple(doctor.run_check(name, folders)[1:])


@pytest.fixture
def data(folders):
    folders.data.mkdir()
    for name, (header, rows) in EXPECTED.items():
        (folders.data / name).write_text(f"{header}\n" + "0\n" * rows)
    return folders.data


def listing(folder):
    return sorted(map(str, folder.rglob("*")))


# Checks


def test_installed_versions_are_in_range(check):
    assert check("versions")[0] == OK


def test_packages_out_of_range_are_named(check, monkeypatch):
    numpy = importlib.metadata.version("numpy")
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy>=99", "not-installed<2,>=1", "rich>=1"])
    expected = f"expected numpy >=99, found {numpy}, expected not-installed <2,>=1, found none"
    assert check("versions") == (FAULT, expected, "rm -rf .venv && make setup")


def test_tensorflow_is_needed_in_one_of_its_packages(check, monkeypatch):
    required = ['not-installed>=1; extra == "cpu"', 'numpy>=1; extra == "gpu"', 'not-installed>=1; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required)
    assert check("versions")[0] == OK
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: required[:1])
    assert check("versions")[0] == OK  # no extra `gpu`, of which nothing is missing
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: [required[0], required[1].replace("numpy", "none")])
    assert check("versions")[1] == "expected not-installed >=1, found none"


def test_an_old_python_is_a_fault(check, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: {"Requires-Python": ">=99"})
    assert check("versions")[1].startswith("expected Python >=99, found 3.")


@pytest.mark.parametrize(("free", "statuses"), [(240e6, [FAULT, WARNING]), (260e6, [OK, WARNING]), (700e6, [OK, OK])])
def test_free_space_is_compared_with_what_is_needed(check, folders, monkeypatch, free, statuses):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    findings = [check("disk space"), check("space for best")]
    assert [status for status, *_ in findings] == statuses
    if statuses[0] == FAULT:
        place = doctor.Path.cwd()
        found = f"expected 250 MB in {place}, found 240 MB"
        assert findings[0][1:] == (found, f"delete what is not needed: du -sh {place}/*")


def test_less_space_is_needed_if_the_data_are_there(check, data, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=40e6))
    assert check("disk space")[:2] == (OK, "40 MB are free, 30 MB are needed")


def test_folders_that_do_not_exist_can_be_written_and_are_not_created(check, tmp_path):
    assert check("folders") == (OK, "data, models, submissions can be written", "")
    assert check("other folders")[0] == OK
    assert listing(tmp_path) == []


def test_a_file_in_place_of_a_folder_is_found(check, tmp_path):
    (tmp_path / "models").touch()
    (tmp_path / "reports").touch()
    remedy = "make it a folder that you can write to: ls -ld"
    assert check("folders") == (FAULT, "cannot write into models (Not a directory)", f"{remedy} {tmp_path}/models")
    assert check("other folders")[:2] == (WARNING, "cannot write into reports (Not a directory)")


def test_a_read_only_folder_is_needed_only_for_missing_data(check, folders, data, monkeypatch):
    monkeypatch.setattr(doctor, "find_write_fault", lambda path: "Permission denied" if path == folders.data else None)
    assert check("folders") == (OK, "models, submissions can be written", "")
    (data / "test.csv").unlink()
    assert check("folders")[:2] == (FAULT, "cannot write into data (Permission denied)")


def test_complete_data(check, data):
    assert check("data") == (OK, "train.csv, test.csv, sample_submission.csv in data are complete", "")


def test_missing_and_damaged_data_are_warnings_with_the_download_that_mends_them(check, folders, data):
    with (data / "test.csv").open("a") as file:
        file.write("0\n")
    damaged = WARNING, "damaged: test.csv: expected 28,000 rows, found more", "make download FORCE=1"
    assert check("data") == damaged
    (data / "test.csv").unlink()
    assert check("data") == (WARNING, "no test.csv in data", "make download")
    (data / "test.csv").mkdir()
    assert check("data")[1] == "damaged: data/test.csv cannot be read (Is a directory)"


def test_commands_have_the_folder_of_the_data(folders):
    own = folders._replace(data=doctor.Path("my data"))
    assert own.make("download", FORCE=1) == "make download FORCE=1 'DATA_DIR=my data'"


def write_run(folder, config, scores=None):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"scores": scores, "config": config.to_dict()}))


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("best", {"seed": 3}),
        ("single", {"members": 4, "folds": 1}),
        ("fast", {"folds": 5, "augment": True, "precision": "float32"}),
    ],
)
def test_an_interrupted_run_has_the_command_that_continues_it(check, folders, preset, settings):
    config = make_config(preset, **settings)
    write_run(folders.models / "mine", config)
    (folders.models / "mine" / "member-0").mkdir()
    status, found, command = check("runs")
    members = max(config.folds, 1) * config.members
    assert (status, found) == (WARNING, f"mine has 1 of {members} networks")
    given = dict(word.split("=") for word in shlex.split(command)[2:])
    assert (given.pop("RUN"), given.pop("PRESET"), bool(int(given.pop("AUGMENT")))) == ("mine", preset, config.augment)
    kinds = {"VALIDATION": float, "PRECISION": str}
    values = {name.lower(): kinds.get(name, int)(value) for name, value in given.items()}
    assert make_config(preset, **values, augment=config.augment) == config


def test_runs_that_are_finished_or_being_trained_need_nothing(check, folders):
    assert check("runs") == (OK, "none is unfinished", "")
    write_run(folders.models / "done", PRESETS["fast"], {"validation_accuracy": 0.5})
    write_run(folders.models / "running", PRESETS["fast"])
    with FileLock(folders.models / "running" / ".lock"):
        assert check("runs") == (OK, "running has 0 of 1 networks and is being trained", "")
    assert check("runs")[0] == WARNING


def test_a_damaged_run_is_a_warning(check, folders):
    write_run(folders.models / "mine", PRESETS["fast"])
    (folders.models / "mine" / "run.json").write_text("{")
    assert check("runs")[0] == WARNING
    assert "found something else" in check("runs")[1]


def test_interrupted_uploads_have_the_commands_that_continue_them(check, folders):
    write_run(folders.models / "mine", PRESETS["fast"], {})
    for name, status in (("mine", "pending"), ("old", "complete"), ("of-kernel", "uploading")):
        (folders.submissions / name).mkdir(parents=True)
        content = dict.fromkeys(record.REQUIRED) | {"status": status}
        (folders.submissions / name / "record.json").write_text(json.dumps(content))
    commands = "make submit RUN=mine && make submit KERNEL=1"
    assert check("submissions") == (WARNING, "mine is pending, of-kernel is uploading", commands)


def test_the_kernel_needs_an_id_made_of_its_title(check, folders):
    assert check("kernel")[0] == WARNING
    kernel.METADATA.write_text(json.dumps({"id": "me/a-title", "title": "A title", "code_file": "a.ipynb"}))
    assert check("kernel") == (OK, "id and title agree: A title", "")
    kernel.METADATA.write_text(json.dumps({"id": "me/other", "title": "A title", "code_file": "a.ipynb"}))
    expected = "kernel-metadata.json: expected the id .../a-title for its title, found .../other"
    assert check("kernel") == (WARNING, expected, "change either")


def test_a_gpu_that_tensorflow_cannot_use_is_a_warning(check, monkeypatch):
    usable = []
    config = SimpleNamespace(list_physical_devices=lambda _: usable)
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    monkeypatch.setattr(devices, "query_gpus", lambda _: ["H100"])
    assert check("GPU") == (WARNING, "TensorFlow cannot use H100", "rm -rf .venv && make setup GPU=1")
    usable.append("GPU:0")
    assert check("GPU") == (OK, "H100", "")
    monkeypatch.setattr(devices, "query_gpus", lambda _: [])
    assert check("GPU") == (OK, "none", "")


def test_a_long_training_is_a_warning(check, monkeypatch):
    monkeypatch.setattr(estimate, "estimate_on_this_machine", lambda config, rows: 0.005 * rows * config.epochs)
    assert check("preset fast") == (OK, "trains in about 7 min", "")
    monkeypatch.setattr(estimate, "estimate_on_this_machine", lambda config, rows: rows)
    assert check("preset best") == (WARNING, "trains in about 12 h", "on Kaggle: make push PRESET=best")


# Findings


@pytest.mark.parametrize(
    ("name", "error", "finding"),
    [
        ("data", UserError("a; b; c"), (WARNING, "a; b", "c")),
        ("disk space", UserError("a"), (FAULT, "a", "make doctor")),
        ("runs", OSError(5, "failed", "file"), (WARNING, "OSError: [Errno 5] failed: 'file'", "make doctor")),
        ("credentials", OSError(5, WRONG), (FAULT, "OSError", "make doctor")),
        ("sign-in", KeyError(WRONG), (FAULT, "KeyError", "make doctor")),
    ],
)
def test_what_a_check_raises_is_its_finding(check, monkeypatch, name, error, finding):
    def fail(_):
        raise error

    monkeypatch.setitem(doctor.CHECKS, name, fail)
    assert check(name) == finding


def test_control_characters_are_escaped(check, folders):
    write_run(folders.models / "a\x1b[31m\nb", PRESETS["fast"])
    _, found, command = check("runs")
    assert found == r"a\x1b[31m\nb has 0 of 1 networks"
    assert command.isprintable()


FINDINGS = [Finding("data", OK, "é"), Finding("runs", WARNING, "one", "make train"), Finding("rules", FAULT, "x", "y")]


@pytest.mark.parametrize(
    ("encoding", "first", "marks"), [("utf-8", "é", ["✓ ", "! ", "✗ "]), ("ascii", r"\xe9", ["ok", "! ", "x "])]
)
def test_lines_have_marks_or_ascii(encoding, first, marks):
    lines = doctor.to_lines(FINDINGS, encoding)
    assert [lines[index][:2] for index in (0, 1, 3)] == marks
    assert lines[0].endswith(f"  {first}")
    assert [lines[index].strip() for index in (2, 4)] == ["next: make train", "next: y"]
    assert lines[5] == "`make download train submit` cannot work (faults: 1, warnings: 1)"
    assert doctor.to_lines(FINDINGS[:2], encoding)[-1].startswith("`make download train submit` can work")


# The command


@pytest.fixture
def kaggle(run, monkeypatch, tmp_path):
    """A loopback Kaggle for the command line, with a valid key in kaggle.json."""
    path = tmp_path / "home" / ".kaggle" / "kaggle.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"username": USERNAME, "key": KEY}))
    path.chmod(0o600)
    with KaggleServer(b"") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def without_training(monkeypatch):
    monkeypatch.setattr(doctor, "TRAINING", {})


def test_exit_status_0_without_faults(kaggle, without_training, run, data, tmp_path):
    before = listing(tmp_path)
    answer = run("doctor", "--json")
    findings = json.loads(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert [finding["check"] for finding in findings] == [*doctor.LOCAL, *doctor.SERVICE]
    assert all(finding.keys() == {"check", "status", "found", "next"} for finding in findings)
    assert [finding["check"] for finding in findings if finding["status"] != OK] == ["kernel"]
    assert "download" in kaggle.requests
    assert listing(tmp_path) == before


def test_a_secret_is_never_shown_and_a_fault_is_exit_status_1(kaggle, without_training, run, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", WRONG)
    monkeypatch.setenv("VERBOSE", "1")
    for option in ((), ("--json",)):
        answer = run("doctor", *option)
        assert answer.returncode == 1
        assert "which takes precedence over the key in" in answer.stdout
        assert not [secret for secret in (WRONG, KEY, TOKEN) if secret in answer.stdout + answer.stderr]


def test_without_network_or_home_the_local_checks_answer(without_training, run, monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    findings = {finding["check"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings.keys() == {*doctor.LOCAL, "Kaggle"}
    assert findings["credentials"]["found"] == "found no Kaggle credentials"
    assert findings["Kaggle"]["found"] == (
        "a request to Kaggle failed: no connection to the proxy; gave up after 1 attempt (not checked: sign-in, rules, "
        "GPU hours, daily limit)"
    )


def test_a_token_alone_signs_in_without_a_folder_being_created(kaggle, without_training, run, monkeypatch, tmp_path):
    shutil.rmtree(tmp_path / "home" / ".kaggle")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    before = listing(tmp_path)
    assert "Kaggle accepts the token in KAGGLE_API_TOKEN" in run("doctor").stdout
    assert listing(tmp_path) == before


def test_an_abort_of_tensorflow_is_reported_with_its_last_message(run, monkeypatch, tmp_path):
    program = "import os, signal\nos.write(2, b'notice\\nneeds AVX\\n')\nos.kill(os.getpid(), signal.SIGILL)\n"
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "tensorflow.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setattr(doctor, "LOCAL", {})
    monkeypatch.setattr(doctor, "SERVICE", {})
    (finding,) = json.loads(run("doctor", "--json").stdout)
    assert finding == {
        "check": "TensorFlow",
        "status": FAULT,
        "found": "aborted by signal 4 (Illegal instruction): needs AVX (not checked: GPU, preset fast, preset single, "
        "preset best, preset max)",
        "next": "make push, which trains on Kaggle",
    }


def test_a_check_beyond_the_limit_is_a_finding(folders, monkeypatch):
    monkeypatch.setattr(doctor, "LIMIT", 0.0)
    monkeypatch.setattr(doctor, "LOCAL", dict.fromkeys(["data"]))
    monkeypatch.setattr(doctor, "SERVICE", dict.fromkeys(["Kaggle", "sign-in"]))
    monkeypatch.setattr(doctor, "TRAINING", {})
    found = "no result within 0 s"
    assert doctor.diagnose(folders, lambda *_: None) == [
        Finding("data", WARNING, found, "make doctor"),
        Finding("Kaggle", FAULT, f"{found} (not checked: sign-in)", "make doctor"),
    ]


@pytest.mark.slow
def test_tensorflow_starts_and_the_times_of_all_presets_are_estimated(run, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LOCAL", {})
    monkeypatch.setattr(doctor, "SERVICE", {})
    monkeypatch.setattr(doctor, "LIMIT", 60.0)
    before = listing(tmp_path)
    findings = json.loads(run("doctor", "--json").stdout)
    assert [finding["check"] for finding in findings] == list(doctor.TRAINING)
    assert all("trains in about" in finding["found"] for finding in findings if "preset" in finding["check"])
    assert listing(tmp_path) == before
