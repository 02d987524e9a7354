"""The competition's files: read, checked, cached, split."""

import hashlib
import io
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing, sha256, write_json

PIXEL_COLUMNS = [f"pixel{index}" for index in range(IMAGE_SIZE * IMAGE_SIZE)]
TRAIN_COLUMNS = ["label", *PIXEL_COLUMNS]
TEST_COLUMNS = PIXEL_COLUMNS


class Dataset(NamedTuple):
    """Images with their labels, where there are any, and the hash of the file that they came from."""

    images: np.ndarray  # uint8 [n, 28, 28] in 0..255, strokes bright on black
    labels: np.ndarray | None  # uint8 [n] in 0..9; None for test.csv
    sha256: str  # of the CSV file's bytes


def load_train(data_dir: Path) -> Dataset:
    """Loads train.csv: label,pixel0..pixel783, one row an image.

    Args:
        data_dir: the folder of the file; `data_dir`/cache keeps the parsed array when the folder can be written to.

    Raises:
        UserError: the file is missing or not in the competition's format; the message names file, line and column.
    """
    table, digest = _load_table(data_dir / "train.csv", TRAIN_COLUMNS)
    return Dataset(table[:, 1:].reshape(-1, IMAGE_SIZE, IMAGE_SIZE), table[:, 0].copy(), digest)


def load_test(data_dir: Path) -> Dataset:
    """Loads test.csv: pixel0..pixel783, one row an image. Raises as `load_train` does."""
    table, digest = _load_table(data_dir / "test.csv", TEST_COLUMNS)
    return Dataset(table.reshape(-1, IMAGE_SIZE, IMAGE_SIZE), None, digest)


def normalise(images: np.ndarray) -> np.ndarray:
    """Turns uint8 images [n, 28, 28] in 0..255 into what the model takes: float32 [n, 28, 28, 1] in [0, 1]."""
    return images[..., np.newaxis].astype(np.float32) / np.float32(255)


def _load_table(path: Path, columns: list[str]) -> tuple[np.ndarray, str]:
    """Returns the file's values, uint8 [rows, columns], and its SHA-256, from the cache where that still fits."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"expected the competition's {path.name} as {path}, found none; run `make download`") from None
    array_path = path.parent / "cache" / f"{path.stem}.npy"
    key_path = array_path.with_suffix(".json")
    key = _read_key(key_path)
    if key.get("size") == stat.st_size and array_path.exists():
        # A changed time alone (a copy, a touch) costs a hash of the file, not a parse.
        csv_digest = key.get("csv") if key.get("time_ns") == stat.st_mtime_ns else sha256(path)
        content = array_path.read_bytes()
        if csv_digest == key.get("csv") and hashlib.sha256(content).hexdigest() == key.get("array"):
            return np.load(io.BytesIO(content), allow_pickle=False), csv_digest

    content = path.read_bytes()
    table, csv_digest = _parse(content, path, columns), hashlib.sha256(content).hexdigest()
    if os.access(path.parent, os.W_OK):  # Kaggle's input folders are read-only
        with replacing(array_path) as temporary:
            np.save(temporary, table)
        array_digest = sha256(array_path)
        write_json(
            key_path, {"size": stat.st_size, "time_ns": stat.st_mtime_ns, "csv": csv_digest, "array": array_digest}
        )
    return table, csv_digest


def _read_key(path: Path) -> dict[str, Any]:
    """Returns what the cached array was made of; nothing when that is missing or damaged, so that it is made again."""
    try:
        key = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return key if isinstance(key, dict) else {}


def _parse(content: bytes, path: Path, columns: list[str]) -> np.ndarray:
    """Parses the bytes of a CSV file of small integers into uint8 [rows, columns]."""
    import pandas as pd

    header, _, body = content.partition(b"\n")
    if header.rstrip(b"\r") != ",".join(columns).encode() or not body.endswith(b"\n"):
        _raise_fault(content, path, columns)
    # What pandas would let pass: signs, decimal points, quotes, spaces.
    if body.translate(None, delete=b"0123456789,\r\n"):
        _raise_fault(content, path, columns)
    try:
        # train.csv on two cores, best of five: pandas' C reader as uint8 0.48 s; as int64 0.52 s; numpy.loadtxt 0.73 s;
        # numpy.fromstring 0.81 s (and it cannot count columns). uint8 makes pandas reject values above 255.
        table = pd.read_csv(io.BytesIO(body), header=None, dtype=np.uint8, skip_blank_lines=False).to_numpy()
    except ValueError:  # pandas' ParserError is one
        _raise_fault(content, path, columns)
    if table.shape[1] != len(columns) or (columns[0] == "label" and table[:, 0].max() >= CLASSES):
        _raise_fault(content, path, columns)
    return np.ascontiguousarray(table)


def _raise_fault(content: bytes, path: Path, columns: list[str]) -> NoReturn:
    """Finds the first fault of a CSV file that did not parse and raises it as a `UserError`."""
    again = "download it again (`make download FORCE=1`)"
    if not content.strip():
        raise UserError(f"{path}: expected {len(columns)} columns and rows of numbers, found an empty file; {again}")
    lines = content.decode("utf-8", errors="replace").split("\n")
    found = lines[0].rstrip("\r").split(",")
    if found != columns:
        column = next(
            (i for i, pair in enumerate(zip(found, columns, strict=False)) if pair[0] != pair[1]),
            min(len(found), len(columns)),
        )
        raise UserError(
            f"{path}, line 1, column {column + 1}: expected the header {_item(columns, column)}, "
            f"found {_item(found, column)}; {again}"
        )
    if not any(lines[1:]):
        raise UserError(f"{path}, line 2: expected rows of numbers, found only the header; {again}")
    for number, line in enumerate(lines[1:], start=2):
        last = number == len(lines)
        if last and not line:
            break
        values = line.rstrip("\r").split(",")
        if values == columns:
            raise UserError(f"{path}, line {number}: expected numbers, found the header a second time; {again}")
        for column, value in enumerate(values[: len(columns)]):
            top = CLASSES - 1 if columns[column] == "label" else 255
            # A cut last line is told as such below, unless what is there is no number.
            if not (re.fullmatch(r"[0-9]+", value) and int(value) <= top) and not (last and value == ""):
                raise UserError(
                    f"{path}, line {number}, column {column + 1} ({columns[column]}): "
                    f"expected an integer 0..{top}, found {value[:20]!r}; {again}"
                )
        if last:
            raise UserError(
                f"{path}, line {number}: expected {len(columns)} values and a line end, found a line that is cut off "
                f"after {len(values)} values; {again}"
            )
        if len(values) != len(columns):
            raise UserError(f"{path}, line {number}: expected {len(columns)} values, found {len(values)}; {again}")
    raise UserError(f"{path}: expected lines of {len(columns)} integers, found another format; {again}")


def _item(names: list[str], index: int) -> str:
    return repr(names[index][:20]) if index < len(names) else "the end of the line"
