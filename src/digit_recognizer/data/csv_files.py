"""Load and check the competition's CSV files."""

import contextlib
import hashlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.errors import UserError

TEST_COLUMNS = [f"pixel{index}" for index in range(IMAGE_SIZE * IMAGE_SIZE)]
TRAIN_COLUMNS = ["label", *TEST_COLUMNS]
NAMES = "train.csv", "test.csv"  # of the competition


class Dataset(NamedTuple):
    """Images, their labels if known, and the hash of the file they come from."""

    images: np.ndarray  # uint8 [n, 28, 28] in 0..255, bright strokes on black
    labels: np.ndarray  # uint8 [n] in 0..9; empty for test.csv
    sha256: str  # of the CSV file


def load_train(data_dir: Path) -> Dataset:
    """Load train.csv from a folder: a header and one row per image, label,pixel0..pixel783.

    Raises:
        UserError: The file is missing or not in the competition's format; the message names file, line and column.
    """
    table, digest = _load_table(data_dir / "train.csv", TRAIN_COLUMNS)
    return Dataset(table[:, 1:].reshape(-1, IMAGE_SIZE, IMAGE_SIZE), table[:, 0].copy(), digest)


def load_test(path: Path) -> Dataset:
    """Load a test.csv of any number of rows, given as a file or its folder, as `load_train` does."""
    table, digest = _load_table(path / "test.csv" if path.is_dir() else path, TEST_COLUMNS)
    return Dataset(table.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), np.zeros(0, np.uint8), digest)


def normalise(images: np.ndarray) -> np.ndarray:
    """Scale uint8 images [n, 28, 28] in 0..255 to the model's input, float32 [n, 28, 28, 1] in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def _load_table(path: Path, columns: list[str]) -> tuple[np.ndarray, str]:
    """Return the values, uint8 [rows, columns], and the SHA-256 of a file."""
    if not path.exists():
        remedy = "run `make download`" if path.name in NAMES else "check the name"
        raise UserError(f"expected the competition's format as {path}, found no such file; {remedy}")
    content = path.read_bytes()
    return _parse(content, path, columns), hashlib.sha256(content).hexdigest()


def _parse(content: bytes, path: Path, columns: list[str]) -> np.ndarray:
    """Parse a CSV file of small integers into uint8 [rows, columns]."""
    import pandas as pd

    header, _, body = content.partition(b"\n")
    # pandas would accept signs, decimal points, quotes and spaces.
    digits_only = not body.translate(None, delete=b"0123456789,\r\n")
    if header.rstrip(b"\r") == ",".join(columns).encode() and body.endswith(b"\n") and digits_only:
        with contextlib.suppress(ValueError, OverflowError):  # uint8 rejects values over 255
            # Best of five for train.csv on two cores: this 0.48 s, numpy.loadtxt 0.73 s.
            table = pd.read_csv(io.BytesIO(body), header=None, dtype=np.uint8, skip_blank_lines=False).to_numpy()
            if table.shape[1] == len(columns) and (columns is TEST_COLUMNS or table[:, 0].max() < CLASSES):
                return np.ascontiguousarray(table)
    fault = _find_fault(content.decode("utf-8", errors="replace"), columns)
    remedy = "download it again (`make download FORCE=1`)" if path.name in NAMES else "write it in this format"
    raise UserError(f"{path}{fault}; {remedy}")


def _find_fault(text: str, columns: list[str]) -> str:
    """Return the first fault of a CSV file that could not be parsed: its place, what was expected, what was found."""
    *lines, rest = text.split("\n") if "\n" in text else (text, "")
    for number, line in enumerate(lines, start=1):
        values = line.rstrip("\r").split(",")
        for index, (column, value) in enumerate(zip(columns, values, strict=False), start=1):
            if number == 1:
                valid, expected = value == column, f"the header {column!r}"
            else:
                highest = CLASSES - 1 if column == "label" else 255
                digits = re.fullmatch("0*([0-9]{1,3})", value)
                valid, expected = digits is not None and int(digits[1]) <= highest, f"an integer 0..{highest}"
            if not valid:
                return f", line {number}, column {index} ({column}): expected {expected}, found {value[:20]!r}"
        if len(values) != len(columns):
            return f", line {number}: expected {len(columns)} values, found {len(values)}"
    if rest:
        return f", line {len(lines) + 1}: expected {len(columns)} values and a line end, found a line that is cut off"
    if len(lines) == 1:
        return ", line 2: expected rows of numbers, found only the header"
    return f": expected lines of {len(columns)} integers, found another format"
