"""Synthetic lines to train the detector on: digits that touch or not, among letters, scribbles, signs and stains."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digit_recognizer.config import CLASSES
from digit_recognizer.handwriting.detector import DIGIT, HEIGHT, NONE, SPREAD, STEP, WIDTH
from digit_recognizer.handwriting.normalisation import crop, measure_stroke_width, thicken
from digit_recognizer.handwriting.sample_digits import STROKES, parse_stroke, round_corners

OVERSAMPLING = 2  # factor by which lines are composed at a finer scale than the result's
CANVAS = 90  # pixels: side of the canvas on which a shape is drawn
# Forms that are rare in train.csv: ones with a long flag or a foot, sevens with a bar, other fours and nines, narrow
# and open zeros, strokes that stand apart.
FORMS = (
    *((digit, strokes) for digit, strokes in enumerate(STROKES)),
    (1, ("24,52 38,36 54,10 54,50 54,90",)),
    (1, ("18,60 40,36 58,10 56,50 54,90",)),
    (1, ("34,24 54,10 54,90", "32,90 76,90")),
    (1, ("24,44 60,10 48,90",)),
    (7, ("24,14 76,14 58,46 42,90", "34,50 70,48")),
    (7, ("24,24 26,14 76,14 60,46 48,90", "36,52 72,50")),
    (4, ("34,12 28,52 74,52", "70,14 68,50 66,90")),
    (4, ("62,10 24,64 82,62", "62,10 60,50 58,90")),
    (4, ("26,14 24,50 62,52", "72,10 70,90")),
    (4, ("30,20 22,56 56,56", "66,16 62,92")),
    (5, ("36,20 31,46 54,42 73,56 70,78 50,90 26,84", "40,14 74,10")),
    (5, ("30,24 29,48 54,44 73,58 68,80 48,90 26,86", "32,12 70,14")),
    (7, ("22,14 74,14 58,46 44,90", "32,54 76,46")),
    (8, ("68,24 50,10 31,30 50,48 70,70 50,90 28,72 44,52 66,38",)),
    (0, ("60,14 38,16 26,50 36,86 60,86 74,52 68,26",)),
    (0, ("50,10 40,24 38,50 42,80 50,90 58,78 60,50 58,22 50,10",)),
    (0, ("56,10 44,24 38,50 40,82 50,90 60,76 64,48 62,26",)),
    (1, ("50,10 50,90",)),
    (9, ("70,30 54,44 34,38 34,18 54,10 70,22 68,50 60,80 34,88",)),
)
CHARACTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy?&@#%+=*$"  # that resemble no digit in any handwriting
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono-Oblique", "DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral")
# Triangle, square, star, arrows, heart, house, cross, tick, hash, zigzag, waves, ladder.
SIGNS = (
    ("20,85 50,15 80,85 20,85",),
    ("20,20 80,20 80,80 20,80 20,20",),
    ("50,10 65,90 10,40 90,40 35,90 50,10",),
    ("10,50 90,50", "65,25 90,50 65,75"),
    ("50,90 50,10", "25,35 50,10 75,35"),
    ("50,88 15,48 15,25 32,15 50,32 68,15 85,25 85,48 50,88",),
    ("20,90 20,45 50,12 80,45 80,90 20,90",),
    ("20,20 80,80", "80,20 20,80"),
    ("15,55 40,85 85,15",),
    ("35,10 30,90", "70,10 65,90", "10,35 90,35", "10,65 90,65"),
    ("10,30 26,70 42,30 58,70 74,30 90,70",),
    ("10,40 30,25 50,40 70,55 90,40", "10,65 30,50 50,65 70,80 90,65"),
    ("30,10 30,90", "70,10 70,90", "30,30 70,30", "30,60 70,60"),
)
OTHERS = {"character": 0.45, "scribble": 0.25, "sign": 0.1, "face": 0.1, "stain": 0.1}  # probabilities


class Shape(NamedTuple):
    """A digit, or something else, to put into a line."""

    strokes: np.ndarray  # float32 [h, w] in [0, 1]
    label: int  # 0 to 9, or NONE


def make_pool(images: np.ndarray, labels: np.ndarray, count: int, random: np.random.Generator) -> list[Shape]:
    """Return distorted shapes, sorted by stroke width, so that neighbours look as if written with one pen.

    Of 16 shapes 6 are no digits, one of them a digit that is crossed out; 3 are drawn or printed digits, the rest is
    from images. Some digits have gaps in their strokes.

    Args:
        images: uint8 [n, 28, 28], bright strokes on black.
        labels: uint8 [n].
        count: size of the pool; a few empty shapes are dropped.
        random: random number generator.
    """
    pool = []
    for position in range(count):
        if position % 4 == 0 or position % 16 == 6:
            strokes, label = _draw_other(random), NONE
        elif position % 16 == 1:
            label, canvas = int(random.integers(CLASSES)), np.zeros((CANVAS, CANVAS), np.uint8)
            _print_character(canvas, str(label), random)
            strokes = canvas.astype(np.float32) / 255
        elif position % 16 in (7, 11):
            label, form = FORMS[random.integers(len(FORMS))]
            strokes = draw_strokes(form, 84, int(random.integers(3, 9)), random, jitter=2.4, shift=2.4)
        else:
            row = random.integers(len(images))
            image, label = images[row].astype(np.float32) / 255, int(labels[row])
            strokes = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC).clip(0, 1)
        if position % 16 == 3:
            strokes, label = _cross_out(strokes, random), NONE
        elif label != NONE and random.random() < 0.15:
            strokes = break_strokes(crop(strokes), random.uniform(0.02, 0.1), random)
        height = DIGIT * OVERSAMPLING * random.uniform(0.8, 1.2)
        strokes = crop(strokes)
        strokes = thicken(strokes, random.uniform(-0.02, 0.05) * max(strokes.shape), margin=4)
        strokes = _distort(strokes, height, random)
        if (strokes > 0.5).sum() > 10:
            pool.append(Shape(strokes.copy(), label))  # the copy frees what it was cut out of
    return sorted(pool, key=lambda shape: measure_stroke_width(shape.strokes))


def make_line(pool: list[Shape], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a line and the class probabilities of its positions.

    Args:
        pool: shapes from `make_pool`.
        random: random number generator.

    Returns:
        uint8 [32, 128], bright strokes on black, and float32 [64, 11]: 1 at the centre of a digit, less beside it; the
        last class is NONE.
    """
    line = np.zeros((HEIGHT * OVERSAMPLING, WIDTH * OVERSAMPLING), np.float32)
    positions = STEP * np.arange(WIDTH // STEP) + STEP / 2 - 0.5
    nearness, nearest = np.zeros(len(positions)), np.full(len(positions), NONE)
    right = np.full(len(line), -np.inf)  # last column with strokes in each row
    count = random.choice([1, 2, 3, 9], p=[0.3, 0.1, 0.1, 0.5])
    touching = random.choice([0.0, 0.5, 1.0], p=[0.25, 0.35, 0.4])
    x = random.uniform(2, 40)
    pens = len(pool) if random.random() < 0.3 else -(-len(pool) // 10)  # shapes of any stroke width, or of one pen
    first = random.integers(len(pool) - pens + 1)
    for index in random.integers(first, first + pens, size=count):
        strokes, label = pool[index]
        if label == NONE and count > 1 and random.random() < 0.7:
            continue
        height, width = strokes.shape
        top = int(np.clip((len(line) - height) / 2 + random.normal(0, 3), 0, len(line) - height))
        overlap = right[top : top + height] - find_left_edge(strokes)
        if np.isfinite(right).any():
            x = right.max() + 1 + DIGIT * OVERSAMPLING * random.uniform(0.05, 0.7)
            if random.random() < touching and np.isfinite(overlap).any():
                x = max(x - 2 * DIGIT * OVERSAMPLING, overlap[np.isfinite(overlap)].max() + 1 - random.integers(-3, 5))
        x = max(0, round(x))
        if x + width > line.shape[1]:
            break
        target = line[top : top + height, x : x + width]
        np.maximum(target, strokes, out=target)
        right = find_right_edge(line)
        if label != NONE:
            bell = np.exp(-0.5 * ((positions - (x + width / 2) / OVERSAMPLING + 0.5) / SPREAD) ** 2)
            nearest[bell > nearness] = label
            nearness = np.maximum(nearness, bell)
    if random.random() < 0.3:
        for _ in range(random.integers(1, 4)):  # specks
            place = int(random.integers(line.shape[1])), int(random.integers(line.shape[0]))
            cv2.circle(line, place, int(random.integers(1, 4)), 1.0, -1)
    if random.random() < 0.5:
        line = cv2.GaussianBlur(line, (0, 0), random.uniform(0.3, 1.5)) * random.uniform(0.8, 1.3)
    small = cv2.resize(line, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).clip(0, 1)
    probabilities = np.eye(CLASSES + 1)[nearest] * nearness[:, np.newaxis]
    probabilities[:, NONE] += 1 - nearness * (nearest != NONE)
    return np.round(small * 255).astype(np.uint8), probabilities.astype(np.float32)


def find_left_edge(strokes: np.ndarray) -> np.ndarray:
    """Return the first column with strokes in each row, infinity in empty rows: float [h]."""
    filled = strokes > 0.5
    return np.where(filled.any(axis=1), filled.argmax(axis=1), np.inf)


def find_right_edge(strokes: np.ndarray) -> np.ndarray:
    """Return the last column with strokes in each row, minus infinity in empty rows: float [h]."""
    filled = strokes > 0.5
    return np.where(filled.any(axis=1), strokes.shape[1] - 1 - filled[:, ::-1].argmax(axis=1), -np.inf)


def _distort(strokes: np.ndarray, height: float, random: np.random.Generator) -> np.ndarray:
    """Rotate, shear, stretch and scale to a height of at most the line's."""
    angle = np.deg2rad(random.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle) + random.uniform(-0.25, 0.25)], [np.sin(angle), np.cos(angle)]])
    scale = height / max(20, strokes.shape[0])
    matrix = turn * scale * np.array([[random.uniform(0.75, 1.25)], [1]])
    side = round(1.5 * scale * float(np.hypot(*strokes.shape))) + 4
    centre = np.array([strokes.shape[1] / 2, strokes.shape[0] / 2])
    moved = np.hstack([matrix, (np.array([side / 2, side / 2]) - matrix @ centre)[:, np.newaxis]])
    warped = cv2.warpAffine(strokes, moved, (side, side), flags=cv2.INTER_AREA)
    return crop(warped)[: HEIGHT * OVERSAMPLING, : WIDTH * OVERSAMPLING]


def break_strokes(strokes: np.ndarray, width: float, random: np.random.Generator) -> np.ndarray:
    """Erase a straight gap through a stroke, as wide as this fraction of the height: float32 [h, w] to the same."""
    y, x = random.choice(np.argwhere(strokes > 0.5))
    angle, (rows, columns) = random.uniform(0, np.pi), np.indices(strokes.shape)
    distance = np.abs((rows - y) * np.cos(angle) + (columns - x) * np.sin(angle))
    return np.where(distance < width / 2 * len(strokes), 0, strokes).astype(np.float32)


def _cross_out(strokes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a cross, with a bar or without, or a zigzag across a digit."""
    canvas = np.pad(strokes, int(random.integers(4, 16)))
    side = np.array(canvas.shape[::-1])
    thickness = max(2, round(measure_stroke_width(canvas) * random.uniform(0.5, 1.3)))
    if random.random() < 0.4:
        count = int(random.integers(5, 10))
        levels = np.where(np.arange(count) % 2, 0.1, 0.9) + random.normal(0, 0.08, count)
        lines = [np.stack([np.linspace(0.02, 0.98, count), levels], axis=1)]
    else:
        ends = ((0.05, 0.05, 0.95, 0.95), (0.05, 0.95, 0.95, 0.05), (0.02, 0.5, 0.98, 0.5))
        lines = [np.reshape(line, (2, 2)) for line in ends[: 2 if random.random() < 0.7 else 3]]
    for line in lines:
        points = (line + random.normal(0, 0.05, line.shape)) * side
        cv2.polylines(canvas, [(points * 16).astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA, 4)
    return canvas


def draw_strokes(
    strokes: tuple[str, ...], side: int, thickness: int, random: np.random.Generator, *, jitter: float, shift: float = 0
) -> np.ndarray:
    """Draw strokes in the notation of `sample_digits` with an unsteady hand: float32 [side, side] in [0, 1].

    `jitter` of the points and `shift` of whole strokes are standard deviations in percent of the side.
    """
    canvas = np.zeros((side, side), np.uint8)
    for stroke in strokes:
        points = parse_stroke(stroke) + (random.normal(0, shift, 2) if shift else 0)
        points = round_corners(points + random.normal(0, jitter, points.shape)) * side / 100
        cv2.polylines(canvas, [(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _draw_other(random: np.random.Generator) -> np.ndarray:
    """Return something other than a digit: float32 [90, 90]."""
    kind = random.choice(list(OTHERS), p=list(OTHERS.values()))
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    thickness = int(random.integers(3, 9))
    if kind == "character":
        _print_character(canvas, CHARACTERS[random.integers(len(CHARACTERS))], random)
    elif kind == "scribble":
        for _ in range(random.integers(1, 4)):
            points = np.cumsum(random.integers(-28, 29, (random.integers(4, 14), 2)), axis=0) + 45.0
            if random.random() < 0.5:
                points = round_corners(points)
            cv2.polylines(canvas, [points.astype(np.int32)], random.random() < 0.3, 255, thickness, cv2.LINE_AA)
    elif kind == "sign":
        for stroke in SIGNS[random.integers(len(SIGNS))]:
            points = parse_stroke(stroke) * 0.84 + random.normal(0, 2, 2)
            cv2.polylines(canvas, [points.astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    elif kind == "face":
        size = int(random.integers(26, 40)), int(random.integers(26, 40))
        cv2.ellipse(canvas, (45, 45), size, 0, 0, 360, 255, thickness, cv2.LINE_AA)
        start = int(random.choice([0, 180]))
        mouth = 15, int(random.integers(3, 14))
        cv2.ellipse(canvas, (45, 56), mouth, 0, start, start + 180, 255, thickness, cv2.LINE_AA)
        filled = -1 if random.random() < 0.6 else 2
        for x in (33, 57):
            cv2.circle(canvas, (x, int(random.integers(32, 39))), int(random.integers(3, 7)), 255, filled)
    else:
        noise = cv2.GaussianBlur(random.normal(0, 1, canvas.shape), (0, 0), random.uniform(1, 10))
        canvas[noise > np.quantile(noise, random.uniform(0.5, 0.95))] = 255
        if random.random() < 0.5:
            cv2.circle(canvas, (45, 45), 60, 0, 60 - int(random.integers(10, 40)))
    return canvas.astype(np.float32) / 255


def _print_character(canvas: np.ndarray, character: str, random: np.random.Generator) -> None:
    """Print a character on uint8 [90, 90] in one of OpenCV's stroke fonts or of matplotlib's outline fonts."""
    if random.random() < 0.5:
        thickness = int(random.integers(3, 9))
        cv2.putText(canvas, character, (18, 66), int(random.integers(8)), 2.2, 255, thickness, cv2.LINE_AA)
    else:
        fonts = _load_fonts()
        image = Image.new("L", canvas.shape)
        ImageDraw.Draw(image).text((45, 45), character, 255, fonts[random.integers(len(fonts))], anchor="mm")
        canvas[:] = np.asarray(image)


@cache
def _load_fonts() -> list[ImageFont.FreeTypeFont]:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [ImageFont.truetype(folder / f"{name}.ttf", 60) for name in FONTS]
