"""The record of a submission and the ledger."""

import contextlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kaggle_checks import KilledError, kill_at

from digit_recognizer.competition import record as records
from digit_recognizer.competition.submission import check_submission
from digit_recognizer.errors import UserError

ROOT = Path(__file__).parents[2]
TEST_SHA256 = "2" * 64


@pytest.fixture
def folder(tmp_path, run_record):
    return tmp_path / "submissions" / run_record["run"]


@pytest.fixture
def write(folder, run_record, labels):
    """Write a submission folder and return its record."""

    def write(labels=labels, folder=folder, **changes):
        records.write_submission_folder(folder, run_record | changes, labels, TEST_SHA256)
        return records.read_record(folder)

    return write


def test_folder_holds_the_predictions_and_their_origin(write, folder, run_record, labels):
    record = write()
    assert np.array_equal(check_submission(folder / "submission.csv"), labels)
    assert record["validation_accuracy"] == 0.9942
    assert {name: record[name] for name in ("run", "competition", "config", "git_commit", "data", "versions")} == {
        name: run_record[name] for name in ("run", "competition", "config", "git_commit", "data", "versions")
    }
    assert (record["status"], record["submission_id"], record["public_score"]) == ("written", None, None)
    assert len(record["submission_sha256"]) == len(record["predictions_sha256"]) == 64


def test_any_test_csv_can_be_predicted(folder, run_record):
    run_record["data"] = {"train.csv": "1" * 64}
    records.write_submission_folder(folder, run_record, np.array([3, 1]), "4" * 64)
    assert (folder / "submission.csv").read_bytes() == b"ImageId,Label\r\n1,3\r\n2,1\r\n"
    record = records.read_record(folder)
    assert (record["data"]["test.csv"], record["run_test_sha256"]) == ("4" * 64, None)


def test_state_of_the_upload_is_kept_for_the_same_predictions(write, folder):
    record = write() | {"status": "pending", "submission_id": 7}
    records.update_record(folder, record)
    assert write() == record


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("uploading", "look for it on kaggle.com/competitions/digit-recognizer/submissions"),
        ("pending", "`make submit`"),
    ],
)
def test_unfinished_upload_of_other_predictions_is_not_overwritten(write, folder, labels, status, remedy):
    records.update_record(folder, write() | {"status": status})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=rf"found an unfinished upload of other .* \({status}\); .*{remedy}"):
        write(9 - labels)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert records.is_pending(folder) == (status == "pending")
    records.update_record(folder, records.read_record(folder) | {"status": "complete", "submission_id": 7})
    assert write(9 - labels)["status"] == "written"


@pytest.mark.parametrize("step", range(12))
def test_writing_that_is_killed_at_any_step_is_repeated_by_the_next_call(write, folder, labels, monkeypatch, step):
    write(9 - labels)
    with monkeypatch.context() as patch:
        kill = kill_at(step)
        for name in ("write_submission", "sha256", "write_json"):
            patch.setattr(records, name, kill(getattr(records, name)))
        with contextlib.suppress(KilledError):
            write(labels)
            assert step >= 6
    assert write(labels) == write(labels, folder=folder.with_name("undisturbed"))
    assert {path.name for path in folder.iterdir()} == {"submission.csv", "record.json"}
    assert np.array_equal(check_submission(folder / "submission.csv"), labels)


def test_temporary_files_of_a_killed_writer_are_deleted(write, folder):
    folder.mkdir(parents=True)
    (folder / ".submission.0123abcd.csv").write_text("half")
    (folder.parent / ".ledger.0123abcd.csv").write_text("half")
    records.update_record(folder, write() | {"submission_id": 7})
    assert {path.name for path in folder.iterdir()} == {"submission.csv", "record.json"}
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "ledger.csv", ".lock", ".lock.json"}


@pytest.mark.parametrize(("ones", "warnings"), [(89, []), (90, []), (91, ["91% of the predictions are the digit 1"])])
def test_predictions_nearly_all_in_one_class_are_a_warning(write, ones, warnings):
    labels = np.repeat([1, 2], [ones, 100 - ones])
    assert write(labels)["warnings"] == warnings
    assert write(labels, warnings=["of the run"])["warnings"] == ["of the run", *warnings]


def test_submission_is_current_for_one_run_and_one_test_csv(write, folder, run_record):
    assert not records.is_current(folder, run_record, TEST_SHA256)
    write()
    assert records.is_current(folder, run_record, TEST_SHA256)
    assert not records.is_current(folder, run_record, "3" * 64)
    assert not records.is_current(folder, run_record | {"finished_at": "2026-11-23T12:00:00+00:00"}, TEST_SHA256)
    (folder / "submission.csv").write_text("changed")
    assert not records.is_current(folder, run_record, TEST_SHA256)


@pytest.mark.parametrize("content", ["", "[]", '{"run": "a"}'])
def test_invalid_record_is_refused(folder, content):
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"record\.json, found none; run `make submission`"):
        records.read_record(folder)
    (folder / "record.json").write_text(content)
    with pytest.raises(UserError, match=r"record\.json"):
        records.read_record(folder)


def test_record_without_the_hash_of_the_runs_test_csv_is_read(write, folder):
    """Records written by earlier versions do not have it."""
    record = write()
    del record["run_test_sha256"]
    (folder / "record.json").write_text(json.dumps(record))
    assert records.read_record(folder) == record


def test_ledger_has_one_row_per_submission_and_updates_it(write, folder):
    ledger = folder.parent / "ledger.csv"
    record = write()
    records.update_record(folder, record)
    assert records.read_ledger(ledger) == []

    first = record | {"status": "pending", "submission_id": 7, "submitted_at": "2026-01-02T03:04:05+00:00"}
    second = first | {"submission_id": 8, "message": 'commas, "quotes"\nand lines'}
    records.update_record(folder, first)
    records.update_record(folder, second)
    records.update_record(folder, first | {"status": "complete", "public_score": 0.99421})

    table = pd.read_csv(ledger)
    assert list(table.columns) == list(records.LEDGER_COLUMNS)
    assert table["submission_id"].tolist() == [7, 8]
    assert table["status"].tolist() == ["complete", "pending"]
    assert table["public_score"].fillna(-1).tolist() == [0.99421, -1]
    assert table["message"][1] == second["message"]


WRITER = """
import sys
from pathlib import Path
from digit_recognizer.competition import record

folder, number = Path(sys.argv[1]), int(sys.argv[2])
written = record.read_record(folder)
sys.stdin.read()
record.update_record(folder.with_name(f"run-{number}"), written | {"submission_id": number})
"""


def test_twelve_writers_at_one_moment_leave_twelve_lines_in_the_ledger(write, folder, start_python):
    write()
    writers = [start_python(WRITER, folder, str(number)) for number in range(12)]
    for writer in writers:
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0] * 12
    assert {row["submission_id"] for row in records.read_ledger(folder.parent / "ledger.csv")} == set(
        map(str, range(12))
    )


def test_files_of_locks_are_not_tracked():
    names = ["submissions/.lock", "submissions/.lock.json", "kernel/.lock", "kernel/.lock.json"]
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git repository")
    assert (
        subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True).stdout.split()
        == names
    )


@pytest.mark.parametrize("content", ["", "run;status\n", ",".join(records.LEDGER_COLUMNS) + "\na,b\n"])
def test_invalid_ledger_is_refused_and_not_overwritten(write, folder, content):
    record, ledger = write(), folder.parent / "ledger.csv"
    ledger.write_text(content)
    with pytest.raises(UserError, match=r"ledger\.csv: expected rows of the columns run,"):
        records.update_record(folder, record | {"submission_id": 7})
    assert ledger.read_text() == content
