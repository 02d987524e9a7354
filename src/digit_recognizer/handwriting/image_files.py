"""Decode image files of limited size, list folders of them, read tables of their labels."""

# ruff: noqa: PTH110, PTH112, PTH113 - methods of Path raise errors on names that are too long

import contextlib
import csv
import io
import os
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from digit_recognizer.config import ANNOTATED
from digit_recognizer.errors import UserError
from digit_recognizer.files import read_unpacked, reading, replacing

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")
SUFFIXES = {".heic", ".heif"} | {name for name, form in Image.registered_extensions().items() if form in FORMATS}
PIXEL_LIMIT = 50_000_000
LABELS = "labels.csv"  # columns path and label; paths are relative to the table's folder


class Listed(NamedTuple):
    """A file to read, with its label if a table lists it."""

    path: Path
    label: str | None = None


class Picture(NamedTuple):
    """A decoded image file."""

    pixels: np.ndarray  # uint8 [h, w, 3], RGB
    pages: int = 1  # of a TIFF file, of which the first is decoded


def decode(file: BinaryIO) -> Picture:
    """Decode an image file, upright by its EXIF orientation; transparent pixels take the colour of the paper.

    Raises:
        UserError: The format is unknown, the file is broken, or the image has too many pixels.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:  # from the header, before anything is decoded
                raise Image.DecompressionBombError
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            ImageOps.exif_transpose(image, in_place=True)
            return Picture(_to_rgb(image), pages)
    except Image.DecompressionBombError:
        raise UserError(f"the image has more than {PIXEL_LIMIT // 10**6} megapixels; scale it down") from None
    except MemoryError:
        raise UserError("the image does not fit into memory; scale it down") from None
    except Exception as error:  # decoders raise anything on broken files: struct.error, IndexError, SyntaxError
        if isinstance(error, OSError) and error.errno:  # of the disk; those of decoders have no number
            raise
        raise UserError(
            f"expected an image ({', '.join(FORMATS)}), found a broken file or another format; convert HEIC, unpack zip"
        ) from None


def read_picture(path: Path) -> Picture:
    """Decode an image file, see `decode`; the message of a `UserError` begins with the path."""
    try:
        if not path.is_file():
            raise UserError("not a file" if path.exists() else "no such file")
        with path.open("rb") as file:
            return decode(file)
    except OSError as error:
        raise UserError(f"{path}: could not read the file ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 [h, w, 3], RGB, as PNG; a failure leaves an earlier file unchanged."""
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, "png")


def list_pictures(
    paths: Sequence[Path], table: Path | None = None, *, on_skip: Callable[[Path], None] = lambda _: None
) -> list[Listed]:
    """Return named files, and the images and labelled files of folders, sorted; without paths, the table's files.

    Of a folder, hidden files, tables of labels and annotated images are left out; `on_skip` is called with each other
    file that is not an image.
    """
    paths = [path for text in paths for path in _split(str(text))]
    tables = [path / LABELS for path in paths if os.path.isfile(path / LABELS)] + ([table] if table else [])
    labelled = {os.path.realpath(entry.path): entry for source in tables for entry in read_table(source)}
    known = {os.path.realpath(source) for source in tables} | labelled.keys()
    listed: dict[str, Listed] = {}
    for path in paths or [entry.path for entry in labelled.values()]:
        files = {path}
        if os.path.isdir(path):
            files = {entry.path for entry in labelled.values() if entry.path.is_relative_to(path)}
            others = [file for file in sorted(_walk(path)) if os.path.realpath(file) not in known]
            files.update(file for file in others if _is_to_be_read(file, on_skip))
        for file in sorted(files):
            place = os.path.realpath(file)
            listed.setdefault(place, labelled.get(place, Listed(file))._replace(path=file))
    return list(listed.values())


def _split(text: str) -> list[Path]:
    """Return the files of `IMAGES="a.jpg ~/scans/*.png"`, words as in a shell; the name of a file can have spaces."""
    with contextlib.suppress(ValueError):  # from a quote in a name
        words = [] if os.path.exists(text) else list(map(os.path.expanduser, shlex.split(text)))
        if any(found := [sorted(glob(word)) for word in words]):  # noqa: PTH207
            return [Path(name) for word, names in zip(words, found, strict=True) for name in names or [word]]
    return [Path(text)]


def _is_to_be_read(file: Path, on_skip: Callable[[Path], None]) -> bool:
    """Return whether a file is an image by its content or, as it may be broken, by its suffix; or cannot be opened."""
    if not file.is_file() or not os.access(file, os.R_OK):
        return True  # reading it raises an error
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS):
            return True
    except Exception:  # noqa: BLE001 - as in `decode`
        is_image = file.suffix.lower() in SUFFIXES
    if not is_image:
        on_skip(file)
    return is_image


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, and those not to be listed; none that is hidden or annotated."""
    unlisted: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".") and name != ANNOTATED]
        yield from (Path(parent, name) for name in names if not name.startswith("."))
    yield from unlisted


def read_table(table: Path) -> list[Listed]:
    """Read a CSV table with the columns path and label.

    Raises:
        UserError: The table is missing or lacks a column, or lists a file outside its folder.
    """
    with reading(table, "a table with the columns path and label", "name such a CSV file"):
        rows = csv.DictReader(io.StringIO(read_unpacked(table, LABELS).decode("utf-8-sig"), newline=""))
        missing, entries = {"path", "label"} - set(rows.fieldnames or ()), list(rows)
        if missing:
            raise ValueError(f"no {' and '.join(sorted(missing))}")
    listed, folder = [], os.path.realpath(table.parent)
    for number, row in enumerate(entries, start=2):
        name = row["path"] or ""
        path = table.parent / name
        if "\0" in name or os.path.isdir(path) or not Path(os.path.realpath(path)).is_relative_to(folder):
            raise UserError(f"{table}, line {number}: expected a file in {table.parent}, found {name!r}")
        listed.append(Listed(path, (row["label"] or "").strip()))
    return listed


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # more than 8 bits, of which Pillow would drop the upper ones
        image = Image.fromarray(_to_8_bits(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, _choose_paper(np.asarray(image)))
        paper.paste(image, mask=image)
        image = paper
    return np.asarray(image.convert("RGB"))


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Scale integers by the number of bits that hold the largest, of at least 8, fractions in [0, 1] by 255."""
    values = np.nan_to_num(np.array(image, np.float32), posinf=0).clip(0)
    high = float(values.max())
    white = 1 if image.mode == "F" and high <= 1 else 2 ** max(8, int(high).bit_length()) - 1
    return cv2.convertScaleAbs(values, alpha=255 / white)


def _choose_paper(pixels: np.ndarray) -> tuple[int, ...]:
    """Return the colour of the paper below the transparent part of a picture, uint8 [h, w, 4].

    A mostly opaque picture is a cut-out whose median colour is the paper's; otherwise the opaque part is strokes, and
    the paper is the contrasting one of black and white.
    """
    opaque = pixels[pixels[..., 3] > 127, :3]
    if 2 * opaque.size > pixels[..., :3].size:
        return tuple(np.median(opaque, axis=0).astype(int).tolist())
    return (0, 0, 0) if opaque.size and opaque.mean() > 127 else (255, 255, 255)
