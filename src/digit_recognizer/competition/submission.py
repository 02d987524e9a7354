"""The folder of a submission: its file, its record with the state of its upload, and the ledger of all submissions."""

import contextlib
import csv
import hashlib
import io
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import COMPETITION
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.metrics import describe_majority
from digit_recognizer.files import locked, read_json, write_json, write_text

SUBMISSION_HEADER = "ImageId,Label"
SUBMISSION_ROWS = 28_000  # rows of the competition's test.csv
FILE_NAME, RECORD_NAME, LEDGER_NAME = "submission.csv", "record.json", "ledger.csv"
LEDGER_COLUMNS = (
    *("run", "submitted_at", "submission_id", "message", "validation_accuracy", "public_score", "status"),
    *("submission_sha256", "predictions_sha256"),
)
# The upload's part of a record. `status` goes from written through uploading and pending to complete or error;
# `ids_before` are the submissions that Kaggle listed before the upload; `submitted_at` is ISO 8601 in UTC.
UPLOAD_FIELDS = ("message", "ids_before", "submission_id", "submitted_at", "public_score")
NOT_UPLOADED: dict[str, Any] = {"status": "written"} | dict.fromkeys(UPLOAD_FIELDS)
REQUIRED = {*LEDGER_COLUMNS, *NOT_UPLOADED, "competition", "config", "data"}
REMEDIES = {  # for an unfinished upload, by status
    "uploading": f"look for it on kaggle.com/competitions/{COMPETITION}/submissions, then move the folder away",
    "pending": "run `make submit` to wait for its score, then try again",
}


def write_submission(path: Path, labels: np.ndarray) -> None:
    """Write predictions, integers [n] in 0..9 in the order of test.csv, like sample_submission.csv, with CRLF."""
    lines = [SUBMISSION_HEADER, *(f"{index},{int(label)}" for index, label in enumerate(labels, start=1))]
    write_text(path, "\r\n".join(lines) + "\r\n")


def check_submission(path: Path, *, remedy: str | None = None) -> np.ndarray:
    """Check a submission as Kaggle does and return its predictions, uint8 [28000] in 0..9.

    The file has the header ImageId,Label and ImageId 1..28000 in order, with LF or CRLF line ends. `remedy` is what to
    do about a fault, in place of writing the file again.

    Raises:
        UserError: The file is missing or invalid; the message names the first invalid line.
    """
    if not path.exists():
        raise UserError(f"expected a submission as {path}, found none; run `make submission`")
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    for index, line in itertools.zip_longest(range(SUBMISSION_ROWS + 2), lines[: SUBMISSION_ROWS + 2]):
        if index == 0:
            expected, is_valid = f"the header {SUBMISSION_HEADER}", line == SUBMISSION_HEADER
        elif index <= SUBMISSION_ROWS:
            expected = f"ImageId {index} of {SUBMISSION_ROWS:,} and a label 0..9"
            is_valid = line is not None and line[:-1] == f"{index}," and line[-1] in "0123456789"
        else:
            expected, is_valid = f"the end of the file after {SUBMISSION_ROWS:,} predictions", line is None
        if not is_valid:
            received = "the end of the file" if line is None else repr(line[:40])
            again = remedy or f"move {path} away and run `make submission`"
            raise UserError(f"{path}, line {index + 1}: expected {expected}, found {received}; {again}")
    return np.array([line[-1] for line in lines[1:]]).astype(np.uint8)


def hash_predictions(labels: np.ndarray) -> str:
    """Return the SHA-256 of predictions, integers [n] in 0..9, which does not depend on the format of a file."""
    return hashlib.sha256(np.asarray(labels).astype(np.uint8).tobytes()).hexdigest()


def lock_submissions(submissions_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Hold an exclusive lock on a folder of submissions and its ledger during the block (`files.locked`)."""
    return locked(submissions_dir, say=lambda line: print(line, file=sys.stderr, flush=True))


def write_submission_folder(folder: Path, run: dict[str, Any], labels: np.ndarray, test_sha256: str | None) -> None:
    """Write submission.csv and record.json, and keep the state of an earlier upload of the same predictions.

    `labels` are integers [n] in 0..9 in the order of a test.csv, of which `test_sha256` is the hash if it is known.

    Raises:
        UserError: An upload of other predictions from this folder is unfinished; nothing was written.
    """
    predictions, upload = hash_predictions(labels), NOT_UPLOADED
    with lock_submissions(folder.parent):
        if (folder / RECORD_NAME).exists():
            earlier = read_record(folder)
            if earlier["predictions_sha256"] == predictions:
                upload = {name: earlier[name] for name in NOT_UPLOADED}
            elif remedy := REMEDIES.get(earlier["status"]):
                raise UserError(f"the upload of other predictions from {folder} is unfinished; {remedy}")
        write_submission(folder / FILE_NAME, labels)
        record = {name: run[name] for name in ("run", "competition", "config", "git_commit", "versions")} | {
            "data": run["data"] | {"test.csv": test_sha256},
            "run_test_sha256": run["data"].get("test.csv"),
            "validation_accuracy": run["scores"]["validation_accuracy"],
            "warnings": run.get("warnings", []) + describe_majority("predictions", labels),
            "submission_sha256": hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest(),
            "predictions_sha256": predictions,
        }
        write_json(folder / RECORD_NAME, record | upload)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a submission folder; raise a `UserError` if it is missing or invalid."""
    path, remedy = folder / RECORD_NAME, f"move {folder} away and run `make submission`"
    record = read_json(path, "the record of a submission", remedy)
    if not isinstance(record, dict) or not record.keys() >= REQUIRED:
        raise UserError(f"expected the record of a submission as {path}, found other JSON; {remedy}")
    return record


def is_unfinished(folder: Path) -> bool:
    """Return whether a submission is being uploaded from a folder, or its score was not read yet."""
    return (folder / RECORD_NAME).exists() and read_record(folder)["status"] in REMEDIES


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
    """Return the rows of the ledger, oldest first, [] if there is none; raise a `UserError` if it has other columns."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        columns, rows = tuple(reader.fieldnames or ()), list(reader)
    if columns != LEDGER_COLUMNS or any(None in row.values() or None in row for row in rows):
        raise UserError(f"{path}: expected the columns {','.join(LEDGER_COLUMNS)}; restore it from git or move it away")
    return rows
