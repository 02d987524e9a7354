"""How well a run reads pictures that are made here, by kind of difficulty: `make bench-handwriting`.

Digits are rows of train.csv that the run held out, written larger, on synthetic paper.
"""

import argparse
import difflib
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from digit_recognizer.data.csv_files import load_train
from digit_recognizer.handwriting import transcription
from digit_recognizer.training import runs

DOUBT = 0.6  # an answer of less probability is not a confident one
LETTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy"


def written(image, height, grow=0.0):
    """A digit, uint8 [28, 28], with sharp edges: float32 [height, w] in [0, 1], strokes `grow` pixels wider."""
    factor = height / 20
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    mask = (cv2.GaussianBlur(np.pad(large, 9), (0, 0), max(0.4, factor * 0.45)) > 110).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (mask, 1 - mask))
    return cropped((inside - outside + max(grow / 2, 1 - inside.max()) + 0.5).clip(0, 1))


def cropped(ink):
    rows, columns = (np.flatnonzero((ink > 0.05).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def turned(ink, angle):
    height, width = ink.shape
    side = int(np.hypot(height, width)) + 2
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return cropped(cv2.warpAffine(ink, matrix, (side, side)))


def thinned(ink):
    """A line one pixel wide: what erosion leaves last."""
    mask, line = (ink > 0.5).astype(np.uint8), np.zeros(ink.shape, np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    while mask.any():
        smaller = cv2.erode(mask, cross)
        line |= mask & ~cv2.dilate(smaller, cross)
        mask = smaller
    return cv2.morphologyEx(line, cv2.MORPH_CLOSE, np.ones((3, 3))).astype(np.float32)


def on_page(ink, shape, random, margin=0.15):
    """Puts ink somewhere on a page of float32 [h, w]."""
    page = np.zeros(shape, np.float32)
    top, left = (
        int(random.uniform(margin, 1 - margin) * (page_side - side))
        for page_side, side in zip(shape, ink.shape, strict=True)
    )
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page


def rules(shape, random, *, squared):
    """Lines of ruled or squared paper, 1 where they are."""
    height, width = shape
    spacing, slope = min(shape) * random.uniform(0.12, 0.4), np.tan(np.deg2rad(random.uniform(-4, 4)))
    y, x = np.mgrid[0:height, 0:width]
    found = np.zeros(shape, bool)
    for across in (y - slope * x, x + slope * y)[: 1 + squared]:
        found |= (across % spacing) < 1.2
    return found[..., np.newaxis]


def ramp(shape, random):
    """0 to 1 along some direction, float32 [h, w, 1]."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = x * np.cos(angle) / shape[1] + y * np.sin(angle) / shape[0]
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)[..., np.newaxis]


def folded(shape, random):
    """The light on a crease."""
    away = (ramp(shape, random) - random.uniform(0.3, 0.7)) * max(shape)
    return 1 + 0.18 * np.exp(-(((away - 3) / 3) ** 2)) - 0.25 * np.exp(-(((away + 3) / 3) ** 2))


def bordered(page, random):
    """A page with a dark table around it."""
    shape, edge = page.shape[:2], int(0.06 * min(page.shape[:2]))
    table = np.float32(random.uniform((60, 40, 20), (130, 90, 60))) + random.normal(0, 4, page.shape)
    cut = turned(np.ones((shape[0] - 2 * edge, shape[1] - 2 * edge), np.float32), random.uniform(-2, 2))
    cover = cv2.resize(cut, shape[::-1])[..., np.newaxis]
    return page * cover + table * (1 - cover)


PAPER = {
    "plain": lambda page, random: page,
    "gradient": lambda page, random: page * (1 - random.uniform(0.4, 0.75) * ramp(page.shape[:2], random)),
    "hard shadow": lambda page, random: (
        np.where(ramp(page.shape[:2], random) > 0.5, random.uniform(0.35, 0.7), 1) * page
    ),
    "noise": lambda page, random: page + random.normal(0, random.uniform(6, 16), page.shape),
    "crease": lambda page, random: page * folded(page.shape[:2], random),
    "table edge": bordered,
    "JPEG blocks": lambda page, random: page,
}
INK = {
    "rotated to 15 degrees": lambda ink, random: turned(ink, random.uniform(-15, 15)),
    "broken": lambda ink, random: (
        np.where(np.abs(np.arange(len(ink)) / len(ink) - random.uniform(0.3, 0.7)) < 0.015, 0, 1)[:, np.newaxis].astype(
            np.float32
        )
        * ink
    ),
    "one pixel": lambda ink, random: thinned(ink),
    "specks": lambda ink, random: ink,
}
KINDS = (*PAPER, *INK, "fat", "ruled", "squared", "light on dark", "coloured", "pencil", "fills the picture", "28x28")


def make_single(image, kind, random):
    """A picture of a digit, uint8 [h, w, 3]."""
    if kind == "28x28":
        return np.repeat((255 - image)[..., np.newaxis], 3, axis=2)
    shape = tuple(random.integers(200, 700, 2))
    height = min(shape) * random.uniform(0.3, 0.6)
    ink = written(image, height, height * (random.uniform(0.05, 0.1) if kind == "fat" else random.uniform(-0.03, 0.03)))
    ink = INK.get(kind, lambda ink, random: ink)(ink, random)
    ink = np.pad(ink, 2) if kind == "fills the picture" else on_page(ink, shape, random)
    if kind == "specks":
        for x, y in random.random((6, 2)) * ink.shape[::-1]:
            cv2.circle(ink, (int(x), int(y)), max(1, int(height * random.uniform(0.005, 0.02))), 1.0, -1)
    return photographed(ink, kind, random)


def photographed(ink, kind, random):
    """Ink, float32 [h, w], on paper: uint8 [h, w, 3]."""
    paper, pen = random.uniform(170, 250) + random.normal(0, 5, 3), random.uniform(0, 90, 3)
    if kind == "light on dark":
        paper, pen = random.uniform(0, 70, 3), random.uniform(190, 255, 3)
    elif kind == "coloured":
        pen = paper * random.permutation([0.3, 0.7, 1])
    elif kind == "pencil":
        pen = paper * random.uniform(0.6, 0.75)
    page = np.ones((*ink.shape, 3)) * paper
    if kind in ("ruled", "squared"):
        page = np.where(rules(ink.shape, random, squared=kind == "squared"), paper * [0.6, 0.75, 0.95], page)
    ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.3, 1))[..., np.newaxis]
    page = PAPER.get(kind, PAPER["plain"])(page * (1 - ink) + pen * ink, random)
    page = (page + random.normal(0, random.uniform(0.5, 3), page.shape)).clip(0, 255).astype(np.uint8)
    quality = random.integers(8, 25) if kind == "JPEG blocks" else random.integers(50, 95)
    return cv2.imdecode(cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1], cv2.IMREAD_COLOR)


def make_line(images, closeness, random):
    """Ink of a line of digits, each next to the one before it, or with a probability of `closeness` touching it."""
    height = random.uniform(50, 100)
    line = np.zeros((int(height * 1.8), int(height * 1.8 * len(images))), np.float32)
    weight, right = height * random.uniform(-0.02, 0.03), np.full(len(line), -np.inf)
    for image in images:
        ink = written(image, height * random.uniform(0.9, 1.1), weight)
        top = int(np.clip((len(line) - len(ink)) / 2 + random.normal(0, 0.05 * height), 0, len(line) - len(ink)))
        left = np.where((ink > 0.5).any(axis=1), (ink > 0.5).argmax(axis=1), np.inf)
        overlap = right[top : top + len(ink)] - left
        at = max(0, right.max()) + height * random.uniform(0.1, 0.6)
        if random.random() < closeness and np.isfinite(overlap).any():
            at = overlap[np.isfinite(overlap)].max() + 1 - random.integers(1, 4)
        at = max(0, int(at))
        np.maximum(
            line[top : top + len(ink), at:][:, : ink.shape[1]],
            ink,
            out=line[top : top + len(ink), at:][:, : ink.shape[1]],
        )
        filled = line > 0.5
        right = np.where(filled.any(axis=1), line.shape[1] - 1 - filled[:, ::-1].argmax(axis=1), -np.inf)
    return line[:, : int(right.max()) + 1]


def make_sheet(images, labels, closeness, random):
    """A picture of two to five lines of four to eight digits, and its text."""
    lines, text = [], []
    for _ in range(random.integers(2, 6)):
        chosen = random.integers(len(images), size=random.integers(4, 9))
        lines.append(make_line(images[chosen], closeness, random))
        text.append("".join(map(str, labels[chosen])))
    width = max(line.shape[1] for line in lines)
    ink = np.pad(np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines]), 40)
    ink = np.pad(turned(ink, random.uniform(-2, 2)), 40)
    return photographed(ink, random.choice(["plain", "gradient", "hard shadow", "noise", "crease"]), random), "\n".join(
        text
    )


def make_other(kind, random):
    """A picture without a digit."""
    ink = np.zeros((300, 300), np.float32)
    thick = int(random.integers(4, 14))
    if kind == "letter":
        letter = LETTERS[random.integers(len(LETTERS))]
        cv2.putText(ink, letter, (90, 210), int(random.integers(8)), random.uniform(3, 5), 1.0, thick, cv2.LINE_AA)
    elif kind == "scribble":
        points = np.cumsum(random.integers(-90, 91, (random.integers(6, 16), 2)), axis=0) + 150
        cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, thick, cv2.LINE_AA)
    elif kind == "face":
        cv2.ellipse(ink, (150, 150), (int(random.integers(70, 110)), 110), 0, 0, 360, 1.0, thick, cv2.LINE_AA)
        cv2.ellipse(ink, (150, 180), (40, int(random.integers(5, 30))), 0, 0, 180, 1.0, thick, cv2.LINE_AA)
        for x in (115, 185):
            cv2.circle(ink, (x, 120), int(random.integers(6, 14)), 1.0, -1)
    elif kind == "stains":
        noise = cv2.GaussianBlur(random.normal(0, 1, ink.shape), (0, 0), random.uniform(5, 25))
        ink[noise > np.quantile(noise, random.uniform(0.7, 0.95))] = 1
    return photographed(ink, "noise" if kind == "noise" else "gradient", random)


OTHERS = ("blank", "noise", "letter", "scribble", "face", "stains")


def is_doubtful(reading):
    """Whether something is read, but nothing with confidence."""
    found = [digit.probability for row in reading.rows for digit in row]
    return bool(found) and max(found) < DOUBT


def read_timed(read: Callable, pictures: list) -> tuple[list, float]:
    start = time.perf_counter()
    readings = [one for place in range(0, len(pictures), 64) for one in read(pictures[place : place + 64])]
    return readings, time.perf_counter() - start


def table(title, columns, rows):
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for place, column in enumerate(columns):
        shown.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        shown.add_row(*map(str, row))
    return shown


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    parser.add_argument("--run")
    parser.add_argument("--count", type=int, default=50, help="pictures of each kind")
    options = parser.parse_args()
    run_dir = runs.find_run(options.models_dir, options.run)
    train, held_out = load_train(options.data_dir), runs.read_predictions(run_dir).rows
    images, labels = train.images[held_out], train.labels[held_out]
    read, console = transcription.load_reader(run_dir), Console(width=100)

    rows, refused, unsure, count = [], 0, 0, options.count
    for number, kind in enumerate(KINDS):
        random = np.random.default_rng([1, number])
        chosen = random.integers(len(images), size=count)
        readings, seconds = read_timed(read, [make_single(images[row], kind, random) for row in chosen])
        right = sum(one.text == str(labels[row]) for one, row in zip(readings, chosen, strict=True))
        none, doubtful = sum(not one.rows for one in readings), sum(map(is_doubtful, readings))
        refused, unsure = refused + none, unsure + doubtful
        rows.append((kind, f"{right / count:.1%}", none, doubtful, f"{count / seconds:.0f}"))
    columns = ("digit", "right", "refused", f"below {DOUBT:.0%}", "a second")
    console.print(table(f"{run_dir.name}: {count} digits a kind", columns, rows))
    total = count * len(KINDS)
    console.print(f"Digits refused: {refused / total:.1%}; below {DOUBT:.0%}: {unsure / total:.1%}")

    rows, refused, unsure = [], 0, 0
    for number, kind in enumerate(OTHERS):
        random = np.random.default_rng([2, number])
        readings, _ = read_timed(read, [make_other(kind, random) for _ in range(count)])
        none, doubtful = sum(not one.rows for one in readings), sum(map(is_doubtful, readings))
        refused, unsure = refused + none, unsure + doubtful
        rows.append((kind, f"{none / count:.1%}", f"{doubtful / count:.1%}"))
    console.print(table("Pictures without a digit", ("picture", "refused", f"below {DOUBT:.0%}"), rows))
    total = count * len(OTHERS)
    console.print(f"Refused of all: {refused / total:.1%}; below {DOUBT:.0%}: {unsure / total:.1%}")

    rows = []
    for name, closeness in {"apart": 0.0, "half of them touching": 0.5, "all touching": 1.0}.items():
        random = np.random.default_rng([3, int(2 * closeness)])
        sheets = [make_sheet(images, labels, closeness, random) for _ in range(count)]
        readings, seconds = read_timed(read, [picture for picture, _ in sheets])
        right = total = digits = 0
        for reading, (_, text) in zip(readings, sheets, strict=True):
            expected, found = text.split("\n"), reading.text.split("\n")
            matched = difflib.SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
            right, total = right + sum(block.size for block in matched), total + len(expected)
            digits += sum(map(len, expected))
        rows.append((name, f"{right / total:.1%}", total, f"{digits / seconds:.0f}"))
    console.print(table("Lines of digits", ("neighbours", "lines right", "lines", "digits a second"), rows))

    small = [np.repeat((255 - image)[..., np.newaxis], 3, axis=2) for image in images[:1000]]
    _, seconds = read_timed(read, small)
    console.print(f"Pictures of 28x28: {len(small) / seconds:.0f} a second")
    sheet, _ = make_sheet(images, labels, 0.0, np.random.default_rng(4))
    _, seconds = read_timed(read, [cv2.resize(sheet, (4000, 3000))])
    console.print(f"A photo of 12 megapixels with lines of digits: {seconds:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"Peak memory, with the data and what is made here: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
