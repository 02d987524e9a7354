"""Disks, homes, names, locales, cores, environments and settings of others: it works, or it ends with one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from digit_recognizer.handwriting import sample_digits

pytestmark = pytest.mark.slow

SCRIPT = Path(sys.executable).with_name("digit-recognizer")
TRAIN = "train", "--preset=fast", "--epochs=1", "--folds=2"
STAGES = [TRAIN, ("evaluate",), ("submission",), ("report",), ("predict", "picture.png"), ("demo",)]


@pytest.fixture(scope="module")
def kit(small_run):
    """The same with a picture."""
    cv2.imwrite(str(small_run / "picture.png"), sample_digits.draw_digits()[3])
    return small_run


def run(folder, *arguments, before=(), **variables):
    """Run a command in a folder, in an environment with these variables; `before` is a command that starts it."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "COLUMNS": "80"} | variables
    return subprocess.run([*before, SCRIPT, *arguments], cwd=folder, env=variables, capture_output=True, text=True)


def fail(folder, *arguments):
    """Run a command that ends with one line, besides warnings, and return this line."""
    answer = run(folder, *arguments)
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("warning: ")]
    assert (answer.returncode, len(lines)) == (1, 1), answer.stderr
    assert lines[0].startswith("digit-recognizer: ")
    return lines[0]


def list_files(folder):
    """Return the contents of all files by path, without locks and what libraries keep in the home."""
    hidden = {".lock", ".lock.txt", ".cache", ".keras"}
    files = [path for path in folder.rglob("*") if path.is_file() and not hidden & set(path.parts)]
    return {path: path.read_bytes() for path in files}


@pytest.fixture
def disk(tmp_path, kit):
    """A file system of 24 MB with a copy of the kit."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs the right to mount file systems")
    shutil.copytree(kit, folder, dirs_exist_ok=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("state", ["full", "read-only"])
def test_on_a_full_or_read_only_disk_every_stage_ends_with_one_line_and_changes_nothing(disk, state):
    if state == "full":
        with pytest.raises(OSError, match="No space left"), (disk / "large").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        reason = "No space left on device"
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        reason = "Read-only file system"
    before = list_files(disk)
    for stage in STAGES:
        assert reason in fail(disk, *stage)
        assert list_files(disk) == before


def test_a_file_in_the_place_of_a_folder_is_one_line(kit, tmp_path):
    shutil.copytree(kit, tmp_path, ignore=shutil.ignore_patterns("predictions"), dirs_exist_ok=True)
    for name in ("submissions", "reports", "predictions", "demo"):
        (tmp_path / name).write_text("in the way")
    (tmp_path / "models" / "small" / "figures").write_text("in the way")
    for stage in STAGES[1:]:
        assert "move away what is in its place" in fail(tmp_path, *stage)
    shutil.rmtree(tmp_path / "models")
    (tmp_path / "models").write_text("in the way")
    assert "move away what is in its place" in fail(tmp_path, *TRAIN)


def test_stages_work_in_an_unusual_environment(kit, tmp_path):
    if os.geteuid() or not all(map(shutil.which, ("taskset", "unshare"))):
        pytest.skip("needs taskset, unshare and the right to unmount file systems")
    folder = tmp_path / 'it\'s \u00e4 "b" $x'
    shutil.copytree(kit, folder)
    before = "unshare", "--mount", "taskset", "-c", "0", "sh", "-c", 'umount -l /dev/shm; umask 077; exec "$0" "$@"'
    for stage in STAGES[:-1]:
        answer = run(folder, *stage, before=before, HOME="/dev/null/none", LC_ALL="C", LANG="C")
        assert answer.returncode == 0, answer.stderr
        assert "Traceback" not in answer.stderr
    assert len(list((folder / "models").glob("*/member-1/model.keras"))) == 1


def test_a_picture_is_read_in_a_locale_without_utf_8(kit):
    answer = run(kit, "predict", "picture.png", LC_ALL="POSIX", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (answer.returncode, "Traceback" in answer.stderr) == (0, False), answer.stderr


def test_settings_of_other_projects_do_not_reach_the_kit(kit, tmp_path):
    (tmp_path / ".keras").mkdir()
    settings = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float16"}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    for module in ("click", "numpy", "keras"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('of another project')")
    foreign = {"HOME": str(tmp_path), "PYTHONPATH": str(tmp_path), "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "1"}
    foreign |= {"TF_USE_LEGACY_KERAS": "1", "RAY_ADDRESS": "10.0.0.1:1"}
    command = "predict", "--json", "none.png ./pic*.png"
    answers = [json.loads(run(kit, *command, **variables).stdout) for variables in ({}, foreign)]
    for variables in (foreign, foreign | {"KERAS_HOME": "/proc"}):
        assert "ok      TensorFlow" in run(kit, "doctor", **variables).stdout
    assert answers[0] == answers[1] != []


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_values_reach_the_command_as_they_were_written(shell, tmp_path):
    value = 'it\'s \u00e4 "b" $x $$ $(y) # `z` ~/c'
    home = str(tmp_path / "my home")
    assert make_arguments(shell, "submit", 'MESSAGE="$VALUE"', VALUE=value)[-2:] == ["--message", value]
    assert make_arguments(shell, "train", 'DATA_DIR="$VALUE"', VALUE=value) == ["train", "--data-dir", value]
    assert make_arguments(shell, "submission", "TEST=~/'a b'", 'DATA_DIR="~"', HOME=home) == [
        "submission",
        "--data-dir",
        home,
        "--test-file",
        f"{home}/a b",
    ]
    assert make_arguments(shell, "export", 'PAGE="~/$ page"', HOME=home) == ["export", f"{home}/$ page"]
    assert make_arguments(shell, "predict", "IMAGES='a.png *.jpg'") == ["predict", "a.png *.jpg"]
    assert "--force" not in make_arguments(shell, "submit", FORCE="1")
    assert "--force" in make_arguments(shell, "submit", "FORCE=1")


def make_arguments(shell, *words, **variables):
    """Return the arguments of the kit's command that a make command in a shell runs."""

    def run(shell, script):
        return subprocess.check_output([shell, "-c", script], env=os.environ | variables, text=True)

    command = run(shell, f"make --no-print-directory -n {' '.join(words)}").rpartition("digit-recognizer ")[2]
    return run("sh", f"printf '%s\\n' {command}").splitlines()


BACKEND = """
import os, sysconfig, time, zipfile
METADATA = "Metadata-Version: 2.1\\nVersion: 1\\nProvides-Extra: gpu\\nRequires-Dist: none; extra == 'cpu'\\nName: "
def build_editable(folder, *_):
    while os.path.exists("hang"):
        time.sleep(0.1)
    for name in ("numpy", "tensorflow"):
        path = os.path.join(sysconfig.get_path("purelib"), name)
        os.makedirs(path + "-1.dist-info", exist_ok=True)
        for file, text in ((path + ".py", ""), (path + "-1.dist-info/METADATA", METADATA + name)):
            open(file, "w").write(text)
    name, info = "digit_recognizer-1-py3-none-any.whl", "digit_recognizer-1.dist-info/"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("kit.pth", os.path.abspath("src"))
        wheel.writestr(info + "METADATA", METADATA + "digit-recognizer")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""
PROJECT = """
build-system = {requires = [], build-backend = "backend", backend-path = ["."]}
project = {name = "digit-recognizer", version = "1"}
"""


@pytest.fixture
def clone(tmp_path):
    """A clone of the kit with empty modules in place of the packages."""
    folder = tmp_path / "a clone"
    (folder / "src" / "digit_recognizer").mkdir(parents=True)
    shutil.copy("Makefile", folder)
    files = {"backend.py": BACKEND, "pyproject.toml": PROJECT, "constraints.txt": ""}
    for name, text in (files | {"src/digit_recognizer/__init__.py": ""}).items():
        (folder / name).write_text(text)
    return folder


def start_make(folder, *arguments, **variables):
    """Start make in an environment with settings of other projects."""
    home = folder.parent / "home"
    (home / ".config" / "pip").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "pip" / "pip.conf").write_text("[global]\nuser = 1\n[install]\ntarget = /none\nno-deps = 1\n")
    foreign = {"PIP_USER": "1", "PIP_TARGET": "/none", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_NO_DEPS": "1"}
    foreign |= {"PYTHONHOME": "/none", "PYTHONPATH": str(home), "CONDA_PREFIX": "/none", "CONDA_DEFAULT_ENV": "base"}
    variables = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "HOME": str(home)} | foreign | variables
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(["make", *arguments], cwd=folder, env=variables, text=True, start_new_session=True, **pipes)


def test_an_environment_that_does_not_work_is_made_again(clone):
    def setup(folder, *arguments):
        """Return whether the environment was made again, and check that it works and is still that for a GPU."""
        out, err = start_make(folder, "setup", *arguments).communicate()
        code = "import digit_recognizer, numpy, pip, tensorflow; print(digit_recognizer.__file__)"
        used = subprocess.run([folder / ".venv/bin/python", "-c", code], capture_output=True, text=True)
        assert used.stdout == f"{folder}/src/digit_recognizer/__init__.py\n", err
        assert (folder / ".venv" / ".kind").read_text() == "gpu\n"
        return "Creating .venv" in out

    def is_dead(folder):
        start_make(folder, "try").communicate()
        return not (folder / ".venv" / ".setup").exists()

    assert setup(clone, "GPU=1")
    assert not setup(clone)
    (packages,) = clone.glob(".venv/lib/python*/site-packages")
    for part in (packages / "pip", packages / "numpy.py", clone / ".venv" / "bin" / "python"):
        hidden = part.rename(part.with_name("hidden"))
        assert is_dead(clone), part
        hidden.rename(part)
        (clone / ".venv" / ".setup").touch()
    other = shutil.copytree(packages / "tensorflow-1.dist-info", packages / "tensorflow_cpu-1.dist-info")
    assert is_dead(clone)
    shutil.rmtree(other)
    (clone / ".venv" / ".setup").touch()
    copy = shutil.copytree(clone, clone.with_name("copy"), symlinks=True)
    assert setup(copy)
    assert is_dead(copy.rename(copy.with_name("moved")))
    (clone / "hang").touch()
    os.utime(clone / "constraints.txt")
    process = start_make(clone, "setup")
    assert process.stdout.readline().startswith("Installing")
    while not (clone / ".venv" / ".installing").exists():
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    (clone / "hang").unlink()
    assert setup(clone)


def test_an_interpreter_that_cannot_work_is_one_line(clone):
    stubs = clone.parent / "bin"
    stubs.mkdir()

    def stub(script, *names):
        for name in names:
            (stubs / name).write_text(f"#!/bin/sh\n{script}\n")
            (stubs / name).chmod(0o755)

    def fail(*arguments):
        process = start_make(clone, "setup", *arguments, PATH=f"{stubs}:{os.environ['PATH']}")
        out, err = process.communicate()
        line, of_make = err.splitlines()
        assert (process.returncode, out, of_make[:10]) == (2, "", "make: *** ")
        return line

    stub("exit 1", "python3.13", "python3.12", "python3.11", "python3")  # as 3.14, or as a shim of pyenv
    assert fail().startswith("python3 is not Python 3.11, 3.12 or 3.13, which TensorFlow needs; Debian and Ubuntu: ")
    assert fail("PYTHON=/none/python3.12").startswith("/none/python3.12 is not Python 3.11")
    stub('case "$*" in *ensurepip*) exit 1;; esac', "python3.12")
    assert fail() == "python3.12 has no pip for environments; sudo apt install python3.12-venv"
    stub("echo Darwin x86_64", "uname")
    assert fail().startswith("TensorFlow has no packages for this system")
