"""A submission's file, its record and the ledger of all submissions."""

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import CLASSES, count_members
from digit_recognizer.errors import UserError
from digit_recognizer.files import read_json, sha256, write_json, write_text

SUBMISSION_COLUMNS = ("ImageId", "Label")
SUBMISSION_ROWS = 28_000  # of test.csv
FILE_NAME = "submission.csv"
RECORD_NAME = "record.json"
MANIFEST_NAME = "manifest.json"  # of a kernel's output: its run, and the SHA-256 of each of its files
LEDGER_NAME = "ledger.csv"
LEDGER_COLUMNS = (
    "run",
    "submitted_at",
    "submission_id",
    "message",
    "validation_accuracy",
    "public_score",
    "status",
    "submission_sha256",
    "predictions_sha256",
)
# What a record knows of its upload; `status` goes from written over uploading and pending to complete or error.
NOT_UPLOADED = {
    "status": "written",
    "message": None,
    "ids_before": None,  # the submissions that Kaggle listed before this one
    "submission_id": None,
    "submitted_at": None,  # ISO 8601, UTC
    "public_score": None,
}


def write_submission(path: Path, labels: np.ndarray) -> None:
    """Writes predictions in the format of sample_submission.csv, CRLF line ends included.

    Args:
        path: the file to write, whole or not at all.
        labels: integers [n] in 0..9, in the order of test.csv.
    """
    lines = [",".join(SUBMISSION_COLUMNS), *(f"{index},{int(label)}" for index, label in enumerate(labels, start=1))]
    write_text(path, "\r\n".join(lines) + "\r\n")


def check_submission(path: Path, *, remedy: str | None = None) -> np.ndarray:
    """Checks a submission as Kaggle would and returns its predictions.

    Args:
        path: of a CSV file with the header ImageId,Label and ImageId 1..28000 in order; either line end will do.
        remedy: what to do about a fault; None for making the file again.

    Returns:
        uint8 [28000] in 0..9.

    Raises:
        UserError: the first fault, with its file and line.
    """
    again = remedy or f"delete {path} and run `make submission`"
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError(f"expected a submission as {path}, found none; run `make submission`") from None
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    header = ",".join(SUBMISSION_COLUMNS)
    if lines[0] != header:
        raise UserError(f"{path}, line 1: expected the header {header}, found {_shown(lines[0])}; {again}")
    labels = np.empty(SUBMISSION_ROWS, np.uint8)
    digits = {str(digit) for digit in range(CLASSES)}
    for index in range(SUBMISSION_ROWS):
        number = index + 2
        if number > len(lines):
            raise UserError(
                f"{path}, line {number}: expected {SUBMISSION_ROWS:,} predictions, found the end of the file after "
                f"{index:,}; {again}"
            )
        image_id, comma, label = lines[index + 1].partition(",")
        if image_id != str(index + 1) or not comma:
            raise UserError(
                f"{path}, line {number}: expected ImageId {index + 1} and a label, found {_shown(lines[index + 1])}; "
                f"{again}"
            )
        if label not in digits:
            raise UserError(f"{path}, line {number}: expected a label 0..9, found {_shown(label)}; {again}")
        labels[index] = int(label)
    if len(lines) > SUBMISSION_ROWS + 1:
        raise UserError(
            f"{path}, line {SUBMISSION_ROWS + 2}: expected the end of the file after {SUBMISSION_ROWS:,} predictions, "
            f"found {_shown(lines[SUBMISSION_ROWS + 1])}; {again}"
        )
    return labels


def hash_predictions(labels: np.ndarray) -> str:
    """Returns the SHA-256 of predictions, integers [n] in 0..9, whatever the file around them looks like."""
    return hashlib.sha256(np.asarray(labels).astype(np.uint8).tobytes()).hexdigest()


def write_record(folder: Path, run_record: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
    """Writes the record beside a submission.csv that was just written.

    What an earlier record of the same predictions knows of their upload is kept.

    Args:
        folder: submissions/<run>.
        run_record: the run's own record: run, competition, config, git_commit, data, versions, scores.
        labels: integers [n] in 0..9, the predictions in the file.

    Returns:
        The record.

    Raises:
        UserError: other predictions of this folder are on their way to Kaggle.
    """
    predictions = hash_predictions(labels)
    upload = NOT_UPLOADED
    if (folder / RECORD_NAME).exists():
        earlier = read_record(folder)
        if earlier["predictions_sha256"] == predictions:
            upload = {name: earlier[name] for name in NOT_UPLOADED}
        elif earlier["status"] in ("uploading", "pending"):
            raise UserError(
                f"expected no unfinished upload in {folder}, found one of other predictions ({earlier['status']}); "
                f"run `make submit RUN={earlier['run']}` with the earlier {FILE_NAME} first, or delete the folder"
            )
    record = {
        "run": run_record["run"],
        "competition": run_record["competition"],
        "submission_sha256": sha256(folder / FILE_NAME),
        "predictions_sha256": predictions,
        "trained_at": run_record["finished_at"],
        "validation_accuracy": run_record["scores"]["validation_accuracy"],
        "config": run_record["config"],
        "git_commit": run_record["git_commit"],
        "data": run_record["data"],
        "versions": run_record["versions"],
    } | upload
    write_json(folder / RECORD_NAME, record)
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record of a submission folder.

    Raises:
        UserError: it is missing, or is not a record.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        raise UserError(f"expected the record of a submission as {path}, found none; run `make submission`")
    record = read_json(path)
    needed = {"run", "competition", "config", "trained_at", "validation_accuracy"} | {
        "submission_sha256",
        "predictions_sha256",
    }
    missing = (needed | NOT_UPLOADED.keys()) - (record.keys() if isinstance(record, dict) else set())
    if missing:
        raise UserError(
            f"{path}: expected the record of a submission, found none of {', '.join(sorted(missing))}; "
            f"delete {folder} and run `make submission`"
        )
    return record


def is_current(folder: Path, run_record: dict[str, Any]) -> bool:
    """Whether a folder holds the submission of a run as it stands, so that it need not be made again."""
    if not ((folder / FILE_NAME).exists() and (folder / RECORD_NAME).exists()):
        return False
    record = read_record(folder)
    return record["trained_at"] == run_record["finished_at"] and record["submission_sha256"] == sha256(
        folder / FILE_NAME
    )


def update_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes a record, and its line in the ledger beside its folder once Kaggle has given the submission an id."""
    write_json(folder / RECORD_NAME, record)
    if record["submission_id"] is not None:
        update_ledger(folder.parent / LEDGER_NAME, record)


def read_ledger(path: Path) -> list[dict[str, str]]:
    """Returns the lines of the ledger, oldest first; none when there is no file yet.

    Raises:
        UserError: the file has other columns.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = tuple(reader.fieldnames or ()), list(reader)
    if columns != LEDGER_COLUMNS or any(None in row.values() or None in row for row in rows):
        raise UserError(
            f"{path}: expected lines of the columns {','.join(LEDGER_COLUMNS)}, found something else; "
            "restore the file from git, or move it away"
        )
    return rows


def update_ledger(path: Path, record: dict[str, Any]) -> None:
    """Writes the line of a submission in place of its earlier one, or below the others.

    Args:
        path: of the ledger; written whole or not at all.
        record: of a submission that has its id.
    """
    line = {column: "" if record[column] is None else str(record[column]) for column in LEDGER_COLUMNS}
    rows = read_ledger(path)
    for index, row in enumerate(rows):
        if row["submission_id"] == line["submission_id"]:
            rows[index] = line
            break
    else:
        rows.append(line)
    text = io.StringIO()
    writer = csv.DictWriter(text, LEDGER_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def refuse_repetition(ledger: Path, record: dict[str, Any]) -> None:
    """Asks the ledger whether a record's predictions were submitted before.

    Raises:
        UserError: they were, and Kaggle has not answered them with an error.
    """
    for row in read_ledger(ledger):
        if row["predictions_sha256"] == record["predictions_sha256"] and row["status"] != "error":
            score = f"public score {float(row['public_score']):.5f}" if row["public_score"] else row["status"]
            raise UserError(
                f"expected new predictions, found exactly those of submission {row['submission_id']} "
                f"(run {row['run']}, {row['submitted_at']}, {score}); nothing was uploaded; "
                "FORCE=1 (--force) uploads them again"
            )


def default_message(record: dict[str, Any]) -> str:
    """Returns the description that a submission carries on Kaggle."""
    config = record["config"]
    members = f"{count} CNNs" if (count := count_members(config)) > 1 else "CNN"
    accuracy = record["validation_accuracy"]
    scored = "trained on all rows" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    return f"{record['run']}: {config['preset']} {members}, {scored}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...") if text else "nothing"
