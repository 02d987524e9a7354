"""Made lines of digits, near each other and touching, among things that are none: what the spotter learns from."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.handwriting.normalisation import crop, stroke_width, thicken
from digit_recognizer.handwriting.sample_digits import STROKES, read_stroke, rounded

FINE = 2  # times finer than the result: where lines are put together
HEIGHT, WIDTH, DIGIT = 32, 128, 22  # pixels of a line, and of its digits on average
STEP = 2  # pixels from one place to the next at which the spotter says what stands there
NONE = CLASSES  # the class of places without a digit
SPREAD = 1.3  # pixels: standard deviation of the bell around a digit's middle that its probability falls off by
# Ways to write that train.csv hardly knows: ones with a long flag or a foot, sevens with a bar, other fours and nines.
WAYS = (
    *((digit, strokes) for digit, strokes in enumerate(STROKES)),
    (1, ("24,52 38,36 54,10 54,50 54,90",)),
    (1, ("18,60 40,36 58,10 56,50 54,90",)),
    (1, ("34,24 54,10 54,90", "32,90 76,90")),
    (1, ("24,44 60,10 48,90",)),
    (7, ("24,14 76,14 58,46 42,90", "34,50 70,48")),
    (7, ("24,24 26,14 76,14 60,46 48,90", "36,52 72,50")),
    (4, ("34,12 28,52 74,52", "70,14 68,50 66,90")),
    (4, ("62,10 24,64 82,62", "62,10 60,50 58,90")),
    (9, ("70,30 54,44 34,38 34,18 54,10 70,22 68,50 60,80 34,88",)),
)
LETTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy?&@#%+=*$"  # those that are no digit, however they are written
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
OTHERS = {"letter": 0.45, "scribble": 0.2, "sign": 0.1, "face": 0.1, "stain": 0.15}  # with their shares


class Stroke(NamedTuple):
    """Something to put into a line."""

    ink: np.ndarray  # float32 [h, w] in [0, 1]
    label: int  # 0 to 9, or NONE


def make_pool(images: np.ndarray, labels: np.ndarray, count: int, random: np.random.Generator) -> list[Stroke]:
    """Returns distorted digits, most of them out of the given ones and some drawn, and a quarter of other things.

    Thin strokes come first: what one pen has written is near each other.

    Args:
        images: uint8 [n, 28, 28], strokes bright on black.
        labels: uint8 [n].
        count: of the pool.
        random: source of chance.
    """
    pool = []
    for position in range(count):
        if position % 4 == 0:
            ink, label = _other(random), NONE
        elif position % 16 == 1:
            label, ink = random.integers(CLASSES), np.zeros((90, 90), np.uint8)
            _print(ink, str(label), random)
            ink = ink.astype(np.float32) / 255
        elif position % 16 == 7:
            label, strokes = WAYS[random.integers(len(WAYS))]
            ink = _drawn(strokes, random)
        else:
            row = random.integers(len(images))
            ink, label = _enlarged(images[row]), int(labels[row])
        height = DIGIT * FINE * random.uniform(0.8, 1.2)
        ink = crop(ink)
        ink = _distorted(thicken(ink, random.uniform(-0.02, 0.05) * max(ink.shape), margin=4), height, random)
        if (ink > 0.5).sum() > 10:
            pool.append(Stroke(ink, label))
    return sorted(pool, key=lambda stroke: stroke_width(stroke.ink))


def make_line(pool: list[Stroke], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a line and what stands at each place.

    Returns:
        uint8 [32, 128], and float32 [64, 11]: probabilities, 1 where a digit's middle is, falling off beside it; the
        last is for NONE.
    """
    ink = np.zeros((HEIGHT * FINE, WIDTH * FINE), np.float32)
    places = STEP * np.arange(WIDTH // STEP) + STEP / 2 - 0.5
    nearness, nearest = np.zeros(len(places)), np.full(len(places), NONE)
    right = np.full(len(ink), -np.inf)  # the last column with ink of each row
    count = random.choice([1, 2, 3, 9], p=[0.3, 0.15, 0.1, 0.45])
    closeness = random.choice([0.0, 0.5, 1.0], p=[0.25, 0.35, 0.4])
    at, lone = random.uniform(2, 40), count == 1
    reach = len(pool) if random.random() < 0.3 else -(-len(pool) // 10)  # strokes of any weight, or of one pen
    first = random.integers(len(pool) - reach + 1)
    for index in random.integers(first, first + reach, size=count):
        stroke = pool[index]
        if stroke.label == NONE and not lone and random.random() < 0.7:
            continue
        height, width = stroke.ink.shape
        top = int(np.clip((len(ink) - height) / 2 + random.normal(0, 3), 0, len(ink) - height))
        left = _left_profile(stroke.ink)
        overlap = right[top : top + height] - left
        if np.isfinite(right).any():
            at = right.max() + 1 + DIGIT * FINE * random.uniform(0.05, 0.7)
            if random.random() < closeness and np.isfinite(overlap).any():
                at = max(at - 2 * DIGIT * FINE, overlap[np.isfinite(overlap)].max() + 1 - random.integers(-3, 5))
        at = max(0, round(at))
        if at + width > ink.shape[1]:
            break
        np.maximum(ink[top : top + height, at : at + width], stroke.ink, out=ink[top : top + height, at : at + width])
        filled = ink > 0.5
        right = np.where(filled.any(axis=1), ink.shape[1] - 1 - filled[:, ::-1].argmax(axis=1), -np.inf)
        if stroke.label != NONE:
            bell = np.exp(-0.5 * ((places - (at + width / 2) / FINE + 0.5) / SPREAD) ** 2)
            nearest[bell > nearness] = stroke.label
            nearness = np.maximum(nearness, bell)
    if random.random() < 0.3:
        _add_specks(ink, random)
    if random.random() < 0.5:
        ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.3, 1.5)) * random.uniform(0.8, 1.3)
    small = cv2.resize(ink, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).clip(0, 1)
    said = np.eye(CLASSES + 1)[nearest] * nearness[:, np.newaxis]
    said[:, NONE] += 1 - nearness * (nearest != NONE)
    return np.round(small * 255).astype(np.uint8), said.astype(np.float32)


def _left_profile(ink: np.ndarray) -> np.ndarray:
    """Returns the first column with ink of each row, infinity where there is none."""
    filled = ink > 0.5
    return np.where(filled.any(axis=1), filled.argmax(axis=1), np.inf)


def _add_specks(ink: np.ndarray, random: np.random.Generator) -> None:
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(ink.shape[1])), int(random.integers(ink.shape[0]))
        cv2.circle(ink, place, int(random.integers(1, 4)), 1.0, -1)


def _enlarged(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image.astype(np.float32) / 255, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _distorted(ink: np.ndarray, height: float, random: np.random.Generator) -> np.ndarray:
    """Turns, slants and stretches, and brings to a height of at most the line's."""
    angle = np.deg2rad(random.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle) + random.uniform(-0.25, 0.25)], [np.sin(angle), np.cos(angle)]])
    scale = height / max(20, ink.shape[0])
    matrix = turn * scale * np.array([[random.uniform(0.75, 1.25)], [1]])
    side = round(1.5 * scale * float(np.hypot(*ink.shape))) + 4
    middle = np.array([ink.shape[1] / 2, ink.shape[0] / 2])
    moved = np.hstack([matrix, (np.array([side / 2, side / 2]) - matrix @ middle)[:, np.newaxis]])
    return crop(cv2.warpAffine(ink, moved, (side, side), flags=cv2.INTER_AREA))[: HEIGHT * FINE, : WIDTH * FINE]


def _drawn(strokes: tuple[str, ...], random: np.random.Generator) -> np.ndarray:
    """Draws strokes of `drawings` by an unsteady hand, float32 [84, 84]."""
    canvas = np.zeros((84, 84), np.uint8)
    thick = int(random.integers(3, 9))
    for stroke in strokes:
        points = read_stroke(stroke) * 0.84
        line = rounded(points + random.normal(0, 2, points.shape))
        cv2.polylines(canvas, [np.int32(line * 16)], False, 255, thick, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def _other(random: np.random.Generator) -> np.ndarray:
    """Returns something that is no digit: float32 [90, 90]."""
    kind = random.choice(list(OTHERS), p=list(OTHERS.values()))
    canvas = np.zeros((90, 90), np.uint8)
    thick = int(random.integers(3, 9))
    if kind == "letter":
        _print(canvas, LETTERS[random.integers(len(LETTERS))], random)
    elif kind == "scribble":
        for _ in range(random.integers(1, 4)):
            points = np.cumsum(random.integers(-28, 29, (random.integers(4, 14), 2)), axis=0) + 45.0
            if random.random() < 0.5:
                points = rounded(points)
            cv2.polylines(canvas, [points.astype(np.int32)], random.random() < 0.3, 255, thick, cv2.LINE_AA)
    elif kind == "sign":
        for stroke in SIGNS[random.integers(len(SIGNS))]:
            points = read_stroke(stroke) * 0.84 + random.normal(0, 2, 2)
            cv2.polylines(canvas, [points.astype(np.int32)], False, 255, thick, cv2.LINE_AA)
    elif kind == "face":
        size = int(random.integers(26, 40)), int(random.integers(26, 40))
        cv2.ellipse(canvas, (45, 45), size, 0, 0, 360, 255, thick, cv2.LINE_AA)
        start = int(random.choice([0, 180]))
        cv2.ellipse(canvas, (45, 56), (15, int(random.integers(3, 14))), 0, start, start + 180, 255, thick, cv2.LINE_AA)
        filled = -1 if random.random() < 0.6 else 2
        for x in (33, 57):
            cv2.circle(canvas, (x, int(random.integers(32, 39))), int(random.integers(3, 7)), 255, filled)
    else:
        noise = cv2.GaussianBlur(random.normal(0, 1, canvas.shape), (0, 0), random.uniform(1, 10))
        canvas[noise > np.quantile(noise, random.uniform(0.5, 0.95))] = 255
        if random.random() < 0.5:
            cv2.circle(canvas, (45, 45), 60, 0, 60 - int(random.integers(10, 40)))
    return canvas.astype(np.float32) / 255


def _print(canvas: np.ndarray, character: str, random: np.random.Generator) -> None:
    """Puts a character into uint8 [90, 90], by one of OpenCV's pen-like fonts or one of the printed fonts."""
    if random.random() < 0.5:
        thick = int(random.integers(3, 9))
        cv2.putText(canvas, character, (18, 66), int(random.integers(8)), 2.2, 255, thick, cv2.LINE_AA)
    else:
        from PIL import Image, ImageDraw

        fonts = _fonts()
        image = Image.new("L", (90, 90))
        ImageDraw.Draw(image).text((45, 45), character, 255, fonts[random.integers(len(fonts))], anchor="mm")
        np.copyto(canvas, image)


@cache
def _fonts() -> list[Any]:
    """Returns the fonts that matplotlib brings along, `PIL.ImageFont.FreeTypeFont`."""
    import matplotlib
    from PIL import ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return [ImageFont.truetype(folder / f"{name}.ttf", 60) for name in FONTS]
