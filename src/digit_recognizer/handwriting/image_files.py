"""Picture files from outside: decoded once it is known that they are small enough; folders and tables of them."""

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from digit_recognizer.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})  # that are looked for in folders
PIXEL_LIMIT = 50_000_000
FILE_LIMIT = 500_000_000  # bytes; 50 megapixels of 16-bit RGBA take 400 million
LABELS = "labels.csv"  # path,label and any further columns; paths are relative to its folder


class Listed(NamedTuple):
    """A picture file that is to be read, and what a table says is on it."""

    path: Path
    label: str | None = None
    kind: str | None = None


def decode(content: bytes) -> np.ndarray:
    """Returns a picture file's picture as uint8 [h, w, 3], RGB, the way up that it was taken.

    What is transparent becomes paper. Of an animation or several pages the first is taken.

    Raises:
        UserError: it is no picture of a known format, is broken, or has too many pixels.
    """
    expected = f"expected a picture ({', '.join(FORMATS)})"
    too_large = f"{expected} of at most {PIXEL_LIMIT // 10**6} megapixels, received a larger one"
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:  # from the header: nothing is decoded yet
                raise UserError(too_large)
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):  # more than 8 bits, of which Pillow would drop the upper ones
                upright = Image.fromarray(_to_8_bits(np.asarray(upright)))
            if upright.has_transparency_data:
                upright = _on_paper(upright.convert("RGBA"))
            return np.asarray(upright.convert("RGB"))
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(too_large) from None
    except Exception:  # noqa: BLE001 - decoders raise anything on broken files: struct.error, IndexError, MemoryError
        raise UserError(f"{expected}, received something else or a broken one") from None


def read_picture(path: Path) -> np.ndarray:
    """Returns the picture in a file, as `decode` does.

    Raises:
        UserError: there is none that can be read; the message begins with the path.
    """
    try:
        if not path.is_file():
            raise UserError(f"expected a file, found {'another thing' if path.exists() else 'none'}")
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise UserError(f"expected at most {FILE_LIMIT // 10**6} MB, found {size // 10**6:,} MB")
        return decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: expected a file that can be read, found that it cannot ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def list_pictures(paths: Sequence[Path], table: Path | None = None) -> list[Listed]:
    """Returns the files that are meant: files as they are named, of folders all pictures in them, sorted.

    Args:
        paths: files and folders; without any, the table's files are meant.
        table: says what is on them; a folder's own labels.csv says it too.

    Raises:
        UserError: a table lacks a column, or names files outside of its folder.
    """
    tables = [folder / LABELS for folder in paths if (folder / LABELS).is_file()] + ([table] if table else [])
    labelled = {entry.path.resolve(): entry for source in tables for entry in read_table(source)}
    if table and not paths:
        return list(labelled.values())
    listed: dict[Path, Listed] = {}
    for path in paths:
        found = [path]
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            named = (entry.path for entry in labelled.values() if entry.path.is_relative_to(path))
            found = sorted({*inside, *named})
        for file in found:
            entry = labelled.get(file.resolve(), Listed(file))
            listed.setdefault(file.resolve(), entry._replace(path=file))
    return list(listed.values())


def read_table(table: Path) -> list[Listed]:
    """Reads a table of labelled pictures: path and label, and kind where there is that column.

    Raises:
        UserError: it is missing, lacks a column, or names a file outside of its folder.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = {"path", "label"} - set(rows.fieldnames or ())
            entries = list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: expected a table of path and label, found none ({error})") from None
    if missing:
        raise UserError(f"{table}: expected the columns path and label, found no {' and '.join(sorted(missing))}")
    listed = []
    for number, row in enumerate(entries, start=2):
        path = table.parent / (row["path"] or "")
        if not path.resolve().is_relative_to(table.parent.resolve()) or path.is_dir():
            raise UserError(f"{table}, line {number}: expected a file in {table.parent}, found {row['path']!r}")
        listed.append(Listed(path, (row["label"] or "").strip(), row.get("kind")))
    return listed


def read_labelled(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields name, label and picture, as `decode` returns it, of each line of a folder's labels.csv.

    Raises:
        UserError: as `read_table` and `read_picture` do.
    """
    for path, label, _ in read_table(folder / LABELS):
        yield str(path.relative_to(folder)), label, read_picture(path)


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scales 16 bits by their range, floating point numbers by what is there."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values)
        return ((values - values.min()) * (255 / max(np.ptp(values), 1e-9))).astype(np.uint8)
    return (values.clip(0, 65535) // 257).astype(np.uint8)


def _on_paper(picture: Image.Image) -> Image.Image:
    """Puts an RGBA picture on paper: of the colour of most of it, or where there is little of it, of a contrasting one.

    The little that is there are strokes; much of it is the paper of a cut-out.
    """
    pixels = np.asarray(picture)
    opaque = pixels[pixels[..., 3] > 127, :3]
    if 2 * len(opaque) > pixels[..., 3].size:
        paper = tuple(int(value) for value in np.median(opaque, axis=0))
    else:
        paper = (0, 0, 0) if len(opaque) and opaque.mean() > 127 else (255, 255, 255)
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*paper, 255)), picture)
