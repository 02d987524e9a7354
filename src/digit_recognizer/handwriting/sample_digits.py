"""Draw the ten digits with a pen on paper, for examples where there is no handwriting."""

from pathlib import Path

import cv2
import numpy as np

from digit_recognizer.files import write_text
from digit_recognizer.handwriting.image_files import LABELS, write_png

SIDE, PEN_WIDTH = 112, 9  # pixels
PAPER_COLOUR, PEN_COLOUR = (250, 248, 240), (40, 50, 90)  # RGB

# The strokes of each digit: points "x,y" in percent of the picture's side, joined by lines with rounded corners.
STROKES = (
    ("50,12 30,22 24,50 32,80 50,88 68,78 76,50 68,22 50,12",),
    ("36,28 54,12 54,88",),
    ("27,32 32,16 50,10 68,18 70,36 52,60 26,86 76,86",),
    ("28,16 50,10 68,20 66,38 44,47 70,56 74,74 56,90 27,84",),
    ("56,10 24,62 80,60", "64,38 62,90"),
    ("72,12 34,12 29,46 54,42 73,56 70,78 50,90 26,84",),
    ("62,10 40,34 29,64 40,88 62,87 70,68 55,54 33,66",),
    ("24,14 76,14 58,46 42,90",),
    ("50,48 31,30 48,11 68,26 50,48 28,70 50,90 72,72 50,48",),
    ("70,32 56,48 34,42 32,20 52,10 69,18 70,36 66,62 58,90",),
)


def draw_digits() -> list[np.ndarray]:
    """Return a picture of each digit from 0 to 9, drawn with a pen on paper: uint8 [112, 112, 3], RGB."""
    pictures = []
    for strokes in STROKES:
        picture = np.full((SIDE, SIDE, 3), PAPER_COLOUR, np.uint8)
        for stroke in strokes:
            points = (round_corners(parse_stroke(stroke) * (SIDE / 100)) * 16).round().astype(np.int32)
            cv2.polylines(picture, [points], False, PEN_COLOUR, PEN_WIDTH, cv2.LINE_AA, shift=4)  # 4 fractional bits
        pictures.append(picture)
    return pictures


def parse_stroke(text: str) -> np.ndarray:
    """Return the points of a stroke of `STROKES`: float64 [n, 2], x and y in percent of the side."""
    return np.array([point.split(",") for point in text.split()], float)


def round_corners(points: np.ndarray) -> np.ndarray:
    """Cut the corners of a line three times (Chaikin 1974, doi:10.1016/0146-664X(74)90028-8); float64 [n, 2]."""
    for _ in range(3):
        ends, a, b = points[[0, -1]], points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], axis=1).reshape(-1, 2)
        points = np.concatenate([ends[:1], cut[1:-1], ends[1:]])
    return points


def write_digits(folder: Path) -> None:
    """Write the pictures of `draw_digits` to a folder, with their labels in labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for digit, picture in enumerate(draw_digits()):
        write_png(folder / f"{digit}.png", picture)
    write_text(folder / LABELS, "".join(["path,label\n", *(f"{digit}.png,{digit}\n" for digit in range(10))]))
