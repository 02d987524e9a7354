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
from digit_recognizer.files import read_unpacked, reading

TEST_COLUMNS = [f"pixel{index}" for index in range(IMAGE_SIZE * IMAGE_SIZE)]
TRAIN_COLUMNS = ["label", *TEST_COLUMNS]


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
    """Load a test.csv of any number of rows, given as a file of any name or as its folder, as `load_train` does."""
    is_own = not path.is_dir()
    table, digest = _load_table(path if is_own else path / "test.csv", TEST_COLUMNS, is_own=is_own)
    return Dataset(table.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), np.zeros(0, np.uint8), digest)


def normalise(images: np.ndarray) -> np.ndarray:
    """Scale uint8 images [n, 28, 28] in 0..255 to the model's input, float32 [n, 28, 28, 1] in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def _load_table(path: Path, columns: list[str], *, is_own: bool = False) -> tuple[np.ndarray, str]:
    """Return the values, uint8 [rows, columns], and the SHA-256 of a file, which can be packed and the user's own."""
    if not path.exists():
        remedy = "check the name" if is_own else "run `make download`"
        raise UserError(f"expected the competition's format as {path}, found no such file; {remedy}")
    remedy = "write it in this format" if is_own else "download it again (`make download FORCE=1`)"
    with reading(path, "the competition's format", remedy):
        content = read_unpacked(path, "test.csv" if columns is TEST_COLUMNS else "train.csv")
    return _parse(content, path, columns, remedy), hashlib.sha256(content).hexdigest()


def _parse(content: bytes, path: Path, columns: list[str], remedy: str) -> np.ndarray:
    """Parse a CSV file of small integers into uint8 [rows, columns]."""
    import pandas as pd

    header, _, body = content.partition(b"\n")
    # pandas would accept signs, decimal points, quotes and spaces, and before 3.1 take 256 as 0.
    digits_only = not body.translate(None, delete=b"0123456789,\r\n")
    digits = np.frombuffer(body, np.uint8) >= ord("0")
    is_short = not (digits[:-3] & digits[1:-2] & digits[2:-1] & digits[3:]).any()
    if header.rstrip(b"\r") == ",".join(columns).encode() and body.endswith(b"\n") and digits_only and is_short:
        with contextlib.suppress(ValueError):  # lines of other lengths, empty values
            # Best of five for train.csv on two cores: this 0.48 s, numpy.loadtxt 0.73 s.
            table = pd.read_csv(io.BytesIO(body), header=None, dtype=np.int16, skip_blank_lines=False).to_numpy()
            highest_label = 0 if columns is TEST_COLUMNS else table[:, 0].max()
            if table.shape[1] == len(columns) and table.max() <= 255 and highest_label < CLASSES:
                return table.astype(np.uint8, order="C")
    raise UserError(f"{path}{_find_fault(content.decode('utf-8', errors='replace'), columns)}; {remedy}")


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
                digits = re.fullmatch("[0-9]{1,3}", value)
                valid, expected = digits is not None and int(value) <= highest, f"an integer 0..{highest}"
            if not valid:
                return f", line {number}, column {index} ({column}): expected {expected}, found {value[:20]!r}"
        if len(values) != len(columns):
            return f", line {number}: expected {len(columns)} values, found {len(values)}"
    if rest:
        return f", line {len(lines) + 1}: expected {len(columns)} values and a line end, found a line that is cut off"
    if len(lines) == 1:
        return ", line 2: expected rows of numbers, found only the header"
    return f": expected lines of {len(columns)} integers, found another format"
