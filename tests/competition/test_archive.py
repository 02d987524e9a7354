"""The competition's archive, checked and unpacked."""

import os
import zipfile

import pytest

from digit_recognizer.competition import archive


@pytest.fixture
def check(tmp_path):
    """Returns what is found wrong with the bytes of an archive."""

    def check(content):
        path = tmp_path / "archive.zip"
        path.write_bytes(content)
        return archive.archive_fault(path)

    return check


def test_a_good_archive_has_no_fault_and_is_unpacked_as_it_is(make_archive, competition_files, tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(make_archive(extra={"readme.txt": b"hello"}))
    assert archive.archive_fault(path) is None
    data_dir = tmp_path / "data"
    archive.unpack(path, data_dir)
    assert {file.name: file.read_bytes() for file in data_dir.iterdir()} == competition_files
    assert archive.folder_fault(data_dir) is None


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:outside.txt"]
)
def test_a_member_that_points_outside_is_refused(make_archive, check, name):
    assert "points outside" in check(make_archive(extra={name: b""}))


def test_an_archive_that_would_fill_the_disk_is_refused_unread(make_archive, check, monkeypatch):
    bomb = make_archive(extra={"zeros": bytes(archive.UNPACKED_LIMIT // 100)})
    assert check(bomb) is None
    monkeypatch.setattr(archive, "UNPACKED_LIMIT", archive.UNPACKED_LIMIT // 100)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was read"))
    assert check(bomb).startswith("it would unpack to 5,")


def test_a_changed_byte_in_any_member_is_found(make_archive, competition_files, check):
    content = make_archive(extra={"readme.txt": os.urandom(2000)})
    for name in [*competition_files, "readme.txt"]:
        start = content.index(name.encode()) + len(name)
        broken = bytearray(content)
        broken[start + 100] ^= 255
        assert check(bytes(broken)) is not None, name


def test_every_shortened_archive_is_found(make_archive, check):
    content = make_archive()
    for length in (0, 1, 1000, len(content) // 2, len(content) - 1):
        assert "cannot be read as a zip archive" in check(content[:length])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"train.csv": b""}, "train.csv: expected the header 'label,pixel0,"),
        ({"test.csv": b"<html>" * 9999}, "test.csv: expected the header 'pixel0,pixel1,"),
        ({"sample_submission.csv": b"ImageId,Label\r\n1,0\r\n"}, "expected 28,000 rows, found 1"),
        (
            {"sample_submission.csv": b"ImageId,Label\r\n" + b"1,0\r\n" * 28_000 + b"1,"},
            "found 28,000 and one that is cut",
        ),
        ({"sample_submission.csv": b"ImageId,Label\r\n" + b"1,0\r\n" * 28_001}, "expected 28,000 rows, found 28,001"),
    ],
)
def test_a_file_that_is_another_is_found(make_archive, check, changes, fault):
    assert fault in check(make_archive(**changes))


def test_a_missing_and_a_double_member_are_found(tmp_path, competition_files):
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("train.csv", "test.csv"):
            file.writestr(name, competition_files[name])
    assert archive.archive_fault(path) == "expected one sample_submission.csv in it, found none"
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("train.csv", competition_files["train.csv"])
    assert archive.archive_fault(path) == "expected one train.csv in it, found 2"


def test_a_folder_with_a_missing_or_cut_file_is_not_complete(tmp_path, competition_files):
    assert archive.folder_fault(tmp_path) == "train.csv is missing, or cannot be read"
    for name, content in competition_files.items():
        (tmp_path / name).write_bytes(content)
    assert archive.folder_fault(tmp_path) is None
    (tmp_path / "test.csv").write_bytes(competition_files["test.csv"][:-1])
    assert archive.folder_fault(tmp_path) == "test.csv: expected 28,000 rows, found 27,999 and one that is cut off"
