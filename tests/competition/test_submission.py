"""The submission's file, its record and the ledger."""

import json

import numpy as np
import pandas as pd
import pytest

from digit_recognizer.competition import submission
from digit_recognizer.errors import UserError


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 10, submission.SUBMISSION_ROWS)


@pytest.fixture
def run_record():
    return {
        "run": "single-seed0-abc123",
        "competition": "digit-recognizer",
        "config": {"preset": "single", "folds": 1},
        "git_commit": "0" * 40,
        "data": {"train.csv": "1" * 64, "test.csv": "2" * 64},
        "versions": {"numpy": "2.0.2"},
        "finished_at": "2026-11-22T12:00:00+00:00",
        "scores": {"validation_accuracy": 0.99425},
    }


@pytest.fixture
def folder(tmp_path, labels):
    folder = tmp_path / "submissions" / "single-seed0-abc123"
    submission.write_submission(folder / "submission.csv", labels)
    return folder


def test_the_file_is_byte_for_byte_in_the_format_of_the_sample(tmp_path):
    submission.write_submission(tmp_path / "submission.csv", np.array([2, 0, 9], np.uint8))
    assert (tmp_path / "submission.csv").read_bytes() == b"ImageId,Label\r\n1,2\r\n2,0\r\n3,9\r\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_predictions_survive_the_file(folder, labels, line_end):
    path = folder / "submission.csv"
    path.write_bytes(path.read_bytes().replace(b"\r\n", line_end))
    checked = submission.check_submission(path)
    assert np.array_equal(checked, labels)
    assert checked.dtype == np.uint8
    path.write_bytes(path.read_bytes().removesuffix(line_end))
    assert np.array_equal(submission.check_submission(path), labels)


WRONG_FILES = {
    "an empty file": (lambda lines: [], 1, "the header ImageId,Label", "nothing"),
    "another header": (lambda lines: ["id,label", *lines[1:]], 1, "the header ImageId,Label", "'id,label'"),
    "no header": (lambda lines: lines[1:], 1, "the header ImageId,Label", "'1,"),
    "a byte order mark": (lambda lines: ["\ufeff" + lines[0], *lines[1:]], 1, "the header", "'\\ufeffImageId,Label'"),
    "ids from 0": (lambda lines: [lines[0], "0,3", *lines[1:-1]], 2, "ImageId 1 and", "'0,3'"),
    "two lines in the wrong order": (
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        2,
        "ImageId 1 and",
        "'2,",
    ),
    "a line twice": (lambda lines: [*lines[:101], lines[100], *lines[101:]], 102, "ImageId 101 and", "'100,"),
    "a line missing": (lambda lines: [*lines[:500], *lines[501:]], 501, "ImageId 500 and", "'501,"),
    "an empty line": (lambda lines: [*lines[:7], "", *lines[7:]], 8, "ImageId 7 and", "nothing"),
    "a padded id": (lambda lines: [lines[0], "01,3", *lines[2:]], 2, "ImageId 1 and", "'01,3'"),
    "no label": (lambda lines: [*lines[:3], "3,", *lines[4:]], 4, "a label 0..9", "nothing"),
    "label 10": (lambda lines: [*lines[:3], "3,10", *lines[4:]], 4, "a label 0..9", "'10'"),
    "label -1": (lambda lines: [*lines[:3], "3,-1", *lines[4:]], 4, "a label 0..9", "'-1'"),
    "label 3.0": (lambda lines: [*lines[:3], "3,3.0", *lines[4:]], 4, "a label 0..9", "'3.0'"),
    "a space": (lambda lines: [*lines[:3], "3, 3", *lines[4:]], 4, "a label 0..9", "' 3'"),
    "a third column": (lambda lines: [*lines[:3], "3,3,3", *lines[4:]], 4, "a label 0..9", "'3,3'"),
    "too few lines": (lambda lines: lines[:-1], 28_001, "28,000 predictions", "the end of the file after 27,999"),
    "too many lines": (lambda lines: [*lines, "28001,3"], 28_002, "the end of the file", "'28001,3'"),
    "bytes that are no text": (lambda lines: [*lines[:3], "3,\udcff", *lines[4:]], 4, "a label 0..9", "'\ufffd'"),
}


@pytest.mark.parametrize(("change", "line", "expected", "found"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_named_with_line_expectation_and_find(folder, change, line, expected, found):
    path = folder / "submission.csv"
    lines = path.read_text().splitlines()
    path.write_bytes("".join(line + "\r\n" for line in change(lines)).encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        submission.check_submission(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: expected {expected}")
    assert f"found {found}" in message
    assert message.endswith(f"delete {path} and run `make submission`")
    assert "\n" not in message


def test_a_missing_file_or_record_is_named(tmp_path):
    with pytest.raises(UserError, match=r"record\.json, found none; run `make submission`"):
        submission.read_record(tmp_path)
    with pytest.raises(UserError, match=r"submission\.csv, found none; run `make submission`"):
        submission.check_submission(tmp_path / "submission.csv")


def test_the_record_holds_where_the_predictions_come_from(folder, run_record, labels):
    record = submission.write_record(folder, run_record, labels)
    assert record == submission.read_record(folder) == json.loads((folder / "record.json").read_text())
    assert record["validation_accuracy"] == 0.99425
    assert {name: record[name] for name in ("run", "competition", "config", "git_commit", "data", "versions")} == {
        name: value for name, value in run_record.items() if name not in ("scores", "finished_at")
    }
    assert (record["status"], record["submission_id"], record["public_score"]) == ("written", None, None)
    assert len(record["submission_sha256"]) == len(record["predictions_sha256"]) == 64


def test_a_record_written_again_keeps_what_it_knows_of_the_upload(folder, run_record, labels):
    record = submission.write_record(folder, run_record, labels) | {"status": "pending", "submission_id": 7}
    submission.update_record(folder, record)
    assert submission.write_record(folder, run_record, labels) == record


def test_predictions_on_their_way_to_kaggle_are_not_forgotten(folder, run_record, labels):
    record = submission.write_record(folder, run_record, labels)
    submission.update_record(folder, record | {"status": "uploading"})
    with pytest.raises(UserError, match="found one of other predictions"):
        submission.write_record(folder, run_record, 9 - labels)
    submission.update_record(folder, record | {"status": "complete", "submission_id": 7})
    assert submission.write_record(folder, run_record, 9 - labels)["status"] == "written"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"run": "a"}'])
def test_a_record_that_is_none_is_refused(folder, content):
    (folder / "record.json").write_text(content)
    with pytest.raises(UserError, match=r"record\.json"):
        submission.read_record(folder)


def test_the_ledger_has_a_line_a_submission_and_fills_it_in(folder, run_record, labels):
    ledger = folder.parent / "ledger.csv"
    record = submission.write_record(folder, run_record, labels)
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
    assert table["public_score"][0] == 0.99421
    assert np.isnan(table["public_score"][1])
    assert table["message"][1] == second["message"]


def test_identical_predictions_are_recognised_whatever_the_file_looks_like(folder, run_record, labels):
    ledger = folder.parent / "ledger.csv"
    record = submission.write_record(folder, run_record, labels)
    submission.refuse_repetition(ledger, record)
    submission.update_record(folder, record | {"status": "complete", "submission_id": 7, "public_score": 0.5})

    again = folder.parent / "another-run"
    submission.write_submission(again / "submission.csv", labels)
    (again / "submission.csv").write_bytes((again / "submission.csv").read_bytes().replace(b"\r\n", b"\n"))
    same = submission.write_record(again, run_record | {"run": "another-run"}, labels)
    assert same["submission_sha256"] != record["submission_sha256"]
    with pytest.raises(UserError, match=r"submission 7 \(run single-seed0-abc123.*public score 0\.50000\).*FORCE=1"):
        submission.refuse_repetition(ledger, same)

    labels[-1] = 9 - labels[-1]
    submission.refuse_repetition(ledger, submission.write_record(again, run_record, labels))


def test_predictions_that_kaggle_could_not_score_may_be_submitted_again(folder, run_record, labels):
    record = submission.write_record(folder, run_record, labels)
    submission.update_record(folder, record | {"status": "error", "submission_id": 7})
    submission.refuse_repetition(folder.parent / "ledger.csv", record)


@pytest.mark.parametrize("content", ["", "run;status\n", ",".join(submission.LEDGER_COLUMNS) + "\na,b\n"])
def test_a_ledger_that_is_none_is_refused_and_not_overwritten(tmp_path, content):
    ledger = tmp_path / "ledger.csv"
    ledger.write_text(content)
    with pytest.raises(UserError, match=r"ledger\.csv: expected lines of the columns run,"):
        submission.update_ledger(ledger, dict.fromkeys(submission.LEDGER_COLUMNS))
    assert ledger.read_text() == content


def test_the_message_names_run_model_and_validation_accuracy(folder, run_record, labels):
    record = submission.write_record(folder, run_record, labels)
    assert submission.default_message(record) == "single-seed0-abc123: single CNN, validation accuracy 0.9942"
    record["config"]["folds"] = 5
    assert "single 5 CNNs, validation" in submission.default_message(record)
