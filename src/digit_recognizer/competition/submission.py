"""The submission file."""

import hashlib
from pathlib import Path

import numpy as np

from digit_recognizer.errors import UserError
from digit_recognizer.files import write_text

SUBMISSION_COLUMNS = ("ImageId", "Label")
SUBMISSION_ROWS = 28_000  # rows of the competition's test.csv
FILE_NAME = "submission.csv"
MANIFEST_NAME = "manifest.json"  # of a kernel's output: the run, and the SHA-256 of each file


def write_submission(path: Path, labels: np.ndarray) -> None:
    """Write predictions, integers [n] in 0..9 in the order of test.csv, like sample_submission.csv, with CRLF."""
    lines = [",".join(SUBMISSION_COLUMNS), *(f"{index},{int(label)}" for index, label in enumerate(labels, start=1))]
    write_text(path, "\r\n".join(lines) + "\r\n")


def check_submission(path: Path, *, remedy: str | None = None) -> np.ndarray:
    """Check a submission as Kaggle does and return its predictions, uint8 [28000] in 0..9.

    The file has the header ImageId,Label and ImageId 1..28000 in order, with LF or CRLF line ends. `remedy` is what to
    do about a fault, in place of writing the file again.

    Raises:
        UserError: the file is missing or invalid; the message names the first invalid line.
    """
    if not path.exists():
        raise UserError(f"expected a submission as {path}, found none; run `make submission`")
    text = path.read_bytes().decode("utf-8", errors="replace")
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]

    def fault(number: int, expected: str) -> UserError:
        found = repr(lines[number - 1][:40]) if number <= len(lines) else "the end of the file"
        again = remedy or f"delete {path} and run `make submission`"
        return UserError(f"{path}, line {number}: expected {expected}, found {found}; {again}")

    header = ",".join(SUBMISSION_COLUMNS)
    if lines[0] != header:
        raise fault(1, f"the header {header}")
    for index in range(1, SUBMISSION_ROWS + 1):
        image_id, _, label = lines[index].partition(",") if index < len(lines) else ("", "", "")
        if image_id != str(index) or label not in tuple("0123456789"):
            raise fault(index + 1, f"ImageId {index} of {SUBMISSION_ROWS:,} and a label 0..9")
    if len(lines) > SUBMISSION_ROWS + 1:
        raise fault(SUBMISSION_ROWS + 2, f"the end of the file after {SUBMISSION_ROWS:,} predictions")
    return np.array([line[-1] for line in lines[1:]]).astype(np.uint8)


def hash_predictions(labels: np.ndarray) -> str:
    """Return the SHA-256 of predictions, integers [n] in 0..9, which does not depend on the format of a file."""
    return hashlib.sha256(np.asarray(labels).astype(np.uint8).tobytes()).hexdigest()
