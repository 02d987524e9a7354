"""Picture files from outside: decoded once it is known that they are small enough; folders of labelled ones."""

import csv
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from digit_recognizer.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
PIXEL_LIMIT = 50_000_000
LABELS = "labels.csv"  # path,label and any further columns; paths are relative to its folder


def decode(content: bytes) -> np.ndarray:
    """Returns a picture file's picture as uint8 [h, w, 3], RGB, the way up that it was taken.

    What is transparent becomes paper: white, or black where the picture itself is light.

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
            if upright.mode.startswith("I"):  # 16 bits, of which Pillow would drop the upper ones
                upright = Image.fromarray((np.asarray(upright).clip(0, 65535) // 257).astype(np.uint8))
            if upright.has_transparency_data:
                upright = _on_paper(upright.convert("RGBA"))
            return np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError:
        raise UserError(too_large) from None
    except (OSError, ValueError, SyntaxError, EOFError):
        raise UserError(f"{expected}, received something else or a broken one") from None


def read_labelled(folder: Path) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields name, label and picture, as `decode` returns it, of each line of a folder's labels.csv.

    Raises:
        UserError: the table lacks a column or names a file outside of the folder, or a picture cannot be read.
    """
    table = folder / LABELS
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = {"path", "label"} - set(rows.fieldnames or ())
        if missing:
            raise UserError(f"{table}: expected the columns path and label, found no {' and '.join(sorted(missing))}")
        for number, row in enumerate(rows, start=2):
            path = folder / (row["path"] or "")
            if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
                raise UserError(f"{table}, line {number}: expected a file in {folder}, found {row['path']!r}")
            try:
                yield row["path"], row["label"], decode(path.read_bytes())
            except UserError as error:
                raise UserError(f"{path}: {error}") from None


def _on_paper(picture: Image.Image) -> Image.Image:
    """Puts an RGBA picture on the paper that its strokes show up on."""
    pixels = np.asarray(picture)
    opaque = pixels[pixels[..., 3] > 127, :3]
    paper = "black" if len(opaque) and opaque.mean() > 127 else "white"
    return Image.alpha_composite(Image.new("RGBA", picture.size, paper), picture)
