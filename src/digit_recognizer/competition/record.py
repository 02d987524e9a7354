"""The record of a submission, with the state of its upload, and the ledger of all submissions."""

import contextlib
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.competition.submission import FILE_NAME, hash_predictions, write_submission
from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.metrics import describe_majority
from digit_recognizer.files import locked, read_json, sha256, write_json, write_text

RECORD_NAME = "record.json"
LEDGER_NAME = "ledger.csv"
LEDGER_COLUMNS = (
    *("run", "submitted_at", "submission_id", "message", "validation_accuracy", "public_score", "status"),
    *("submission_sha256", "predictions_sha256"),
)
# The upload's part of a record. `status` goes from written through uploading and pending to complete or error;
# `ids_before` are the submissions that Kaggle listed before the upload; `submitted_at` is ISO 8601 in UTC.
UPLOAD_FIELDS = ("message", "ids_before", "submission_id", "submitted_at", "public_score")
NOT_UPLOADED: dict[str, Any] = {"status": "written"} | dict.fromkeys(UPLOAD_FIELDS)
REQUIRED = {*LEDGER_COLUMNS, *NOT_UPLOADED, "competition", "config", "trained_at", "data"}
REMEDIES = {  # for an unfinished upload, by status
    "uploading": f"look for it on kaggle.com/competitions/{COMPETITION}/submissions, then delete the folder",
    "pending": "run `make submit` to wait for its score, then try again",
}


def lock_submissions(submissions_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Be the only writer of a folder of submissions and of its ledger during the block (`files.locked`)."""
    return locked(submissions_dir, say=lambda line: print(line, file=sys.stderr, flush=True))


def write_submission_folder(folder: Path, run: dict[str, Any], labels: np.ndarray, test_sha256: str | None) -> None:
    """Write submission.csv and record.json, and keep the state of an earlier upload of the same predictions.

    `labels` are integers [n] in 0..9 in the order of a test.csv, of which `test_sha256` is the hash if it is known.

    Raises:
        UserError: an upload of other predictions from this folder is unfinished; nothing was written.
    """
    predictions, upload = hash_predictions(labels), NOT_UPLOADED
    with lock_submissions(folder.parent):
        if (folder / RECORD_NAME).exists():
            earlier = read_record(folder)
            if earlier["predictions_sha256"] == predictions:
                upload = {name: earlier[name] for name in NOT_UPLOADED}
            elif remedy := REMEDIES.get(earlier["status"]):
                found = f"an unfinished upload of other predictions in {folder} ({earlier['status']})"
                raise UserError(f"found {found}; {remedy}")
        write_submission(folder / FILE_NAME, labels)
        majority = describe_majority("predictions", labels)
        record = {name: run[name] for name in ("run", "competition", "config", "git_commit", "versions")} | {
            "data": run["data"] | {"test.csv": test_sha256},
            "run_test_sha256": run["data"].get("test.csv"),
            "trained_at": run["finished_at"],
            "validation_accuracy": run["scores"]["validation_accuracy"],
            "warnings": run.get("warnings", []) + ([majority] if majority else []),
            "submission_sha256": sha256(folder / FILE_NAME),
            "predictions_sha256": predictions,
        }
        write_json(folder / RECORD_NAME, record | upload)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a submission folder; raise a UserError if it is missing or invalid."""
    path = folder / RECORD_NAME
    record = read_json(path) if path.exists() else None
    if not isinstance(record, dict) or not record.keys() >= REQUIRED:
        found = f"something else; delete {folder} and" if path.exists() else "none;"
        raise UserError(f"expected the record of a submission as {path}, found {found} run `make submission`")
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
    with lock_submissions(folder.parent):
        write_json(folder / RECORD_NAME, record)
        if record["submission_id"] is not None:
            path, text = folder.parent / LEDGER_NAME, io.StringIO()
            rows = {row["submission_id"]: row for row in read_ledger(path)} | {str(record["submission_id"]): record}
            writer = csv.DictWriter(text, LEDGER_COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())
            write_text(path, text.getvalue())


def read_ledger(path: Path) -> list[dict[str, str]]:
    """Return the rows of the ledger, oldest first, [] if there is none; raise a UserError if it has other columns."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = tuple(reader.fieldnames or ()), list(reader)
    if columns != LEDGER_COLUMNS or any(None in row.values() or None in row for row in rows):
        expected = f"expected rows of the columns {','.join(LEDGER_COLUMNS)}"
        raise UserError(f"{path}: {expected}, found something else; restore the file from git, or move it away")
    return rows
