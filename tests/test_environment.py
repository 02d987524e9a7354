"""Full and read-only disks, homes, names, locales and cores: a stage works, or it ends with one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import made
import pytest

from digit_recognizer.data import demo
from digit_recognizer.handwriting import sample_digits

pytestmark = pytest.mark.slow

SCRIPT = Path(sys.executable).with_name("digit-recognizer")
TRAIN = "train", "--preset=fast", "--epochs=1", "--folds=2"
STAGES = [TRAIN, ("evaluate",), ("submission",), ("report",), ("predict", "picture.png"), ("demo",)]


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A folder with the demo's data, a run and a picture."""
    folder = tmp_path_factory.mktemp("kit")
    demo.write_demo_data(folder / "data")
    made.write_run(folder / "models" / "made", folder / "data", networks=True)
    cv2.imwrite(str(folder / "picture.png"), sample_digits.draw_digits()[3])
    return folder


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
    shutil.copytree(kit / "data", tmp_path / "data")
    shutil.copytree(kit / "models", tmp_path / "models")
    shutil.copy(kit / "picture.png", tmp_path)
    for name in ("submissions", "reports", "predictions", "demo"):
        (tmp_path / name).write_text("in the way")
    (tmp_path / "models" / "made" / "figures").write_text("in the way")
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


def test_data_dir_with_spaces_quotes_and_other_letters_reaches_the_command_unchanged():
    name = 'it\'s \u00e4 "b"'
    answer = subprocess.run(
        ["make", "--no-print-directory", "-n", "train", f"DATA_DIR={name}"], capture_output=True, text=True, check=True
    )
    command = "printf '%s\\n'" + answer.stdout.rpartition(".venv/bin/digit-recognizer")[2]
    printed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert printed == f"train\n--data-dir\n{name}\n"
