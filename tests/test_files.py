"""Atomic writes, JSON and hashes."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from digit_recognizer import files
from digit_recognizer.errors import UserError


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "table.csv"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_replaces_the_file_under_the_same_suffix(tmp_path):
    path = tmp_path / "folder" / "model.keras"
    with files.replacing(path) as temporary:
        assert temporary.suffix == ".keras"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o044 == 0o044  # others may read it, as with any file that open() makes


def test_temporary_file_of_a_killed_writer_is_deleted_by_the_next_one(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", ""])
    writer.wait()
    path, kept = tmp_path / "table.csv", tmp_path / f".table.{os.getpid()}-01234567.csv"  # of a writer at work
    for other in (kept, tmp_path / f".table.{writer.pid}-01234567.csv", tmp_path / ".table.csv"):
        other.touch()
    files.write_text(path, "new")
    assert sorted(tmp_path.iterdir()) == sorted([path, kept, tmp_path / ".table.csv"])


def test_error_of_the_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, files.replacing(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "table.csv")


def test_json_is_written_in_utf_8_and_read_again(tmp_path):
    files.write_json(tmp_path / "a.json", {"ä": [1, None]})
    assert (tmp_path / "a.json").read_bytes() == b'{\n  "\xc3\xa4": [\n    1,\n    null\n  ]\n}\n'
    assert files.read_json(tmp_path / "a.json") == {"ä": [1, None]}


def test_missing_or_invalid_json_is_an_error(tmp_path):
    with pytest.raises(UserError, match="found none"):
        files.read_json(tmp_path / "a.json")
    for text in ("{", '"\\ud800"', "[" * 100_000, "9" * 5000, "\0"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(
            UserError, match=r"expected JSON as .*a.json, found something else \(.*\); move it away and make"
        ):
            files.read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"found something else \(Is a directory\)"):
        files.read_json(tmp_path)


def test_what_a_damaged_file_says_is_printed_without_control_characters(tmp_path):
    with pytest.raises(UserError) as error, files.reading(tmp_path, "a\x1b", "delete it"):
        raise ValueError("\x1b[2J\nowned\udcff" + "x" * 10_000)
    assert " [2J owned xxx" in str(error.value)
    assert len(str(error.value)) < 500


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", zeros=np.zeros(10_000, np.uint8))
    assert files.load_arrays(tmp_path / "a.npz")["zeros"].sum() == 0
    monkeypatch.setattr(files, "UNPACKED_LIMIT", 10_000)
    with pytest.raises(ValueError, match="10,128 unpacked bytes, more than 10,000"):
        files.load_arrays(tmp_path / "a.npz")


WRITER = """
import sys
from pathlib import Path
from digit_recognizer import files
with files.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_writer(folder):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "locked\n"
    return writer


def test_second_writer_is_told_who_the_first_one_is_and_may_wait_for_it(tmp_path):
    said = []
    with start_writer(tmp_path) as writer:
        found = rf"is being written by process {writer.pid}, since 20\d\d-.*; wait until it ends"
        with pytest.raises(UserError, match=found), files.locked(tmp_path, wait=False):
            pass

        def say(line):
            said.append(line)
            writer.stdin.close()

        with files.locked(tmp_path, say=say):
            assert writer.wait(timeout=20) == 0
    assert len(said) == 1
    assert f"waiting for process {writer.pid}, since" in said[0]


def test_lock_of_a_killed_process_is_free(tmp_path):
    with start_writer(tmp_path) as writer:
        writer.kill()
    with files.locked(tmp_path, wait=False), files.locked(tmp_path, wait=False):  # nested blocks of one process
        assert (tmp_path / ".lock.txt").read_text().startswith(f"process {os.getpid()}, since")
    with files.locked(tmp_path, wait=False):
        pass
