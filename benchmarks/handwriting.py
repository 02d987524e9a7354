"""Benchmark of the reader on synthetic pictures, by kind of difficulty: `make bench-handwriting`.

The digits are rows of train.csv that neither the run nor the detector was trained on, enlarged and put on synthetic
paper.
"""

import difflib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import cv2
import numpy as np
import typer
from rich.console import Console

from benchmarks.synthetic_lines import find_left_edge, find_right_edge
from benchmarks.train_detector import split_rows
from digit_recognizer.console import make_table
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting.reader import Read, Reading, load_reader
from digit_recognizer.training import runs

DOUBT = 0.6  # a reading whose most probable digit is below this counts as uncertain
BATCH_SIZE = 64  # pictures
LETTERS = "ACEFHKMNPRTUVWXYadefhkmnprtuvwxy"

Random = np.random.Generator


class Scores(NamedTuple):
    """How a set of pictures was read."""

    readings: list[Reading]
    seconds: float

    @property
    def refused(self) -> int:
        """Pictures without a digit."""
        return sum(not reading.rows for reading in self.readings)

    @property
    def uncertain(self) -> int:
        """Pictures with digits, none of them with a probability of at least `DOUBT`."""
        certainties = [max(digit.probability for digit in one.digits) for one in self.readings if one.digits]
        return sum(certainty < DOUBT for certainty in certainties)


def enlarge(image: np.ndarray, height: float, growth: float = 0.0) -> np.ndarray:
    """Return a digit, uint8 [28, 28], with sharp edges and strokes `growth` pixels wider: float32 [height, w]."""
    factor = height / 20
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    mask = (cv2.GaussianBlur(np.pad(large, 9), (0, 0), max(0.4, factor * 0.45)) > 110).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (mask, 1 - mask))
    return crop((inside - outside + max(growth / 2, 1 - inside.max()) + 0.5).clip(0, 1))


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


def break_strokes(ink: np.ndarray, random: Random) -> np.ndarray:
    """Erase a horizontal gap of 3% of the height."""
    heights = np.arange(len(ink)) / len(ink)
    gap = np.abs(heights - random.uniform(0.3, 0.7)) < 0.015
    return np.where(gap, 0, 1)[:, np.newaxis].astype(np.float32) * ink


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
    "broken": break_strokes,
    "one pixel": lambda ink, _: skeletonise(ink),
    "specks": lambda ink, _: ink,
}
KINDS = (*PAPER, *INK, "fat", "ruled", "squared", "light on dark", "coloured", "pencil", "fills the picture", "28x28")
OTHERS = ("blank", "noise", "letter", "scribble", "face", "stains")
TOUCHING = {"apart": 0.0, "half of them touching": 0.5, "all touching": 1.0}


def make_single(image: np.ndarray, kind: str, random: Random) -> np.ndarray:
    """Return a picture of one digit, uint8 [h, w, 3]."""
    if kind == "28x28":
        return to_picture(image)
    height, width = (int(side) for side in random.integers(200, 700, 2))
    size = min(height, width) * random.uniform(0.3, 0.6)
    ink = enlarge(image, size, size * (random.uniform(0.05, 0.1) if kind == "fat" else random.uniform(-0.03, 0.03)))
    if kind in INK:
        ink = INK[kind](ink, random)
    ink = np.pad(ink, 2) if kind == "fills the picture" else place_on_page(ink, (height, width), random)
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
    page = PAPER.get(kind, PAPER["plain"])(page * (1 - ink) + pen * ink, random)
    page = (page + random.normal(0, random.uniform(0.5, 3), page.shape)).clip(0, 255).astype(np.uint8)
    quality = int(random.integers(8, 25) if kind == "JPEG blocks" else random.integers(50, 95))
    content = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))


def make_line(images: np.ndarray, touching: float, random: Random) -> np.ndarray:
    """Return the ink of a line of digits, each of which touches the previous one with the given probability."""
    height = random.uniform(50, 100)
    line = np.zeros((int(height * 1.8), int(height * 1.8 * len(images))), np.float32)
    weight, right = height * random.uniform(-0.02, 0.03), np.full(len(line), -np.inf)
    for image in images:
        ink = enlarge(image, height * random.uniform(0.9, 1.1), weight)
        top = int(np.clip((len(line) - len(ink)) / 2 + random.normal(0, 0.05 * height), 0, len(line) - len(ink)))
        overlap = right[top : top + len(ink)] - find_left_edge(ink)
        x = max(0, right.max()) + height * random.uniform(0.1, 0.6)
        if random.random() < touching and np.isfinite(overlap).any():
            x = overlap[np.isfinite(overlap)].max() + 1 - random.integers(1, 4)
        target = line[top : top + len(ink), max(0, int(x)) :][:, : ink.shape[1]]
        np.maximum(target, ink, out=target)
        right = find_right_edge(line)
    return line[:, : int(right.max()) + 1]


def make_page(images: np.ndarray, labels: np.ndarray, touching: float, random: Random) -> tuple[np.ndarray, str]:
    """Return a picture of two to five lines of four to eight digits, and its text."""
    lines, text = [], []
    for _ in range(random.integers(2, 6)):
        chosen = random.integers(len(images), size=random.integers(4, 9))
        lines.append(make_line(images[chosen], touching, random))
        text.append("".join(map(str, labels[chosen])))
    width = max(line.shape[1] for line in lines)
    ink = np.pad(np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines]), 40)
    ink = np.pad(rotate(ink, random.uniform(-2, 2)), 40)
    kind = str(random.choice(["plain", "gradient", "hard shadow", "noise", "crease"]))
    return photograph(ink, kind, random), "\n".join(text)


def make_other(kind: str, random: Random) -> np.ndarray:
    """Return a picture without a digit, uint8 [300, 300, 3]."""
    ink = np.zeros((300, 300), np.float32)
    thickness = int(random.integers(4, 14))
    if kind == "letter":
        letter = LETTERS[random.integers(len(LETTERS))]
        font, size = int(random.integers(8)), random.uniform(3, 5)
        cv2.putText(ink, letter, (90, 210), font, size, 1.0, thickness, cv2.LINE_AA)
    elif kind == "scribble":
        points = np.cumsum(random.integers(-90, 91, (random.integers(6, 16), 2)), axis=0) + 150
        cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA)
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


def measure_digits(read: Read, images: np.ndarray, labels: np.ndarray, count: int, console: Console) -> None:
    """Print how pictures of one digit are read, by kind."""
    rows, refused, uncertain = [], 0, 0
    for number, kind in enumerate(KINDS):
        random = np.random.default_rng([1, number])
        chosen = random.integers(len(images), size=count)
        scores = measure(read, [make_single(images[row], kind, random) for row in chosen])
        correct = sum(one.text == str(labels[row]) for one, row in zip(scores.readings, chosen, strict=True))
        refused, uncertain = refused + scores.refused, uncertain + scores.uncertain
        counts = str(scores.refused), str(scores.uncertain)
        rows.append((kind, f"{correct / count:.1%}", *counts, f"{count / scores.seconds:.0f}"))
    columns = ("digit", "correct", "refused", f"below {DOUBT:.0%}", "pictures/s")
    console.print(make_table(f"Pictures of one digit, {count} of each kind", columns, rows))
    _print_total("Digits", refused, uncertain, count * len(KINDS), console)


def measure_others(read: Read, count: int, console: Console) -> None:
    """Print how pictures without a digit are refused, by kind."""
    rows, refused, uncertain = [], 0, 0
    for number, kind in enumerate(OTHERS):
        random = np.random.default_rng([2, number])
        scores = measure(read, [make_other(kind, random) for _ in range(count)])
        refused, uncertain = refused + scores.refused, uncertain + scores.uncertain
        rows.append((kind, f"{scores.refused / count:.1%}", f"{scores.uncertain / count:.1%}"))
    console.print(make_table("Pictures without a digit", ("picture", "refused", f"below {DOUBT:.0%}"), rows))
    _print_total("Pictures", refused, uncertain, count * len(OTHERS), console)


def measure_pages(read: Read, images: np.ndarray, labels: np.ndarray, count: int, console: Console) -> None:
    """Print how pages of lines of digits are read, by how many of the digits touch."""
    rows = []
    for name, touching in TOUCHING.items():
        random = np.random.default_rng([3, int(2 * touching)])
        pages = [make_page(images, labels, touching, random) for _ in range(count)]
        scores = measure(read, [picture for picture, _ in pages])
        correct = total = digits = 0
        for reading, (_, text) in zip(scores.readings, pages, strict=True):
            expected, found = text.split("\n"), reading.text.split("\n")
            matched = difflib.SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
            correct, total = correct + sum(block.size for block in matched), total + len(expected)
            digits += sum(map(len, expected))
        rows.append((name, f"{correct / total:.1%}", str(total), f"{digits / scores.seconds:.0f}"))
    console.print(make_table("Lines of digits", ("neighbours", "correct lines", "lines", "digits/s"), rows))


def measure_speed(read: Read, images: np.ndarray, labels: np.ndarray, console: Console) -> None:
    """Print the time for small pictures and for a large photo, and the peak memory."""
    small = [to_picture(image) for image in images[:1000]]
    console.print(f"Pictures of 28x28: {len(small) / measure(read, small).seconds:.0f} pictures/s")
    page, _ = make_page(images, labels, 0.0, np.random.default_rng(4))
    seconds = measure(read, [cv2.resize(page, (4000, 3000))]).seconds
    console.print(f"A photo of 12 megapixels with lines of digits: {seconds:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"Peak memory of the benchmark: {peak:.2f} GiB")


def _print_total(name: str, refused: int, uncertain: int, total: int, console: Console) -> None:
    console.print(f"{name} refused: {refused / total:.1%}; below {DOUBT:.0%}: {uncertain / total:.1%}")


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
    count: Annotated[int, typer.Option(min=1, help="Pictures of each kind.")] = 50,
) -> None:
    """Measure how a run reads synthetic pictures of digits, of lines of digits, and without digits."""
    run_dir = runs.find_run(models_dir, run)
    train = load_train(data_dir)
    runs.require_data(runs.read_finished_record(run_dir), {"train.csv": train.sha256}, data_dir)
    rows = runs.require_held_out(runs.read_predictions(run_dir), run_dir).rows
    all_labels = np.asarray(train.labels)
    require_unseen(rows, all_labels)
    images, labels = train.images[rows], all_labels[rows]
    read, console = load_reader(run_dir), Console(width=100)
    console.print(f"Run {run_dir.name}")
    measure_digits(read, images, labels, count, console)
    measure_others(read, count, console)
    measure_pages(read, images, labels, count, console)
    measure_speed(read, images, labels, console)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"handwriting: {error}")
