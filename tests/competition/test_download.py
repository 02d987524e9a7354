"""Downloading: the real client against a loopback Kaggle, and the checks of the archive."""

import os
import re
import time
import zipfile

import pytest
from kaggle_checks import failed
from waiting import wait_until

from digit_recognizer import files
from digit_recognizer.competition import download


def find_fault(folder, content):
    """Return the fault of an archive, given its bytes."""
    (folder / "archive.zip").write_bytes(content)
    return download.find_fault(folder / "archive.zip")


def read_folder(folder):
    """Return the content of all files but those of the lock."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".lock")}


# Downloading


def test_download_writes_the_competitions_files(kaggle, run_command, tmp_path, competition_files):
    started = time.time()
    result = run_command("download", "--data-dir", "elsewhere")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "downloading digit-recognizer.zip",
        "unpacked train.csv, test.csv, sample_submission.csv into elsewhere",
    ]
    assert read_folder(tmp_path / "elsewhere") == competition_files
    assert all(path.stat().st_mtime >= started - 1 for path in (tmp_path / "elsewhere").glob("*.csv"))


def test_complete_files_are_downloaded_again_only_with_force(kaggle, tmp_path):
    download.download(tmp_path)
    seen = len(kaggle.requests)
    lines = []
    download.download(tmp_path, say=lines.append)
    assert len(kaggle.requests) == seen
    assert lines == [f"the competition's files are already in {tmp_path}; FORCE=1 (--force) downloads them again"]
    download.download(tmp_path, force=True)
    content = (tmp_path / "test.csv").read_bytes()
    (tmp_path / "test.csv").write_bytes(content[:-1])
    download.download(tmp_path)
    assert kaggle.requests.count("download") == 3
    assert (tmp_path / "test.csv").read_bytes() == content


@pytest.mark.parametrize("name", ["IntrospectToken", "DownloadDataFiles", "download"])
def test_download_retries_after_one_failure(kaggle, tmp_path, name):
    kaggle.fail(name, status=429, headers={"Retry-After": "0"})
    download.download(tmp_path)
    assert read_folder(tmp_path).keys() == download.EXPECTED.keys()


def test_killed_download_leaves_no_files_and_is_resumed(
    kaggle, make_archive, start_python, tmp_path, competition_files
):
    kaggle.archive = make_archive({"padding": os.urandom(3 << 20)})
    kaggle.fail("download", cut=5 << 19, stall=30)
    data_dir = tmp_path / "data"
    part = data_dir / ".download" / "digit-recognizer.zip"
    process = start_python(
        "from digit_recognizer.competition.download import *; from pathlib import Path; download(Path('data'))"
    )
    wait_until(lambda: part.exists() and part.stat().st_size == 2 << 20)
    process.kill()
    process.wait()
    assert not list(data_dir.glob("*.csv"))
    download.download(data_dir)
    assert kaggle.ranges[-1] == f"bytes={2 << 20}-"
    assert read_folder(data_dir) == competition_files


UNPACK_HALF = """
import shutil, sys
from pathlib import Path
from digit_recognizer.competition import download

def copy(source, target, length):
    target.write(source.read(1000))
    target.flush()
    if Path(target.name).name.startswith(".test."):
        sys.stdin.read()
    shutil.copyfileobj(source, target)

download.shutil = type("shutil", (), {"copyfileobj": copy, "rmtree": shutil.rmtree})
download.download(Path("data"))
"""


def test_download_killed_while_unpacking_is_finished_by_the_next_call(
    kaggle, start_python, tmp_path, competition_files
):
    data_dir = tmp_path / "data"
    process = start_python(UNPACK_HALF)
    wait_until(lambda: any(path.stat().st_size for path in data_dir.glob(".test.*.csv")))
    process.kill()
    process.wait()
    assert (data_dir / "train.csv").read_bytes() == competition_files["train.csv"]
    assert not (data_dir / "test.csv").exists()
    download.download(data_dir)
    assert read_folder(data_dir) == competition_files


WAIT_TO_DOWNLOAD = """
import sys
from pathlib import Path
from digit_recognizer.competition import download

wait_to_download = download._download_archive
def wait(*args):
    sys.stdin.read()
    wait_to_download(*args)

download._download_archive = wait
download.download(Path("data"))
"""


def test_second_download_waits_for_the_first_and_finds_its_files(kaggle, start_python, tmp_path, competition_files):
    data_dir = tmp_path / "data"
    process = start_python(WAIT_TO_DOWNLOAD)
    wait_until((data_dir / ".lock.txt").exists)
    lines = []

    def say(line):
        lines.append(line)
        process.stdin.close()

    download.download(data_dir, say=say)
    assert process.wait() == 0
    assert lines[0].startswith(f"{data_dir}: waiting for process {process.pid}, since")
    assert lines[1:] == [f"the competition's files are already in {data_dir}; FORCE=1 (--force) downloads them again"]
    assert kaggle.requests.count("download") == 1
    assert read_folder(data_dir) == competition_files


def test_damaged_archive_changes_nothing_and_is_not_reused(kaggle, run_command, tmp_path, competition_files):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("mine")
    kaggle.fail("download", content=kaggle.archive[:-100] + bytes(100))
    line = failed(run_command("download"))
    assert re.search(r"the archive is damaged: it cannot be read as a zip archive .*; data was not changed", line)
    assert read_folder(tmp_path / "data") == {"train.csv": b"mine"}
    download.download(tmp_path / "data")
    assert kaggle.ranges == [None, None]
    assert read_folder(tmp_path / "data") == competition_files


def test_error_of_a_folder_that_cannot_be_written(kaggle, run_command, tmp_path):
    (tmp_path / "data").touch()
    assert failed(run_command("download")).startswith("could not read or write data: File exists; move away what")
    assert kaggle.requests == []


# The archive


def test_only_the_expected_files_are_unpacked(kaggle, make_archive, tmp_path, competition_files):
    kaggle.archive = make_archive({"readme.txt": b"hello", "../../outside.txt": b"here", "/tmp/outside.txt": b"here"})  # noqa: S108
    download.download(tmp_path / "data")
    assert read_folder(tmp_path / "data") == competition_files
    assert not list(tmp_path.parent.rglob("outside.txt"))


def test_archive_bomb_is_refused_unread(make_archive, tmp_path, monkeypatch):
    bomb = make_archive({"zeros": bytes(1_000_000)})
    assert find_fault(tmp_path, bomb) is None
    monkeypatch.setattr(files, "UNPACKED_LIMIT", 1_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was read"))
    assert "unpacked bytes, more than 1,000,000" in find_fault(tmp_path, bomb)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("train.csv", b"", "train.csv: expected the header 'label,pixel0,"),
        ("test.csv", b"<html>" * 9999, "test.csv: expected the header 'pixel0,pixel1,"),
        ("sample_submission.csv", b"ImageId,Label\r\n1,0\r\n2", "expected 28,000 complete rows, found 1"),
        ("sample_submission.csv", b"ImageId,Label\n" + b"1,0\n" * 28_000 + b"1,", "found more"),
    ],
)
def test_wrong_file_in_the_archive_is_found(make_archive, tmp_path, name, content, fault):
    assert fault in find_fault(tmp_path, make_archive({name: content}))
