"""Decode image files of limited size, list folders of them, read tables of their labels."""

# ruff: noqa: PTH112, PTH113 - Path.is_dir and Path.is_file raise errors on names that are too long

import csv
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from digit_recognizer.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "PPM")
# Of the files in a folder, the pictures are those with these first bytes and, as they may be broken, these endings.
SIGNATURES = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}|II[*+]\0|MM\0[*+]|RIFF.{4}WEBP|P[1-6]\s+[#\d]|.{4}ftyp(avi|hei|hev|mif|msf)",
    re.DOTALL,
)
SUFFIXES = re.compile(r"\.(a?png|jpe?g|jpe|jfif|mpo|gif|bmp|dib|tiff?|webp|avif|hei[cf]|p[pgbn]m)", re.IGNORECASE)
HEIC = re.compile(rb".{4}ftyp(hei|hev|mif|msf)", re.DOTALL)
MARK = "annotated by digit-recognizer"  # the PNG text "Software" of annotated pictures, which are not read again
START = 256  # bytes with which a file is recognised
PIXEL_LIMIT = 50_000_000
FILE_LIMIT = 500_000_000  # bytes; 50 megapixels of 16-bit RGBA take 400 million
STRIP = 2**22  # pixels that are converted at a time, to save memory
LABELS = "labels.csv"  # columns path and label, optionally kind; paths are relative to the table's folder


class Listed(NamedTuple):
    """A file to read, with its label and kind if a table lists it."""

    path: Path
    label: str | None = None
    kind: str | None = None


def decode(content: bytes) -> np.ndarray:
    """Decode an image file to uint8 [h, w, 3], RGB, upright by its EXIF orientation.

    Transparent pixels take the colour of the paper. Of several frames or pages, the first is decoded.

    Raises:
        UserError: The format is unknown, the file is broken, or the picture has too many pixels.
    """
    return _decode(io.BytesIO(content))


def _decode(file: BinaryIO) -> np.ndarray:
    expected = f"expected a picture ({', '.join(FORMATS)})"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:  # from the header, before anything is decoded
                raise Image.DecompressionBombError
            is_deep = image.mode == "RGB" and ";16" in str(image.tile)
            ImageOps.exif_transpose(image, in_place=True)
            picture = _to_rgb(image)
            if is_deep and not picture.any():  # 8 bits in 16, of which Pillow has dropped the lower ones
                file.seek(0)
                flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR_RGB
                picture = np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags), np.uint8)
            return picture
    except Image.DecompressionBombError:
        raise UserError(f"{expected} of at most {PIXEL_LIMIT // 10**6} megapixels, received a larger one") from None
    except MemoryError:
        raise UserError(f"{expected} that fits into memory, received one that does not; reduce its size") from None
    except Exception as error:  # decoders raise anything on broken files: struct.error, IndexError, SyntaxError
        if isinstance(error, OSError) and error.errno:  # of the disk; those of decoders have no number
            raise
        file.seek(0)
        is_heic = HEIC.match(file.read(START))
        found = "HEIC; convert it to JPEG or PNG" if is_heic else "a broken file or another format"
        raise UserError(f"{expected}, received {found}") from None


def read_picture(path: Path) -> np.ndarray:
    """Decode the picture in a file, see `decode`; the message of a `UserError` begins with the path."""
    try:
        if not path.is_file():
            raise UserError(f"expected a file, found {'something else' if path.exists() else 'none'}")
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise UserError(f"expected at most {FILE_LIMIT // 10**6} MB, found {size // 10**6:,} MB")
        with path.open("rb") as file:
            return _decode(file)
    except OSError as error:
        raise UserError(f"{path}: expected a readable file, found an error on reading it ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def list_pictures(
    paths: Sequence[Path], table: Path | None = None, *, skip: Callable[[Path], None] = lambda _: None
) -> list[Listed]:
    """Return named files, and the pictures and labelled files of folders, sorted; without paths, the table's files.

    Of a folder, hidden files, tables of labels and annotated pictures are left out; `skip` is called with each other
    file that is no picture.
    """
    tables = [folder / LABELS for folder in paths if os.path.isfile(folder / LABELS)] + ([table] if table else [])
    labelled = {os.path.realpath(entry.path): entry for source in tables for entry in read_table(source)}
    known = {os.path.realpath(source) for source in tables} | labelled.keys()
    listed: dict[str, Listed] = {}
    for path in paths or [entry.path for entry in labelled.values()]:
        files = {path}
        if os.path.isdir(path):
            files = {entry.path for entry in labelled.values() if entry.path.is_relative_to(path)}
            for file in sorted(file for file in _walk(path) if os.path.realpath(file) not in known):
                # What cannot be opened is listed as well: reading it raises an error.
                is_closed = file.is_dir() or not os.access(file, os.R_OK)
                if is_closed or SUFFIXES.fullmatch(file.suffix) or SIGNATURES.match(_read_start(file)):
                    files |= set() if is_annotated(file) else {file}
                else:
                    skip(file)
        for file in sorted(files):
            place = os.path.realpath(file)
            listed.setdefault(place, labelled.get(place, Listed(file))._replace(path=file))
    return list(listed.values())


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, and subfolders that cannot be listed; nothing hidden."""
    unlisted: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))
    yield from unlisted


def is_annotated(path: Path) -> bool:
    """Return whether a file is an annotated picture."""
    return MARK.encode() in _read_start(path)


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file, none if it is no file or cannot be read."""
    if not path.is_file():  # opening a pipe would wait for its writer
        return b""
    try:
        with path.open("rb") as file:
            return file.read(START)
    except OSError:
        return b""


def read_table(table: Path) -> list[Listed]:
    """Read a CSV table with the columns path and label, and optionally kind.

    Raises:
        UserError: The table is missing or lacks a column, or lists a file outside its folder.
    """
    try:
        rows = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"), newline=""))
        missing, entries = {"path", "label"} - set(rows.fieldnames or ()), list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: expected a table with path and label, found none ({error})") from None
    if missing:
        raise UserError(f"{table}: expected the columns path and label, found no {' and '.join(sorted(missing))}")
    listed = []
    for number, row in enumerate(entries, start=2):
        name, folder = row["path"] or "", os.path.realpath(table.parent)
        path = table.parent / name
        if "\0" in name or os.path.isdir(path) or not Path(os.path.realpath(path)).is_relative_to(folder):
            raise UserError(f"{table}, line {number}: expected a file in {table.parent}, found {name!r}")
        listed.append(Listed(path, (row["label"] or "").strip(), row.get("kind")))
    return listed


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # more than 8 bits, of which Pillow would drop the upper ones
        image = Image.fromarray(_to_8_bits(image))
    colour = _choose_paper(image) if image.has_transparency_data else None
    picture = np.empty((image.height, image.width, 3), np.uint8)
    for rows, strip in _split(image):
        if colour:
            strokes, strip = strip.convert("RGBA"), Image.new("RGB", strip.size, colour)
            strip.paste(strokes, mask=strokes)
        picture[rows] = np.asarray(strip.convert("RGB"))
    return picture


def _split(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield strips of an image, each with its rows."""
    step = -(-STRIP // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Scale integers by the number of bits that hold the largest, of at least 8; fractions in [0, 1] by 255.

    Values of which some are negative are scaled by their range.
    """
    values = np.array(image, np.float32)
    values[~np.isfinite(values)] = 0
    low, high = float(values.min()), float(values.max())
    if low < 0:
        return cv2.convertScaleAbs(values, alpha=255 / (high - low), beta=-low * 255 / (high - low))
    white = 1 if image.mode == "F" and high <= 1 else 2 ** max(8, int(high).bit_length()) - 1
    return cv2.convertScaleAbs(values, alpha=255 / white)


def _choose_paper(image: Image.Image) -> tuple[int, int, int]:
    """Return the colour of the paper below the transparent part of an image.

    A mostly opaque image is a cut-out whose median colour is the paper's; otherwise the opaque part is strokes, and
    the paper is the contrasting one of black and white.
    """
    counts = np.zeros((3, 256), int)
    for _, strip in _split(image):
        strip = strip.convert("RGBA")
        opaque = strip.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
        counts += np.reshape(strip.histogram(opaque), (4, 256))[:3]
    count = int(counts[0].sum())
    if 2 * count > image.width * image.height:
        middle = (count - 1) // 2, count // 2
        red, green, blue = (int(np.searchsorted(one, middle, side="right").mean()) for one in counts.cumsum(axis=1))
        return red, green, blue
    paper = 0 if count and (counts @ np.arange(256)).sum() > 127 * 3 * count else 255
    return paper, paper, paper
