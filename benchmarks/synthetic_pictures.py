"""Synthetic pictures of digits, of lines of digits, and of what is no digit, by kind of difficulty.

The digits are images of train.csv, enlarged, or strokes in forms that are rare there.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from benchmarks.synthetic_lines import break_strokes, draw_strokes, find_left_edge, find_right_edge
from digit_recognizer.handwriting import normalisation
from digit_recognizer.handwriting.sample_digits import parse_stroke, round_corners

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
SIGNS = (  # other ones than those that the detector was trained on
    ("50,15 85,80 15,80 50,15",),
    ("25,25 78,22 75,78 22,75 25,25",),
    ("15,15 85,85", "85,15 15,85"),
    ("50,15 50,85", "15,50 85,50"),
    ("10,50 85,50", "60,30 85,50 60,70"),
    ("15,50 40,80 85,20",),
    ("30,20 26,80", "70,20 66,80", "15,40 85,36", "15,64 85,60"),
    ("12,60 30,35 50,60 70,35 88,60",),
)
PAPERS = ("plain", "gradient", "hard shadow", "noise", "crease", "table edge", "JPEG blocks")
GAPS = {f"gap of {width:.0%}": width for width in (0.03, 0.06, 0.1)}  # fractions of the height
CROPS = {"tight crop": 2, "plain stroke, tight crop": 2, "plain stroke, cut off": -1}  # pixels of paper around a digit
TOUCHING = {"apart": 0.0, "half of them touching": 0.5, "all touching": 1.0}  # probabilities
SMALL, LARGE = "two digits in 28x28", "small, on 12 megapixels"
KINDS = {  # of pictures of one digit, of no digit, and of lines
    "digits": (
        *(*PAPERS, "rotated to 15 degrees", *GAPS, "one pixel", "specks", *DRAWN, "fat", "ruled", "squared"),
        *("light on dark", "coloured", "pencil", "show-through", "wide crop", *CROPS, "28x28"),
    ),
    "others": ("blank", "noise", "stains", "letter", "scribble", "few strokes", "sign", "face", "crossed out"),
    "lines": (*TOUCHING, "begins with strokes apart", "thin ones, uneven light", SMALL, LARGE),
}

Random = np.random.Generator
Digit = np.ndarray | tuple[str, ...]  # an image of train.csv, uint8 [28, 28], or strokes
Picture = tuple[np.ndarray, str]  # uint8 [h, w, 3], and its lines of digits, joined by line feeds


def make_pictures(
    part: str, kind: str, images: np.ndarray, labels: np.ndarray, count: int, random: Random
) -> list[Picture]:
    """Return pictures of a kind of `KINDS[part]`, a tenth of the count if they are large photos.

    Their digits are rows of train.csv: images, uint8 [n, 28, 28], bright strokes on black, with labels, uint8 [n].
    """
    if part == "digits":
        chosen = _choose(kind, images, labels, count, random)
        return [(make_single(digit, kind, random), text) for digit, text in chosen]
    if part == "others":
        return [(make_other(images, kind, random), "") for _ in range(count)]
    if kind == LARGE:
        return [make_large_photo(images, labels, random) for _ in range(max(1, count // 10))]
    if kind == SMALL:
        return [make_small_drawing(images, labels, random) for _ in range(count)]
    return [make_page(images, labels, kind, random) for _ in range(count)]


def _choose(kind: str, images: np.ndarray, labels: np.ndarray, count: int, random: Random) -> list[tuple[Digit, str]]:
    """Return digits for pictures of a kind, with their labels."""
    if kind in DRAWN:
        return [(strokes, str(label)) for label, strokes in random.choice(np.array(DRAWN[kind], object), count)]
    rows = np.flatnonzero(labels == 1) if kind.startswith("plain stroke") else np.arange(len(labels))
    return [(images[row], str(labels[row])) for row in random.choice(rows, count)]


def make_single(digit: Digit, kind: str, random: Random) -> np.ndarray:
    """Return a picture of one digit, uint8 [h, w, 3]."""
    if kind == "28x28":
        return cv2.cvtColor(255 - np.asarray(digit), cv2.COLOR_GRAY2RGB)
    height, width = (int(side) for side in random.integers(200, 700, 2))
    size = min(height, width) * (random.uniform(0.06, 0.12) if kind == "wide crop" else random.uniform(0.3, 0.6))
    growth = random.uniform(0.05, 0.1) if kind == "fat" else random.uniform(-0.03, 0.03)
    ink = make_ink(digit, size, size * growth, random)
    if kind == "rotated to 15 degrees":
        ink = rotate(ink, random.uniform(-15, 15))
    elif kind in GAPS:
        ink = crop(break_strokes(ink, GAPS[kind], random))
    elif kind == "one pixel":
        ink = skeletonise(ink)
    if kind in CROPS:
        margin = CROPS[kind]
        ink = np.pad(ink, margin) if margin > 0 else ink[-margin:margin, -margin:margin]
    else:
        ink = place_on_page(ink, (height, width), random)
    if kind == "specks":
        for x, y in random.random((6, 2)) * ink.shape[::-1]:
            cv2.circle(ink, (int(x), int(y)), max(1, int(size * random.uniform(0.005, 0.02))), 1.0, -1)
    return photograph(ink, kind, random)


def make_page(images: np.ndarray, labels: np.ndarray, kind: str, random: Random) -> tuple[np.ndarray, str]:
    """Return a picture of two to five lines of four to eight digits, and its text."""
    lines, text = [], []
    for _ in range(random.integers(2, 6)):
        subset = "plain stroke" if kind == "thin ones, uneven light" else ""
        chosen = _choose(subset, images, labels, int(random.integers(4, 9)), random)
        if kind == "begins with strokes apart":
            chosen[:1] = _choose("strokes apart", images, labels, 1, random)
        lines.append(make_line([digit for digit, _ in chosen], TOUCHING.get(kind, 0.0), random, thin=bool(subset)))
        text.append("".join(label for _, label in chosen))
    width = max(line.shape[1] for line in lines)
    ink = np.pad(np.vstack([np.pad(line, ((0, 0), (0, width - line.shape[1]))) for line in lines]), 40)
    ink = np.pad(rotate(ink, random.uniform(-2, 2)), 40)
    papers = ["gradient", "hard shadow"] if subset else ["plain", "gradient", "hard shadow", "noise", "crease"]
    return photograph(ink, str(random.choice(papers)), random), "\n".join(text)


def make_large_photo(images: np.ndarray, labels: np.ndarray, random: Random) -> tuple[np.ndarray, str]:
    """Return a photo of 12 megapixels of a sheet with a line of five small digits, and writing on its other side."""
    chosen = _choose("", images, labels, 5, random)
    line = make_line([digit for digit, _ in chosen], 0.0, random)
    scale = 1500 * random.uniform(0.03, 0.05) * 1.8 / len(line)  # a line is 1.8 times as high as its digits
    ink = place_on_page(cv2.resize(line, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), (1500, 2000), random)
    photo = photograph(ink, "show-through", random).astype(np.float32)
    picture = change_light(photo, "gradient", random).astype(np.uint8)
    return cv2.resize(picture, (4000, 3000), interpolation=cv2.INTER_CUBIC), "".join(label for _, label in chosen)


def make_small_drawing(images: np.ndarray, labels: np.ndarray, random: Random) -> tuple[np.ndarray, str]:
    """Return a drawing of two digits, half of them with loops, serifs or bars: uint8 [28, 28, 3], and its text."""
    ink, text, middle = np.zeros((28, 28), np.float32), "", random.integers(11, 18)
    for column in (0, 14):
        ((digit, label),) = _choose(str(random.choice(["", "loops, serifs, bars"])), images, labels, 1, random)
        large, text = make_ink(digit, 100, 0, random), text + label
        scale = min(random.integers(12, 17) / large.shape[0], 13 / large.shape[1])
        small = normalisation.rescale(large, scale)
        top = int(np.clip(middle - len(small) // 2 + random.integers(-2, 3), 0, 28 - len(small)))
        left = column + random.integers(14 - small.shape[1])
        ink[top : top + len(small), left : left + small.shape[1]] = small / small.max()
    return cv2.cvtColor(np.round(255 - ink * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB), text


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
        _draw_line(ink, points if kind == "scribble" else round_corners(points), thickness)
    elif kind == "sign":
        for stroke in SIGNS[random.integers(len(SIGNS))]:
            points = parse_stroke(stroke)
            _draw_line(ink, (points + random.normal(0, 3, points.shape)) * 2 + 50, thickness)
    elif kind == "crossed out":  # by a zigzag or a cross
        digit = np.pad(make_ink(images[random.integers(len(images))], random.uniform(100, 180), 0, random), 20)
        zigzag = [(column / 6, 0.15 + 0.7 * (column % 2)) for column in range(7)]
        for line in [zigzag] if random.random() < 0.4 else [[(0, 0), (1, 1)], [(0, 1), (1, 0)]]:
            points = (np.array(line) + random.normal(0, 0.05, (len(line), 2))) * digit.shape[::-1]
            _draw_line(digit, points, int(random.integers(4, 12)))
        ink = place_on_page(digit, (300, 300), random)
    elif kind == "face":
        cv2.ellipse(ink, (150, 150), (int(random.integers(70, 110)), 110), 0, 0, 360, 1.0, thickness, cv2.LINE_AA)
        cv2.ellipse(ink, (150, 180), (40, int(random.integers(5, 30))), 0, 0, 180, 1.0, thickness, cv2.LINE_AA)
        for x in (115, 185):
            cv2.circle(ink, (x, 120), int(random.integers(6, 14)), 1.0, -1)
    elif kind == "stains":
        noise = cv2.GaussianBlur(random.normal(0, 1, ink.shape), (0, 0), random.uniform(5, 25))
        ink[noise > np.quantile(noise, random.uniform(0.7, 0.95))] = 1
    return photograph(ink, "noise" if kind == "noise" else "gradient", random)


def _draw_line(ink: np.ndarray, points: np.ndarray, thickness: int) -> None:
    cv2.polylines(ink, [points.astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA)


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


def make_ink(digit: Digit, height: float, growth: float, random: Random) -> np.ndarray:
    """Return a digit of about this height with sharp edges: float32 [h, w] in [0, 1].

    Images get strokes that are `growth` pixels wider; strokes are drawn with an unsteady hand.
    """
    if isinstance(digit, tuple):
        thickness = max(1, round(height * random.uniform(0.05, 0.13)))
        return crop(draw_strokes(digit, round(1.25 * height), thickness, random, jitter=1.5))
    factor = height / 20
    large = cv2.resize(digit, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    mask = (cv2.GaussianBlur(np.pad(large, 9), (0, 0), max(0.4, factor * 0.45)) > 110).astype(np.uint8)
    inside, outside = (cv2.distanceTransform(area, cv2.DIST_L2, 5) for area in (mask, 1 - mask))
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


def place_on_page(ink: np.ndarray, shape: tuple[int, int], random: Random) -> np.ndarray:
    """Place ink at random on an empty page: float32 [h, w] on a larger one."""
    page = np.zeros(shape, np.float32)
    top, left = (int(random.uniform(0.15, 0.85) * (page.shape[axis] - ink.shape[axis])) for axis in (0, 1))
    page[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return page


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
        spacing, slope = min(ink.shape) * random.uniform(0.12, 0.4), np.tan(np.deg2rad(random.uniform(-4, 4)))
        y, x = np.indices(ink.shape)
        for distance in (y - slope * x, x + slope * y)[: 1 + (kind == "squared")]:
            page[distance % spacing < 1.2] = paper * [0.6, 0.75, 0.95]
    ink = cv2.GaussianBlur(ink, (0, 0), random.uniform(0.3, 1))[..., np.newaxis]
    if kind == "show-through":  # the other side of the sheet
        behind = cv2.GaussianBlur(np.roll(ink[:, ::-1, 0], random.integers(ink.size), axis=1), (0, 0), 2)
        page = page * (1 - random.uniform(0.05, 0.15) * behind[..., np.newaxis])
    page = change_light(page * (1 - ink) + pen * ink, kind, random)
    page = (page + random.normal(0, random.uniform(0.5, 3), page.shape)).clip(0, 255).astype(np.uint8)
    quality = int(random.integers(8, 25) if kind == "JPEG blocks" else random.integers(50, 95))
    content = cv2.imencode(".jpg", page, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))


def change_light(page: np.ndarray, kind: str, random: Random) -> np.ndarray:
    """Change the light on a page, float [h, w, 3] in [0, 255], or what surrounds it, by the kind of picture."""
    height, width = page.shape[:2]
    if kind == "gradient":  # darker towards one side
        return page * (1 - random.uniform(0.4, 0.75) * make_ramp((height, width), random))
    if kind == "hard shadow":
        return np.where(make_ramp((height, width), random) > 0.5, random.uniform(0.35, 0.7), 1) * page
    if kind == "noise":
        return page + random.normal(0, random.uniform(6, 16), page.shape)
    if kind == "crease":  # one side of the fold is brighter, the other darker
        away = (make_ramp((height, width), random) - random.uniform(0.3, 0.7)) * max(height, width)
        return page * (1 + 0.18 * np.exp(-(((away - 3) / 3) ** 2)) - 0.25 * np.exp(-(((away + 3) / 3) ** 2)))
    if kind == "table edge":  # the dark table around the sheet
        edge = int(0.06 * min(height, width))
        table = np.asarray(random.uniform((60, 40, 20), (130, 90, 60)), np.float32) + random.normal(0, 4, page.shape)
        paper = rotate(np.ones((height - 2 * edge, width - 2 * edge), np.float32), random.uniform(-2, 2))
        cover = cv2.resize(paper, (width, height))[..., np.newaxis]
        return page * cover + table * (1 - cover)
    return page


def make_ramp(shape: tuple[int, int], random: Random) -> np.ndarray:
    """Return values from 0 to 1 along a random direction, float32 [h, w, 1]."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    values = x * np.cos(angle) / shape[1] + y * np.sin(angle) / shape[0]
    return ((values - values.min()) / np.ptp(values)).astype(np.float32)[..., np.newaxis]
