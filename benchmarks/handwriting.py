"""Benchmark of the reader on synthetic pictures, by kind of difficulty: `make bench-handwriting`.

The digits are rows of train.csv that neither the run nor the detector was trained on, enlarged and put on synthetic
paper.
"""

import difflib
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import typer
from rich.console import Console

from benchmarks import tables
from benchmarks.benchmark import describe_machine
from benchmarks.synthetic_lines import find_left_edge, find_right_edge
from benchmarks.train_detector import split_rows
from digit_recognizer import files
from digit_recognizer.config import REFUSE
from digit_recognizer.console import show_steps
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import normalisation, reader
from digit_recognizer.handwriting.reader import Read, Reading, refuse_below
from digit_recognizer.handwriting.sample_digits import parse_stroke, round_corners
from digit_recognizer.training import runs

BATCH_SIZE = 64  # pictures
SEED = 1  # of the figures that are reported; settings are chosen on others
LETTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy"

# Digits that are rare in train.csv, in the notation of `sample_digits`, not those that the detector was trained on.
# Strokes that do not touch: open fours, fives whose flag stands apart, sevens with a bar, broken eights and zeros.
APART = (
    (4, ("30,16 25,54 58,53", "68,12 66,90")),
    (4, ("36,10 24,48 56,50", "74,20 64,90")),
    (5, ("34,22 32,46 52,42 72,54 70,76 52,90 28,84", "42,12 76,12")),
    (7, ("24,16 72,15 60,46 48,90", "40,58 74,52")),
    (8, ("66,18 48,10 32,26 50,48 70,70 50,90 30,70 50,48 64,34",)),
    (0, ("46,12 28,34 28,66 46,88", "56,88 72,66 72,32 58,12")),
)
# Narrow and open loops, serifs, bars.
LOOPS = (
    (0, ("54,12 42,26 40,54 44,84 54,88 60,72 62,40 56,14",)),
    (0, ("56,12 34,20 28,52 38,84 60,88 72,62 70,32",)),
    (1, ("30,40 50,14 50,88",)),
    (1, ("36,26 52,12 52,88", "36,88 70,88")),
    (7, ("26,26 26,14 74,14 56,50 46,90",)),
    (7, ("26,14 74,14 60,46 50,90", "36,50 70,50")),
)
DRAWN = {"strokes apart": APART, "loops, serifs, bars": LOOPS}
SIGNS = (
    ("50,15 85,80 15,80 50,15",),
    ("25,25 78,22 75,78 22,75 25,25",),
    ("15,15 85,85", "85,15 15,85"),
    ("50,15 50,85", "15,50 85,50"),
    ("10,50 85,50", "60,30 85,50 60,70"),
    ("15,50 40,80 85,20",),
    ("30,20 26,80", "70,20 66,80", "15,40 85,36", "15,64 85,60"),
    ("12,60 30,35 50,60 70,35 88,60",),
)

Random = np.random.Generator
Digit = np.ndarray | tuple[str, ...]  # an image of train.csv, uint8 [28, 28], or strokes


class Scores(NamedTuple):
    """How a set of pictures was read."""

    readings: list[Reading]
    seconds: float


def enlarge(image: np.ndarray, height: float, growth: float = 0.0) -> np.ndarray:
    """Return a digit, uint8 [28, 28], with sharp edges and strokes `growth` pixels wider: float32 [height, w]."""
    factor = height / 20
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    mask = (cv2.GaussianBlur(np.pad(large, 9), (0, 0), max(0.4, factor * 0.45)) > 110).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (mask, 1 - mask))
    return crop((inside - outside + max(growth / 2, 1 - inside.max()) + 0.5).clip(0, 1))


def draw(strokes: tuple[str, ...], height: float, random: Random) -> np.ndarray:
    """Draw strokes with an unsteady hand: float32 [about height, w]."""
    side, thickness = round(1.25 * height), max(1, round(height * random.uniform(0.05, 0.13)))
    ink = np.zeros((side, side), np.uint8)
    for stroke in strokes:
        points = parse_stroke(stroke)
        points = round_corners(points + random.normal(0, 1.5, points.shape)) * side / 100
        cv2.polylines(ink, [(points * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4)
    return crop(ink.astype(np.float32) / 255)


def make_ink(digit: Digit, height: float, growth: float, random: Random) -> np.ndarray:
    """Return a digit of about this height: float32 [h, w]."""
    return draw(digit, height, random) if isinstance(digit, tuple) else enlarge(digit, height, growth)


def crop(ink: np.ndarray) -> np.ndarray:
    """Return the bounding box of the values above 0.05."""
    rows, columns = (np.flatnonzero((ink > 0.05).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def rotate(ink: np.ndarray, angle: float) -> np.ndarray:
    """Rotate by degrees, without cutting anything off."""
    height, width = ink.shape
    side = int(np.hypot(height, width)) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return crop(cv2.warpAffine(ink, matrix, (side, side)))


def skeletonise(ink: np.ndarray) -> np.ndarray:
    """Return strokes one pixel wide: the last pixels that repeated erosion leaves."""
    mask: np.ndarray = (ink > 0.5).astype(np.uint8)
    skeleton = np.zeros(ink.shape, np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    while mask.any():
        smaller: np.ndarray = cv2.erode(mask, cross)
        skeleton |= mask & (1 - cv2.dilate(smaller, cross))
        mask = smaller
    return cv2.morphologyEx(skeleton, cv2.MORPH_CLOSE, np.ones((3, 3))).astype(np.float32)


def break_strokes(ink: np.ndarray, random: Random, width: float) -> np.ndarray:
    """Erase a straight gap through a stroke, as wide as this fraction of the height."""
    y, x = random.choice(np.argwhere(ink > 0.5))
    angle, (rows, columns) = random.uniform(0, np.pi), np.indices(ink.shape)
    distance = np.abs((rows - y) * np.cos(angle) + (columns - x) * np.sin(angle))
    return crop(np.where(distance < width / 2 * len(ink), 0, ink).astype(np.float32))


def cross_out(ink: np.ndarray, random: Random) -> np.ndarray:
    """Draw a cross or a zigzag over a digit."""
    ink, (height, width) = np.pad(ink, 20), np.add(ink.shape, 40)
    zigzag = [(column / 6, 0.15 + 0.7 * (column % 2)) for column in range(7)]
    lines = [zigzag] if random.random() < 0.4 else [[(0, 0), (1, 1)], [(0, 1), (1, 0)]]
    for line in lines:
        points = (np.array(line) + random.normal(0, 0.05, (len(line), 2))) * (width, height)
        cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, int(random.integers(4, 12)), cv2.LINE_AA)
    return ink


def place_on_page(ink: np.ndarray, shape: tuple[int, int], random: Random, margin: float = 0.15) -> np.ndarray:
    """Place ink at random on an empty page of float32 [h, w]."""
    page = np.zeros(shape, np.float32)
    top, left = (
        int(random.uniform(margin, 1 - margin) * (page_side - side))
        for page_side, side in zip(shape, ink.shape, strict=True)
    )
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page


def draw_rules(shape: tuple[int, int], random: Random, *, squared: bool) -> np.ndarray:
    """Return where the lines of ruled or squared paper are, bool [h, w, 1]."""
    height, width = shape
    spacing, slope = min(shape) * random.uniform(0.12, 0.4), np.tan(np.deg2rad(random.uniform(-4, 4)))
    y, x = np.mgrid[0:height, 0:width]
    rules = np.zeros(shape, bool)
    for across in (y - slope * x, x + slope * y)[: 1 + squared]:
        rules |= (across % spacing) < 1.2
    return rules[..., np.newaxis]


def make_ramp(shape: tuple[int, int], random: Random) -> np.ndarray:
    """Return values from 0 to 1 along a random direction, float32 [h, w, 1]."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = x * np.cos(angle) / shape[1] + y * np.sin(angle) / shape[0]
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)[..., np.newaxis]


def light_gradient(page: np.ndarray, random: Random) -> np.ndarray:
    """Darken a page gradually towards one side."""
    return page * (1 - random.uniform(0.4, 0.75) * make_ramp(page.shape[:2], random))


def light_shadow(page: np.ndarray, random: Random) -> np.ndarray:
    """Cast a shadow with a hard edge on a page."""
    return np.where(make_ramp(page.shape[:2], random) > 0.5, random.uniform(0.35, 0.7), 1) * page


def add_noise(page: np.ndarray, random: Random) -> np.ndarray:
    """Add the noise of a sensor."""
    return page + random.normal(0, random.uniform(6, 16), page.shape)


def add_crease(page: np.ndarray, random: Random) -> np.ndarray:
    """Fold a page: one side of the crease is brighter, the other darker."""
    away = (make_ramp(page.shape[:2], random) - random.uniform(0.3, 0.7)) * max(page.shape[:2])
    return page * (1 + 0.18 * np.exp(-(((away - 3) / 3) ** 2)) - 0.25 * np.exp(-(((away + 3) / 3) ** 2)))


def add_table_edge(page: np.ndarray, random: Random) -> np.ndarray:
    """Show the dark table around a page."""
    height, width = page.shape[:2]
    edge = int(0.06 * min(height, width))
    table = np.asarray(random.uniform((60, 40, 20), (130, 90, 60)), np.float32) + random.normal(0, 4, page.shape)
    paper = rotate(np.ones((height - 2 * edge, width - 2 * edge), np.float32), random.uniform(-2, 2))
    cover = cv2.resize(paper, (width, height))[..., np.newaxis]
    return page * cover + table * (1 - cover)


Change = Callable[[np.ndarray, Random], np.ndarray]
PAPER: dict[str, Change] = {  # changes of the page, float [h, w, 3] in [0, 255]
    "plain": lambda page, _: page,
    "gradient": light_gradient,
    "hard shadow": light_shadow,
    "noise": add_noise,
    "crease": add_crease,
    "table edge": add_table_edge,
    "JPEG blocks": lambda page, _: page,
}
INK: dict[str, Change] = {  # changes of the digit, float32 [h, w] in [0, 1]
    "rotated to 15 degrees": lambda ink, random: rotate(ink, random.uniform(-15, 15)),
    **{f"gap of {width:.0%}": partial(break_strokes, width=width) for width in (0.03, 0.06, 0.1)},
    "one pixel": lambda ink, _: skeletonise(ink),
    "specks": lambda ink, _: ink,
}
CROPS = {"tight crop": 2, "plain stroke, tight crop": 2, "plain stroke, cut off": -1}  # pixels of paper around a digit
KINDS = (
    *PAPER,
    *INK,
    *DRAWN,
    *("fat", "ruled", "squared", "light on dark", "coloured", "pencil", "show-through", "wide crop"),
    *CROPS,
    "28x28",
)
OTHERS = ("blank", "noise", "stains", "letter", "scribble", "few strokes", "sign", "face", "crossed out")
TOUCHING = {"apart": 0.0, "half of them touching": 0.5, "all touching": 1.0}  # kinds of lines
LINES = (*TOUCHING, "begins with strokes apart", "thin ones, uneven light")


def choose_digits(
    kind: str, images: np.ndarray, labels: np.ndarray, count: int, random: Random
) -> list[tuple[Digit, str]]:
    """Return digits for pictures of a kind, with their labels."""
    if kind in DRAWN:
        return [(strokes, str(label)) for label, strokes in random.choice(np.array(DRAWN[kind], object), count)]
    rows = np.flatnonzero(labels == 1) if kind.startswith("plain stroke") else np.arange(len(labels))
    return [(images[row], str(labels[row])) for row in random.choice(rows, count)]


def make_single(digit: Digit, kind: str, random: Random) -> np.ndarray:
    """Return a picture of one digit, uint8 [h, w, 3]."""
    if kind == "28x28":
        return to_picture(np.asarray(digit))
    height, width = (int(side) for side in random.integers(200, 700, 2))
    size = min(height, width) * (random.uniform(0.06, 0.12) if kind == "wide crop" else random.uniform(0.3, 0.6))
    growth = random.uniform(0.05, 0.1) if kind == "fat" else random.uniform(-0.03, 0.03)
    ink = make_ink(digit, size, size * growth, random)
    if kind in INK:
        ink = INK[kind](ink, random)
    if kind in CROPS:
        margin = CROPS[kind]
        ink = np.pad(ink, margin) if margin > 0 else ink[-margin:margin, -margin:margin]
    else:
        ink = place_on_page(ink, (height, width), random)
    if kind == "specks":
        for x, y in random.random((6, 2)) * ink.shape[::-1]:
            cv2.circle(ink, (int(x), int(y)), max(1, int(size * random.uniform(0.005, 0.02))), 1.0, -1)
    return photograph(ink, kind, random)


def to_picture(image: np.ndarray) -> np.ndarray:
    """Return an image of train.csv as dark strokes on white: uint8 [28, 28] to uint8 [28, 28, 3]."""
    return np.repeat((255 - image)[..., np.newaxis], 3, axis=2)


def photograph(ink: np.ndarray, kind: str, random: Random) -> np.ndarray:
    """Put ink, float32 [h, w], on paper, and compress the picture as JPEG: uint8 [h, w, 3]."""
    paper, pen = random.uniform(170, 250) + random.normal(0, 5, 3), random.uniform(0, 90, 3)
    if kind == "light on dark":
        paper, pen = random.uniform(0, 70, 3), random.uniform(190, 255, 3)
    elif kind == "coloured":
        pen = paper * random.permutation([0.3, 0.7, 1])
    elif kind == "pencil":
        pen = paper * random.uniform(0.6, 0.75)
    page = np.ones((*ink.shape, 3)) * paper
    if kind in ("ruled", "squared"):
        height, width = ink.shape
        page = np.where(draw_rules((height, width), random, squared=kind == "squared"), paper * [0.6, 0.75, 0.95], page)
    ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.3, 1))[..., np.newaxis]
    if kind == "show-through":  # the other side of the sheet
        behind = cv2.GaussianBlur(np.roll(ink[:, ::-1, 0], random.integers(ink.size), axis=1), (0, 0), 2)
        page = page * (1 - random.uniform(0.05, 0.15) * behind[..., np.newaxis])
    page = PAPER.get(kind, PAPER["plain"])(page * (1 - ink) + pen * ink, random)
    page = (page + random.normal(0, random.uniform(0.5, 3), page.shape)).clip(0, 255).astype(np.uint8)
    quality = int(random.integers(8, 25) if kind == "JPEG blocks" else random.integers(50, 95))
    content = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))


def make_line(digits: Sequence[Digit], touching: float, random: Random, *, thin: bool = False) -> np.ndarray:
    """Return the ink of a line of digits, each of which touches the previous one with the given probability."""
    height = random.uniform(50, 100)
    line = np.zeros((int(height * 1.8), int(height * 1.8 * len(digits))), np.float32)
    weight, right = height * (-0.07 if thin else random.uniform(-0.02, 0.03)), np.full(len(line), -np.inf)
    for digit in digits:
        ink = make_ink(digit, height * random.uniform(0.9, 1.1), weight, random)
        top = int(np.clip((len(line) - len(ink)) / 2 + random.normal(0, 0.05 * height), 0, len(line) - len(ink)))
        overlap = right[top : top + len(ink)] - find_left_edge(ink)
        x = max(0, right.max()) + height * random.uniform(0.1, 0.6)
        if random.random() < touching and np.isfinite(overlap).any():
            x = overlap[np.isfinite(overlap)].max() + 1 - random.integers(1, 4)
        target = line[top : top + len(ink), max(0, int(x)) :][:, : ink.shape[1]]
        np.maximum(target, ink, out=target)
        right = find_right_edge(line)
    return line[:, : int(right.max()) + 1]


def make_page(images: np.ndarray, labels: np.ndarray, kind: str, random: Random) -> tuple[np.ndarray, str]:
    """Return a picture of two to five lines of four to eight digits, and its text."""
    lines, text = [], []
    for _ in range(random.integers(2, 6)):
        subset = "plain stroke" if kind == "thin ones, uneven light" else ""
        chosen = choose_digits(subset, images, labels, int(random.integers(4, 9)), random)
        if kind == "begins with strokes apart":
            chosen[:1] = choose_digits("strokes apart", images, labels, 1, random)
        lines.append(make_line([digit for digit, _ in chosen], TOUCHING.get(kind, 0.0), random, thin=bool(subset)))
        text.append("".join(label for _, label in chosen))
    width = max(line.shape[1] for line in lines)
    ink = np.pad(np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines]), 40)
    ink = np.pad(rotate(ink, random.uniform(-2, 2)), 40)
    papers = ["gradient", "hard shadow"] if subset else ["plain", "gradient", "hard shadow", "noise", "crease"]
    return photograph(ink, str(random.choice(papers)), random), "\n".join(text)


def make_large_photo(images: np.ndarray, labels: np.ndarray, random: Random) -> tuple[np.ndarray, str]:
    """Return a photo of 12 megapixels of a sheet with a line of five small digits, and writing on its other side."""
    chosen = choose_digits("", images, labels, 5, random)
    line = make_line([digit for digit, _ in chosen], 0.0, random)
    scale = 1500 * random.uniform(0.03, 0.05) * 1.8 / len(line)  # a line is 1.8 times as high as its digits
    ink = place_on_page(cv2.resize(line, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), (1500, 2000), random)
    picture = light_gradient(photograph(ink, "show-through", random).astype(np.float32), random).astype(np.uint8)
    return cv2.resize(picture, (4000, 3000), interpolation=cv2.INTER_CUBIC), "".join(label for _, label in chosen)


def make_small_drawing(images: np.ndarray, labels: np.ndarray, random: Random) -> tuple[np.ndarray, str]:
    """Return a drawing of two digits, half of them with loops, serifs or bars: uint8 [28, 28, 3], and its text."""
    ink, text, middle = np.zeros((28, 28), np.float32), "", random.integers(11, 18)
    for column in (0, 14):
        ((digit, label),) = choose_digits(str(random.choice(["", "loops, serifs, bars"])), images, labels, 1, random)
        large, text = make_ink(digit, 100, 0, random), text + label
        scale = min(random.integers(12, 17) / large.shape[0], 13 / large.shape[1])
        small = normalisation.rescale(large, scale)
        top = int(np.clip(middle - len(small) // 2 + random.integers(-2, 3), 0, 28 - len(small)))
        left = column + random.integers(14 - small.shape[1])
        ink[top : top + len(small), left : left + small.shape[1]] = small / small.max()
    return to_picture(np.round(ink * 255).astype(np.uint8)), text


def make_other(images: np.ndarray, kind: str, random: Random) -> np.ndarray:
    """Return a picture without a digit, uint8 [300, 300, 3]."""
    ink = np.zeros((300, 300), np.float32)
    thickness = int(random.integers(4, 14))
    if kind == "letter":
        letter = LETTERS[random.integers(len(LETTERS))]
        font, size = int(random.integers(8)), random.uniform(3, 5)
        cv2.putText(ink, letter, (90, 210), font, size, 1.0, thickness, cv2.LINE_AA)
    elif kind in ("scribble", "few strokes"):
        count = random.integers(6, 16) if kind == "scribble" else random.integers(4, 7)
        points = np.cumsum(random.integers(-90, 91, (count, 2)), axis=0) + 150.0
        points = points if kind == "scribble" else round_corners(points)
        cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA)
    elif kind == "sign":
        for stroke in SIGNS[random.integers(len(SIGNS))]:
            points = parse_stroke(stroke)
            points = (points + random.normal(0, 3, points.shape)) * 2 + 50
            cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA)
    elif kind == "crossed out":
        crossed = cross_out(enlarge(images[random.integers(len(images))], random.uniform(100, 180)), random)
        ink = place_on_page(crossed, (300, 300), random)
    elif kind == "face":
        cv2.ellipse(ink, (150, 150), (int(random.integers(70, 110)), 110), 0, 0, 360, 1.0, thickness, cv2.LINE_AA)
        cv2.ellipse(ink, (150, 180), (40, int(random.integers(5, 30))), 0, 0, 180, 1.0, thickness, cv2.LINE_AA)
        for x in (115, 185):
            cv2.circle(ink, (x, 120), int(random.integers(6, 14)), 1.0, -1)
    elif kind == "stains":
        noise = cv2.GaussianBlur(random.normal(0, 1, ink.shape), (0, 0), random.uniform(5, 25))
        ink[noise > np.quantile(noise, random.uniform(0.7, 0.95))] = 1
    return photograph(ink, "noise" if kind == "noise" else "gradient", random)


def measure(read: Read, pictures: Sequence[np.ndarray]) -> Scores:
    """Read pictures in batches."""
    start = time.perf_counter()
    readings = [
        reading
        for place in range(0, len(pictures), BATCH_SIZE)
        for reading in read(pictures[place : place + BATCH_SIZE])
    ]
    return Scores(readings, time.perf_counter() - start)


def measure_digits(
    read: Read, images: np.ndarray, labels: np.ndarray, count: int, seed: int
) -> tuple[dict[str, Any], list[float]]:
    """Return how pictures of one digit are read, by kind, and the highest probability of a digit in each picture."""
    results, probabilities = dict[str, Any](), list[float]()
    for number, kind in enumerate(KINDS):
        random = np.random.default_rng([seed, 1, number])
        chosen = choose_digits(kind, images, labels, count, random)
        found, _ = measure(read, [make_single(digit, kind, random) for digit, _ in chosen])
        kept = [refuse_below(REFUSE, reading) for reading in found]
        correct = sum(one.text == label for one, (_, label) in zip(kept, chosen, strict=True))
        results[kind] = {"correct": correct / count, "refused": _count_refused(kept) / count}
        probabilities += map(_find_highest, found)
    return results, probabilities


def measure_others(read: Read, images: np.ndarray, count: int, seed: int) -> tuple[dict[str, Any], list[float]]:
    """Return how pictures without a digit are refused, by kind, and the highest probability of a digit in each."""
    results, probabilities = dict[str, Any](), list[float]()
    for number, kind in enumerate(OTHERS):
        random = np.random.default_rng([seed, 2, number])
        found, _ = measure(read, [make_other(images, kind, random) for _ in range(count)])
        results[kind] = {"refused": _count_refused([refuse_below(REFUSE, reading) for reading in found]) / count}
        probabilities += map(_find_highest, found)
    return results, probabilities


def _count_refused(readings: Sequence[Reading]) -> int:
    return sum(not reading.rows for reading in readings)


def _find_highest(reading: Reading) -> float:
    return max((digit.probability for digit in reading.digits), default=0.0)


def draw_refusals(refused: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the fractions of pictures with and without a digit that are refused, by the value of `--refuse`."""
    from matplotlib.figure import Figure

    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(("with a digit", "without a digit")):
        fractions = [100 * values[number] for values in refused.values()]
        axes.plot([*map(float, refused)], fractions, marker=".", label=f"pictures {name}")
    axes.axvline(REFUSE, color="gray", linestyle=":", label=f"default: {REFUSE}")
    axes.set(xlabel="--refuse", ylabel="refused (%)", xlim=(0, 1), ylim=(0, 100), title="Refused pictures")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def measure_lines(read: Read, images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> dict[str, Any]:
    """Return how many lines of digits are read without a mistake, by kind."""
    makers: dict[str, tuple[int, Callable[[Random], tuple[np.ndarray, str]]]] = {
        kind: (count, partial(make_page, images, labels, kind)) for kind in LINES
    }
    makers["two digits in 28x28"] = count, partial(make_small_drawing, images, labels)
    makers["small, on 12 megapixels"] = max(1, count // 10), partial(make_large_photo, images, labels)
    results = {}
    for number, (kind, (pictures, make)) in enumerate(makers.items()):
        random = np.random.default_rng([seed, 3, number])
        pages = [make(random) for _ in range(pictures)]
        readings, _ = measure(read, [picture for picture, _ in pages])
        correct = total = 0
        for reading, (_, text) in zip(readings, pages, strict=True):
            expected, found = text.split("\n"), refuse_below(REFUSE, reading).text.split("\n")
            matched = difflib.SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
            correct, total = correct + sum(block.size for block in matched), total + len(expected)
        results[kind] = {"correct": correct / total, "lines": total}
    return results


def measure_speed(read: Read, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the rate for small pictures, the time for a large photo, and the peak memory of this process."""
    small = [to_picture(image) for image in images[:1000]]
    rate = len(small) / measure(read, small).seconds
    photo, _ = make_large_photo(images, labels, np.random.default_rng(4))
    seconds = statistics.median(measure(read, [photo]).seconds for _ in range(5))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"small_pictures_per_second": rate, "large_photo_seconds": seconds, "peak_bytes": peak}


def require_unseen(rows: np.ndarray, labels: np.ndarray) -> None:
    """Check that the detector was not trained on any of the rows.

    Args:
        rows: int [n], the test digits' rows of train.csv.
        labels: uint8, all labels of train.csv.

    Raises:
        UserError: The detector was trained on some of them.
    """
    seen = len(np.intersect1d(rows, split_rows(labels).train))
    if seen:
        raise UserError(
            f"expected held-out rows that the detector was not trained on, found {seen:,} of {len(rows):,} among its "
            "training rows; name a RUN= with FOLDS=1 and the default VALIDATION"
        )


def main(
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder of the competition's train.csv.")] = Path("data"),
    models_dir: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("models"),
    run: Annotated[str | None, typer.Option(help="Name of the run.", show_default="the latest")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures. To choose settings, take others.")] = SEED,
    work_dir: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("bench"),
) -> None:
    """Measure how a run reads synthetic pictures of digits, of lines of digits, and without digits."""
    run_dir = reader.choose_networks(models_dir, run)
    train = load_train(data_dir)
    all_labels = np.asarray(train.labels)
    rows = split_rows(all_labels).validation  # also of the network of the package
    if run_dir:
        runs.require_data(runs.read_finished_record(run_dir), {"train.csv": train.sha256}, data_dir)
        rows = runs.require_held_out(runs.read_predictions(run_dir), run_dir).rows
        require_unseen(rows, all_labels)
    images, labels = train.images[rows], all_labels[rows]
    result: dict[str, Any] = {"networks": reader.name_networks(run_dir).partition(";")[0]}
    result |= {"machine": describe_machine(), "seed": seed, "count": count, "refuse": REFUSE}
    with show_steps(Console(stderr=True)) as step:
        read = reader.load_reader(run_dir, refuse=0)  # for the curve
        result["speed"] = measure_speed(read, images, labels)
        step("lines", 0.1)
        result["lines"] = measure_lines(read, images, labels, count, seed)
        step("digits", 0.4)
        result["digits"], digits = measure_digits(read, images, labels, count, seed)
        step("others", 0.9)
        result["others"], others = measure_others(read, images, count, seed)
    limits = [round(limit, 2) for limit in np.arange(0, 1.01, 0.05)]
    result["refused"] = {
        str(limit): [float(np.mean(np.array(one) < limit)) for one in (digits, others)] for limit in limits
    }
    work_dir.mkdir(parents=True, exist_ok=True)
    files.write_json(work_dir / "handwriting.json", result)
    draw_refusals(result["refused"], work_dir / "refusals.png")
    typer.echo(tables.handwriting_tables([result]))
    typer.echo(f"\nCurve of the refused pictures: {work_dir / 'refusals.png'}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"handwriting: {error}")
