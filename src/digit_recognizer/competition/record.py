"""The record of a submission, with the state of its upload, and the ledger of all submissions."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.competition.submission import FILE_NAME, hash_predictions, write_submission
from digit_recognizer.config import COMPETITION, count_members
from digit_recognizer.errors import UserError
from digit_recognizer.files import read_json, sha256, write_json, write_text

RECORD_NAME = "record.json"
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
# The upload's part of a record; `status` goes from written through uploading and pending to complete or error.
NOT_UPLOADED = {
    "status": "written",
    "message": None,
    "ids_before": None,  # ids of the submissions that Kaggle listed before the upload
    "submission_id": None,
    "submitted_at": None,  # ISO 8601, UTC
    "public_score": None,
}
REMEDIES = {  # for an unfinished upload, by status
    "uploading": f"look for it on kaggle.com/competitions/{COMPETITION}/submissions, then delete the folder",
    "pending": "run `make submit` to wait for its score, then try again",
}
REQUIRED = {"run", "competition", "config", "trained_at", "validation_accuracy", "submission_sha256"}
REQUIRED |= {"data", "predictions_sha256", *NOT_UPLOADED}


def write_submission_folder(
    folder: Path, run_record: dict[str, Any], labels: np.ndarray, test_sha256: str | None
) -> None:
    """Write submission.csv and record.json.

    The state of an earlier upload of the same predictions is kept.

    Args:
        folder: submissions/<run>.
        run_record: the record of the run.
        labels: integers [n] in 0..9, the predictions in the order of test.csv.
        test_sha256: hash of the test.csv that was predicted; None if unknown.

    Raises:
        UserError: an upload of other predictions from this folder is unfinished; nothing was written.
    """
    predictions = hash_predictions(labels)
    upload = NOT_UPLOADED
    if (folder / RECORD_NAME).exists():
        earlier = read_record(folder)
        if earlier["predictions_sha256"] == predictions:
            upload = {name: earlier[name] for name in NOT_UPLOADED}
        elif remedy := REMEDIES.get(earlier["status"]):
            raise UserError(
                f"expected no unfinished upload in {folder}, found one of other predictions ({earlier['status']}); "
                f"{remedy}"
            )
    write_submission(folder / FILE_NAME, labels)
    record = {
        "run": run_record["run"],
        "competition": run_record["competition"],
        "submission_sha256": sha256(folder / FILE_NAME),
        "predictions_sha256": predictions,
        "trained_at": run_record["finished_at"],
        "validation_accuracy": run_record["scores"]["validation_accuracy"],
        "config": run_record["config"],
        "git_commit": run_record["git_commit"],
        "data": run_record["data"] | {"test.csv": test_sha256},
        "run_test_sha256": run_record["data"].get("test.csv"),
        "versions": run_record["versions"],
    }
    write_json(folder / RECORD_NAME, record | upload)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a submission folder.

    Raises:
        UserError: it is missing or invalid.
    """
    path = folder / RECORD_NAME
    if not path.exists():
        raise UserError(f"expected the record of a submission as {path}, found none; run `make submission`")
    record = read_json(path)
    if missing := REQUIRED.difference(record if isinstance(record, dict) else ()):
        raise UserError(
            f"{path}: expected the record of a submission, found no {', '.join(sorted(missing))}; delete {folder} and "
            "run `make submission`"
        )
    return record


def is_current(folder: Path, run_record: dict[str, Any], test_sha256: str | None) -> bool:
    """Return whether a folder holds the submission of a run, as it is now, for a test.csv."""
    if not ((folder / FILE_NAME).exists() and (folder / RECORD_NAME).exists()):
        return False
    record = read_record(folder)
    found = record["trained_at"], record["data"].get("test.csv"), record["submission_sha256"]
    return found == (run_record["finished_at"], test_sha256, sha256(folder / FILE_NAME))


def is_pending(folder: Path) -> bool:
    """Return whether a submission was uploaded from a folder and its score was not read yet."""
    return (folder / RECORD_NAME).exists() and read_record(folder)["status"] == "pending"


def update_record(folder: Path, record: dict[str, Any]) -> None:
    """Write a record, and its row in the ledger if Kaggle has assigned an id to the submission."""
    write_json(folder / RECORD_NAME, record)
    if record["submission_id"] is not None:
        update_ledger(folder.parent / LEDGER_NAME, record)


def read_ledger(path: Path) -> list[dict[str, str]]:
    """Return the rows of the ledger, oldest first; an empty list if there is no ledger.

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
            f"{path}: expected rows of the columns {','.join(LEDGER_COLUMNS)}, found something else; restore the file "
            "from git, or move it away"
        )
    return rows


def update_ledger(path: Path, record: dict[str, Any]) -> None:
    """Add a row for a submission that has an id, or replace its earlier row."""
    rows = {row["submission_id"]: row for row in read_ledger(path)}
    row = {column: "" if record[column] is None else str(record[column]) for column in LEDGER_COLUMNS}
    rows[row["submission_id"]] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, LEDGER_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    write_text(path, text.getvalue())


def refuse_repetition(ledger: Path, record: dict[str, Any]) -> None:
    """Check that the ledger has no submission of the same predictions, unless Kaggle could not score it.

    Raises:
        UserError: it has one.
    """
    for row in read_ledger(ledger):
        if row["predictions_sha256"] == record["predictions_sha256"] and row["status"] != "error":
            score = f"public score {float(row['public_score']):.5f}" if row["public_score"] else row["status"]
            raise UserError(
                f"these predictions were already submitted (submission {row['submission_id']} of run {row['run']}, "
                f"{row['submitted_at']}, {score}); nothing was uploaded; FORCE=1 (--force) uploads them again"
            )


def default_message(record: dict[str, Any]) -> str:
    """Return the default description of a submission on Kaggle."""
    config = record["config"]
    members = f"{count} CNNs" if (count := count_members(config)) > 1 else "CNN"
    accuracy = record["validation_accuracy"]
    scored = "trained on all rows" if accuracy is None else f"validation accuracy {accuracy:.4f}"
    return f"{record['run']}: {config['preset']} {members}, {scored}"
