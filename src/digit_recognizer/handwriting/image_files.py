"""Decode image files of limited size, list folders of them, read tables of their labels."""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from digit_recognizer.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})  # of the files to read in folders
PIXEL_LIMIT = 50_000_000
FILE_LIMIT = 500_000_000  # bytes; 50 megapixels of 16-bit RGBA take 400 million
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
    expected = f"expected a picture ({', '.join(FORMATS)})"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:  # from the header, before anything is decoded
                raise Image.DecompressionBombError
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except Image.DecompressionBombError:
        raise UserError(f"{expected} of at most {PIXEL_LIMIT // 10**6} megapixels, received a larger one") from None
    except MemoryError:
        raise UserError(f"{expected} that fits into memory, received one that does not; reduce its size") from None
    except Exception:  # noqa: BLE001 - decoders raise anything on broken files: struct.error, IndexError, SyntaxError
        raise UserError(f"{expected}, received a broken file or another format") from None


def read_picture(path: Path) -> np.ndarray:
    """Decode the picture in a file, see `decode`; the message of a `UserError` begins with the path."""
    try:
        if not path.is_file():
            raise UserError(f"expected a file, found {'something else' if path.exists() else 'none'}")
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise UserError(f"expected at most {FILE_LIMIT // 10**6} MB, found {size // 10**6:,} MB")
        return decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: expected a readable file, found an error on reading it ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def list_pictures(paths: Sequence[Path], table: Path | None = None) -> list[Listed]:
    """Return named files, and the pictures and labelled files of folders, sorted; without paths, the table's files."""
    tables = [folder / LABELS for folder in paths if (folder / LABELS).is_file()] + ([table] if table else [])
    labelled = {entry.path.resolve(): entry for source in tables for entry in read_table(source)}
    listed: dict[Path, Listed] = {}
    for path in paths or [entry.path for entry in labelled.values()]:
        files = [path]
        if path.is_dir():
            pictures = {file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()}
            files = sorted(pictures | {entry.path for entry in labelled.values() if entry.path.is_relative_to(path)})
        for file in files:
            listed.setdefault(file.resolve(), labelled.get(file.resolve(), Listed(file))._replace(path=file))
    return list(listed.values())


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
        path = table.parent / (row["path"] or "")
        if not path.resolve().is_relative_to(table.parent.resolve()) or path.is_dir():
            raise UserError(f"{table}, line {number}: expected a file in {table.parent}, found {row['path']!r}")
        listed.append(Listed(path, (row["label"] or "").strip(), row.get("kind")))
    return listed


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # more than 8 bits, of which Pillow would drop the upper ones
        values = np.nan_to_num(np.asarray(image))
        if values.dtype.kind == "f":
            values = (values - values.min()) * (255 / max(np.ptp(values), 1e-9))
        else:
            values = values.clip(0, 65535) // 257
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        image = _place_on_paper(image if image.mode == "RGBA" else image.convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _place_on_paper(picture: Image.Image) -> Image.Image:
    """Fill the transparent part of an RGBA picture with paper.

    A mostly opaque picture is a cut-out whose median colour is the paper's; otherwise the opaque part is strokes, and
    the paper is the contrasting one of black and white. Histograms instead of arrays save memory.
    """
    opaque = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 127))
    counts = np.reshape(picture.histogram(opaque), (4, 256))[:3]
    count = int(counts[0].sum())
    if 2 * count > picture.width * picture.height:
        middle = (count - 1) // 2, count // 2
        colour = [int(np.searchsorted(cumulative, middle, side="right").mean()) for cumulative in counts.cumsum(axis=1)]
    else:
        colour = [0 if count and (counts @ np.arange(256)).sum() > 127 * 3 * count else 255] * 3
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*colour, 255)), picture)
