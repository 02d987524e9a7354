"""Draw the digits that were read into their pictures."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from digit_recognizer.files import replacing
from digit_recognizer.handwriting.image_files import read_picture
from digit_recognizer.handwriting.reader import SURE, Reading
from digit_recognizer.handwriting.transcription import Transcript

MAX_FILES = 100  # annotated pictures of one call
MAX_SIDE = 1000  # pixels of an annotated picture
TILE = 100  # pixels to which the classifier's 28x28 are enlarged
BOX, TEXT, PAPER = (213, 94, 0), (0, 0, 0), (255, 255, 255)  # RGB: vermilion of Okabe and Ito's palette, black, white


def annotate(picture: np.ndarray, reading: Reading) -> np.ndarray:
    """Return a picture with boxes and digits, and below it the classifier's input for each: uint8 [h, w, 3], RGB."""
    scale = min(MAX_SIDE / max(picture.shape), max(1.0, 3 * TILE / max(picture.shape)))
    drawn = _resize(picture, scale, cv2.INTER_CUBIC)
    for digit in reading.digits:
        x, y, *_ = _draw_box(drawn, digit.box, scale)
        _write(drawn, str(digit.digit), (x, max(y - 4, 14)), BOX)
    columns = max(1, min(len(reading.digits), max(drawn.shape[1], 3 * TILE) // TILE))
    tiles = [_make_tile(digit.image, f"{digit.digit}  {digit.probability:.0%}") for digit in reading.digits]
    tiles = tiles or [_add_caption(np.full((1, 2 * TILE, 3), PAPER, np.uint8), "no digit found")]
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    width = max(image.shape[1] for image in (drawn, *rows))
    return np.vstack([_extend(image, right=width - image.shape[1]) for image in (drawn, *rows)])


def draw_boxes(picture: np.ndarray, reading: Reading, *, side: int) -> np.ndarray:
    """Return a picture with a box around each digit, its longer side scaled to `side` pixels: uint8 [h, w, 3], RGB."""
    scale = side / max(picture.shape)
    drawn = _resize(picture, scale, cv2.INTER_NEAREST)
    for digit in reading.digits:
        _draw_box(drawn, digit.box, scale)
    return drawn


def draw_transcripts(transcripts: Sequence[Transcript], folder: Path) -> int:
    """Write annotated pictures to <folder>/<name of the file>.png.

    Of more than 100 files, the incorrect ones come first, then the uncertain ones.

    Returns:
        The number of pictures written.
    """

    def rank(one: Transcript) -> tuple[bool, bool]:
        return one.file.label is None or one.is_correct, one.probability >= SURE

    chosen = sorted(transcripts, key=rank)[:MAX_FILES]
    taken: set[str] = set()
    for transcript in chosen:
        name = stem = transcript.file.path.name
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        # The file is read again: keeping all pictures would take more memory.
        drawn = annotate(read_picture(transcript.file.path), transcript.reading)
        with replacing(folder / f"{name}.png") as temporary:
            cv2.imwrite(str(temporary), drawn[..., ::-1])
    return len(chosen)


def _resize(picture: np.ndarray, scale: float, enlargement: int) -> np.ndarray:
    size = tuple(max(1, round(length * scale)) for length in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else enlargement)


def _draw_box(drawn: np.ndarray, box: tuple[int, int, int, int], scale: float) -> tuple[int, ...]:
    """Draw a box of the original picture and return it in pixels of the scaled one."""
    x, y, width, height = scaled = tuple(round(value * scale) for value in box)
    cv2.rectangle(drawn, (x, y), (x + width, y + height), BOX, 2)
    return scaled


def _make_tile(image: np.ndarray, caption: str) -> np.ndarray:
    enlarged = cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_NEAREST)
    return _add_caption(cv2.cvtColor(enlarged, cv2.COLOR_GRAY2RGB), caption)


def _add_caption(image: np.ndarray, caption: str) -> np.ndarray:
    framed = _extend(image, bottom=22)
    _write(framed, caption, (4, framed.shape[0] - 6), TEXT)
    return framed


def _write(image: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _extend(image: np.ndarray, *, bottom: int = 0, right: int = 0) -> np.ndarray:
    return cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=PAPER)
