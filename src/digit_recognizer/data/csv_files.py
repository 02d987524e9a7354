"""Load and check the competition's CSV files."""

import hashlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.errors import UserError
from digit_recognizer.files import cache_arrays, read_cached_arrays

PIXEL_COLUMNS = [f"pixel{index}" for index in range(IMAGE_SIZE * IMAGE_SIZE)]
TRAIN_COLUMNS = ["label", *PIXEL_COLUMNS]
TEST_COLUMNS = PIXEL_COLUMNS
NAMES = "train.csv", "test.csv"  # of the competition


class Dataset(NamedTuple):
    """Images, their labels if known, and the hash of the file they come from."""

    images: np.ndarray  # uint8 [n, 28, 28] in 0..255, bright strokes on black
    labels: np.ndarray  # uint8 [n] in 0..9; empty for test.csv
    sha256: str  # of the CSV file


def load_train(data_dir: Path) -> Dataset:
    """Load train.csv from a folder: a header and one row per image, label,pixel0..pixel783.

    The parsed array is cached in the folder cache/ beside the file if that can be written.

    Raises:
        UserError: The file is missing or not in the competition's format; the message names file, line and column.
    """
    table, digest = _load_table(data_dir / "train.csv", TRAIN_COLUMNS)
    return Dataset(table[:, 1:].reshape(-1, IMAGE_SIZE, IMAGE_SIZE), table[:, 0].copy(), digest)


def load_test(path: Path) -> Dataset:
    """Load a test.csv, given as a file or its folder, as `load_train` does: any number of rows pixel0..pixel783."""
    table, digest = _load_table(path / "test.csv" if path.is_dir() else path, TEST_COLUMNS)
    return Dataset(table.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), np.zeros(0, np.uint8), digest)


def normalise(images: np.ndarray) -> np.ndarray:
    """Scale uint8 images [n, 28, 28] in 0..255 to the model's input, float32 [n, 28, 28, 1] in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def _load_table(path: Path, columns: list[str]) -> tuple[np.ndarray, str]:
    """Return the values, uint8 [rows, columns], and the SHA-256 of a file, from the cache if that is up to date."""
    try:
        stat = path.stat()
    except OSError:
        remedy = "run `make download`" if path.name in NAMES else "check the name"
        raise UserError(f"expected the competition's format as {path}, found no such file; {remedy}") from None
    cache = path.parent / "cache" / f"{path.stem}.npz"
    stamp = [stat.st_size, stat.st_mtime_ns]
    cached = read_cached_arrays(cache)
    is_current = {"stamp", "sha256", "table"} <= cached.keys() and cached["stamp"].tolist() == stamp
    if is_current and cached["table"].shape[1] == len(columns):  # a train.csv can be passed as a test.csv
        return cached["table"], str(cached["sha256"])
    content = path.read_bytes()
    table, digest = _parse(content, path, columns), hashlib.sha256(content).hexdigest()
    cache_arrays(cache, table=table, sha256=digest, stamp=stamp)  # not on Kaggle: its input folders are read-only
    return table, digest


def _parse(content: bytes, path: Path, columns: list[str]) -> np.ndarray:
    """Parse a CSV file of small integers into uint8 [rows, columns]."""
    import pandas as pd

    header, _, body = content.partition(b"\n")
    # pandas would accept signs, decimal points, quotes and spaces.
    digits_only = not body.translate(None, delete=b"0123456789,\r\n")
    if header.rstrip(b"\r") == ",".join(columns).encode() and body.endswith(b"\n") and digits_only:
        try:
            # Best of five for train.csv on two cores: this 0.48 s, numpy.loadtxt 0.73 s. uint8 rejects values over 255.
            table = pd.read_csv(io.BytesIO(body), header=None, dtype=np.uint8, skip_blank_lines=False).to_numpy()
        except (ValueError, OverflowError):
            table = np.zeros((0, 0), np.uint8)
        if table.shape[1] == len(columns) and (columns is TEST_COLUMNS or table[:, 0].max() < CLASSES):
            return np.ascontiguousarray(table)
    fault = _find_fault(content.decode("utf-8", errors="replace"), columns)
    remedy = "download it again (`make download FORCE=1`)" if path.name in NAMES else "write it in this format"
    raise UserError(f"{path}{fault}; {remedy}")


def _find_fault(text: str, columns: list[str]) -> str:
    """Return the first fault of a CSV file that could not be parsed: its place, what was expected, what was found."""
    if text.startswith("\ufeff"):
        return f", line 1: expected the header {columns[0]!r} first, found a byte order mark before it"
    lines = [line.rstrip("\r").split(",") for line in text.split("\n")]
    for index in range(max(len(lines[0]), len(columns))):
        expected, found = (
            repr(names[index][:20]) if index < len(names) else "the end of the line" for names in (columns, lines[0])
        )
        if index == len(columns):
            return f", line 1: expected {len(columns)} columns, found one more, {found}"
        if expected != found:
            return f", line 1, column {index + 1}: expected the header {expected}, found {found}"
    if lines[1:] in ([], [[""]]):
        return ", line 2: expected rows of numbers, found only the header"
    for number, values in enumerate(lines[1:], start=2):
        is_last = number == len(lines)
        if is_last and values == [""]:
            break
        for index, (column, value) in enumerate(zip(columns, values, strict=False)):
            highest = CLASSES - 1 if column == "label" else 255
            valid = re.fullmatch("0*[0-9]{1,3}", value) and int(value) <= highest
            if not valid and not (is_last and value == ""):  # a cut-off line is reported below
                place = f", line {number}, column {index + 1} ({column})"
                return f"{place}: expected an integer 0..{highest}, found {value[:20]!r}"
        if is_last:
            found = f"a line that is cut off after {len(values)} values"
            return f", line {number}: expected {len(columns)} values and a line end, found {found}"
        if len(values) != len(columns):
            return f", line {number}: expected {len(columns)} values, found {len(values)}"
    return f": expected lines of {len(columns)} integers, found another format"
