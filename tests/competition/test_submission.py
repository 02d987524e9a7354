"""The submission file, its record and the ledger."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from kaggle_checks import KilledError, kill_at

from digit_recognizer.competition import submission
from digit_recognizer.errors import UserError

TEST_SHA256 = "2" * 64


@pytest.fixture
def folder(tmp_path, run_record):
    return tmp_path / "submissions" / run_record["run"]


@pytest.fixture
def write(folder, run_record, labels):
    """Write a submission folder and return its record."""

    def write(labels=labels, folder=folder, **changes):
        submission.write_submission_folder(folder, run_record | changes, labels, TEST_SHA256)
        return submission.read_record(folder)

    return write


# The file


def test_file_is_byte_for_byte_in_the_format_of_the_sample(tmp_path):
    submission.write_submission(tmp_path / "submission.csv", np.array([2, 0, 9], np.uint8))
    assert (tmp_path / "submission.csv").read_bytes() == b"ImageId,Label\r\n1,2\r\n2,0\r\n3,9\r\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_predictions_are_read_back_with_either_line_end(tmp_path, labels, line_end):
    path = tmp_path / "submission.csv"
    submission.write_submission(path, labels)
    path.write_bytes(path.read_bytes().replace(b"\r\n", line_end).removesuffix(line_end))
    checked = submission.check_submission(path)
    assert np.array_equal(checked, labels)
    assert checked.dtype == np.uint8


WRONG_FILES = {
    "empty": (lambda lines: [], 1, "the header ImageId,Label", "''"),
    "byte order mark": (lambda lines: ["\ufeff" + lines[0], *lines[1:]], 1, "the header", "'\\ufeffImageId,Label'"),
    "missing line": (lambda lines: [*lines[:500], *lines[501:]], 501, "ImageId 500 of", "'501,0'"),
    "label 10": (lambda lines: [*lines[:3], "3,10", *lines[4:]], 4, "ImageId 3 of 28,000 and a label 0..9", "'3,10'"),
    "space": (lambda lines: [*lines[:3], "3, 3", *lines[4:]], 4, "ImageId 3 of", "'3, 3'"),
    "too few lines": (lambda lines: lines[:-1], 28_001, "ImageId 28000 of", "the end of the file"),
    "too many lines": (lambda lines: [*lines, "28001,3"], 28_002, "the end of the file after 28,000", "'28001,3'"),
    "no text": (lambda lines: [*lines[:3], "3,\udcff", *lines[4:]], 4, "ImageId 3 of", "'3,\ufffd'"),
}


@pytest.mark.parametrize(("change", "line", "expected", "found"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_error_names_the_first_invalid_line(tmp_path, labels, change, line, expected, found):
    path = tmp_path / "submission.csv"
    submission.write_submission(path, labels)
    lines = path.read_text().splitlines()
    path.write_bytes("".join(line + "\r\n" for line in change(lines)).encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        submission.check_submission(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: expected {expected}")
    assert message.endswith(f"found {found}; move {path} away and run `make submission`")


# The record


def test_folder_holds_the_predictions_and_their_origin(write, folder, run_record, labels):
    record = write()
    assert np.array_equal(submission.check_submission(folder / "submission.csv"), labels)
    assert record["validation_accuracy"] == 0.9942
    names = "run", "competition", "config", "git_commit", "data", "versions"
    assert [record[name] for name in names] == [run_record[name] for name in names]
    assert (record["status"], record["submission_id"], record["public_score"]) == ("written", None, None)
    assert len(record["submission_sha256"]) == len(record["predictions_sha256"]) == 64


def test_state_of_the_upload_is_kept_for_the_same_predictions(write, folder):
    record = write() | {"status": "pending", "submission_id": 7}
    submission.update_record(folder, record)
    assert write() == record


@pytest.mark.parametrize(
    ("status", "remedy"), [("uploading", "look for it on kaggle.com/competitions/"), ("pending", "run `make submit`")]
)
def test_unfinished_upload_of_other_predictions_is_not_overwritten(write, folder, labels, status, remedy):
    submission.update_record(folder, write() | {"status": status})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=rf"the upload of other predictions from .* is unfinished; {remedy}"):
        write(9 - labels)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert submission.is_unfinished(folder)
    submission.update_record(folder, submission.read_record(folder) | {"status": "complete", "submission_id": 7})
    assert write(9 - labels)["status"] == "written"


@pytest.mark.parametrize("step", range(12))
def test_writing_that_is_killed_at_any_step_is_repeated_by_the_next_call(write, folder, labels, monkeypatch, step):
    write(9 - labels)
    with monkeypatch.context() as patch:
        kill = kill_at(step)
        for name in ("write_submission", "describe_majority", "write_json"):
            patch.setattr(submission, name, kill(getattr(submission, name)))
        with contextlib.suppress(KilledError):
            write(labels)
            assert step >= 6
    assert write(labels) == write(labels, folder=folder.with_name("undisturbed"))
    assert {path.name for path in folder.iterdir()} == {"submission.csv", "record.json"}
    assert np.array_equal(submission.check_submission(folder / "submission.csv"), labels)


@pytest.mark.parametrize(
    ("ones", "warnings"), [(90, []), (91, ["91% of the 100 predictions are the digit 1"])], ids=["90%", "91%"]
)
def test_predictions_nearly_all_in_one_class_are_a_warning(write, ones, warnings):
    labels = np.repeat([1, 2], [ones, 100 - ones])
    assert write(labels, warnings=["of the run"])["warnings"] == ["of the run", *warnings]


@pytest.mark.parametrize("content", [None, "", "[]", '{"run": "a"}'])
def test_invalid_record_is_refused(folder, content):
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "record.json").write_text(content)
    with pytest.raises(UserError, match=r"record\.json, found .*; move .* away and run `make submission`"):
        submission.read_record(folder)


def test_record_of_an_earlier_version_is_read(write, folder):
    record = write()
    del record["run_test_sha256"], record["warnings"]
    (folder / "record.json").write_text(json.dumps(record))
    assert submission.read_record(folder) == record


# The ledger


def test_ledger_has_one_row_per_submission_and_updates_it(write, folder):
    ledger = folder.parent / "ledger.csv"
    record = write()
    submission.update_record(folder, record)
    assert submission.read_ledger(ledger) == []

    first = record | {"status": "pending", "submission_id": 7, "submitted_at": "2026-01-02T03:04:05+00:00"}
    second = first | {"submission_id": 8, "message": 'commas, "quotes"\nand lines'}
    submission.update_record(folder, first)
    submission.update_record(folder, second)
    submission.update_record(folder, first | {"status": "complete", "public_score": 0.99421})

    table = pd.read_csv(ledger)
    assert list(table.columns) == list(submission.LEDGER_COLUMNS)
    assert table["submission_id"].tolist() == [7, 8]
    assert table["status"].tolist() == ["complete", "pending"]
    assert table["public_score"].fillna(-1).tolist() == [0.99421, -1]
    assert table["message"][1] == second["message"]


WRITER = """
import sys
from pathlib import Path
from digit_recognizer.competition import submission

folder, number = Path(sys.argv[1]), int(sys.argv[2])
written = submission.read_record(folder)
sys.stdin.read()
submission.update_record(folder.with_name(f"run-{number}"), written | {"submission_id": number})
"""


def test_twelve_writers_at_one_moment_leave_twelve_lines_in_the_ledger(write, folder, start_python):
    write()
    writers = [start_python(WRITER, folder, str(number)) for number in range(12)]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0] * 12
    rows = submission.read_ledger(folder.parent / "ledger.csv")
    assert {row["submission_id"] for row in rows} == set(map(str, range(12)))


@pytest.mark.parametrize("content", ["", "run;status\n", ",".join(submission.LEDGER_COLUMNS) + "\na,b\n"])
def test_invalid_ledger_is_refused_and_not_overwritten(write, folder, content):
    record, ledger = write(), folder.parent / "ledger.csv"
    ledger.write_text(content)
    with pytest.raises(UserError, match=r"ledger\.csv: expected the columns run,"):
        submission.update_record(folder, record | {"submission_id": 7})
    assert ledger.read_text() == content
