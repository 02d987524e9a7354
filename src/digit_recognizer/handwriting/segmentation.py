"""Digits found in a picture of ink: strokes put together to pieces, pieces to rows, and ways to part what touches."""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from digit_recognizer.handwriting.binarisation import threshold
from digit_recognizer.handwriting.normalisation import stroke_width

CUT_HEIGHT = 48  # pixels at which pieces are cut
LEAST_CUT = 0.5  # height of a part over that of the whole below which the path around it was wrong
STEP = 0.1  # ink that a path's step aside is worth
MAX_PIECES = 200  # more than this many strokes of some size are a texture, not writing


class Piece(NamedTuple):
    """Strokes in their box."""

    x: int
    y: int
    ink: np.ndarray  # float32 [h, w] in [0, 1]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.ink.shape[1]

    @property
    def height(self) -> int:
        """Pixels."""
        return self.ink.shape[0]

    @property
    def mass(self) -> float:
        """Ink in pixels."""
        return float(self.ink.sum())


def stroke_mask(ink: np.ndarray) -> np.ndarray:
    """Returns where there is ink: what is strong, and what is half as strong and touches that (Canny's hysteresis).

    Args:
        ink: float32 [h, w] in [0, 1].

    Returns:
        bool [h, w].
    """
    noticeable = ink[ink > 0.03]
    if not len(noticeable):
        return np.zeros(ink.shape, bool)
    strong = max(threshold(noticeable), 0.04)
    _, labels = cv2.connectedComponents((ink > 0.6 * strong).astype(np.uint8))
    keep = np.zeros(labels.max() + 1, bool)
    keep[labels[ink > strong]] = True
    keep[0] = False
    return keep[labels]


def without_margins(ink: np.ndarray) -> np.ndarray:
    """Returns ink without tables, shadows and scanners' lids that reach into the picture along its border.

    A stroke meets the border with its end, or alone in a tight crop; what meets it with a third of its outline, while
    there is something else of some size, is no stroke.

    Args:
        ink: float32 [h, w] in [0, 1].
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((ink > 0.1).astype(np.uint8), connectivity=8)
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    contact = np.bincount(border, minlength=count)
    size = stats[:, cv2.CC_STAT_WIDTH] + stats[:, cv2.CC_STAT_HEIGHT]
    margin = contact > 0.35 * size
    margin[0] = False
    other = ~margin & (size > max(20, 0.06 * sum(ink.shape)))
    other[0] = False
    if not margin.any() or not other.any():
        return ink
    return np.where(cv2.dilate(margin[labels].astype(np.uint8), np.ones((5, 5))) > 0, 0, ink)


def without_rules(ink: np.ndarray) -> np.ndarray:
    """Returns ink without the straight lines of ruled and squared paper; strokes that cross them are kept whole.

    Args:
        ink: float32 [h, w] in [0, 1].
    """
    left = _without_level_rules(_without_level_rules(ink).T).T
    # What is made of straight lines alone is writing: a 1, or a 7.
    return left if stroke_mask(left).sum() > 0.1 * stroke_mask(ink).sum() else ink


def _without_level_rules(ink: np.ndarray) -> np.ndarray:
    """Finds near-level lines across the picture (Duda and Hart 1972, doi:10.1145/361237.361242)."""
    if min(ink.shape) < 60:
        return ink
    factor = min(1, 400 / max(ink.shape))
    small = cv2.resize(ink, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    noticeable = small[small > 0.03]
    if not len(noticeable):
        return ink
    mask = (small > 0.4 * threshold(noticeable)).astype(np.uint8)
    found = cv2.HoughLines(mask, 1, np.pi / 720, int(0.5 * mask.shape[1]), min_theta=np.pi * 0.4, max_theta=np.pi * 0.6)
    columns = np.arange(mask.shape[1])
    taken: list[np.ndarray] = []
    for rho, theta in found[:100, 0] if found is not None else ():
        heights = (rho - columns * np.cos(theta)) / np.sin(theta)
        if any(np.abs(heights - other).min() < 4 for other in taken):
            continue
        thickness = _line_thickness(mask, heights)
        if thickness is not None:
            taken.append(heights)
            ink = _without_line(ink, rho / factor, theta, thickness / factor)
    return ink


def _line_thickness(mask: np.ndarray, heights: np.ndarray) -> float | None:
    """Returns the thickness of a line in pixels, None when what lies there is not one across the picture.

    Args:
        mask: uint8 [h, w], 1 where there is ink.
        heights: float [w], the line's row in each column.
    """
    rows = np.round(heights).astype(int)
    columns = np.flatnonzero((rows >= 2) & (rows < mask.shape[0] - 2))
    if len(columns) < 0.8 * mask.shape[1]:
        return None
    rows = rows[columns]
    hit = (mask[rows, columns] | mask[rows - 1, columns] | mask[rows + 1, columns]) > 0
    edge = len(hit) // 12  # a stroke ends before the picture does
    if not (hit[:edge].any() and hit[-edge:].any()):
        return None
    around = (rows + np.arange(-12, 13)[:, None]).clip(0, mask.shape[0] - 1)
    thickness = float(np.median(mask[around, columns].sum(axis=0)[hit])) if hit.any() else np.inf
    return thickness if hit.mean() >= 0.7 and thickness <= 6 else None


def _without_line(ink: np.ndarray, rho: float, theta: float, thickness: float) -> np.ndarray:
    """Erases a line (its normal form, pixels and radians) but for what has ink both above and below it."""
    height, width = ink.shape
    reach = int(np.ceil(thickness)) + 1
    heights = (rho - np.arange(width) * np.cos(theta)) / np.sin(theta)
    band = np.abs(np.arange(height)[:, None] - heights) <= thickness / 2 + 1
    wide = cv2.dilate(ink, np.ones((1, 2 * reach + 1), np.uint8))
    empty = np.zeros((reach, width), np.float32)
    crossing = np.minimum(np.vstack([empty, wide[:-reach]]), np.vstack([wide[reach:], empty]))
    return np.where(band, np.minimum(crossing, ink), ink)


def find_pieces(ink: np.ndarray) -> tuple[list[Piece], float]:
    """Returns the connected strokes of a picture, but for specks, and the mass of everything.

    Args:
        ink: float32 [h, w] in [0, 1].
    """
    ink = without_rules(without_margins(ink))
    mask = stroke_mask(ink)
    reach = round(stroke_width(mask) * 0.5)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    labels[~mask] = 0
    if count == 1:
        return [], 0.0
    sizes = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    order = np.argsort(sizes)[::-1]
    worth = [int(index) + 1 for index in order if sizes[index] >= max(4, 0.1 * sizes[order[0]])][:MAX_PIECES]
    pieces = [_piece(ink, labels, index, stats[index]) for index in worth]
    rest = stats[1:, cv2.CC_STAT_AREA].sum() - stats[worth, cv2.CC_STAT_AREA].sum()
    return pieces, sum(piece.mass for piece in pieces) + float(rest)


def typical_height(pieces: list[Piece]) -> float:
    """Returns the height that half of the ink is in pieces lower than."""
    order = sorted(pieces, key=lambda piece: piece.height)
    masses = np.cumsum([piece.mass for piece in order])
    return float(order[int(np.searchsorted(masses, masses[-1] / 2))].height)


def find_rows(pieces: list[Piece]) -> list[list[Piece]]:
    """Puts pieces into rows from the top, each from the left."""
    if not pieces:
        return []
    height = typical_height(pieces)
    pieces = [piece for piece in pieces if max(piece.height, piece.width) >= 0.25 * height]
    pieces = _stacked(pieces, height)
    pieces.sort(key=lambda piece: piece.x + piece.width / 2)
    row_of = list(range(len(pieces)))
    for right in range(len(pieces)):
        for left in range(right - 1, -1, -1):
            a, b = pieces[left], pieces[right]
            overlap = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            if overlap >= 0.4 * min(a.height, b.height):
                old, new = row_of[right], row_of[left]
                row_of = [new if row == old else row for row in row_of]
                break
    rows = [[piece for piece, row in zip(pieces, row_of, strict=True) if row == name] for name in dict.fromkeys(row_of)]
    return sorted(rows, key=lambda row: np.mean([piece.y + piece.height / 2 for piece in row]))


def _stacked(pieces: list[Piece], height: float) -> list[Piece]:
    """Joins pieces that stand one above the other and make a digit of the usual height together."""
    joined: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: -piece.mass):
        for index, other in enumerate(joined):
            if _stack(piece, other, height):
                joined[index] = join([other, piece])
                break
        else:
            joined.append(piece)
    return joined


def _stack(a: Piece, b: Piece, height: float) -> bool:
    overlap = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    gap = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    tall = max(a.y + a.height, b.y + b.height) - min(a.y, b.y)
    return overlap >= 0.5 * min(a.width, b.width) and gap <= 0.3 * height and tall <= 1.6 * height


def parted(piece: Piece, middles: list[float]) -> list[Piece]:
    """Cuts a piece between the middles of its digits, each time along the path from top to bottom with the least ink.

    The path is found by seam carving's dynamic programme, on the piece brought to 48 pixels of height. Where it leaves
    a digit next to nothing, the cuts beside that are straight.

    Args:
        piece: strokes of one or more digits.
        middles: columns of the picture, from the left, in pixels.

    Returns:
        A piece for each middle, in their order; of one that no ink is near the ink is 0.
    """
    if len(middles) == 1:
        return [piece]
    factor = CUT_HEIGHT / piece.height
    small = cv2.resize(piece.ink, (max(3, round(piece.width * factor)), CUT_HEIGHT), interpolation=cv2.INTER_AREA)
    rows = np.minimum(np.arange(piece.height) * CUT_HEIGHT // piece.height, CUT_HEIGHT - 1)
    part = np.zeros(piece.ink.shape, int)
    columns = np.arange(piece.width)
    ends = [0.0]
    for left, right in pairwise(np.array(middles) - piece.x):
        ends.append((left + right) / 2)
        seam = _seam(small, ends[-1] * factor, (right - left) / 2 * factor)
        part += columns >= seam[rows][:, np.newaxis] / factor
    parts = []
    for index, (start, end) in enumerate(pairwise([*ends, piece.width])):
        cut = trimmed(Piece(piece.x, piece.y, np.where(part == index, piece.ink, 0)))
        if cut.height < LEAST_CUT * piece.height:
            straight = (columns >= start) & (columns < end)
            cut = trimmed(Piece(piece.x, piece.y, np.where(straight, piece.ink, 0)))
        parts.append(cut)
    return parts


def _seam(small: np.ndarray, target: float, reach: float) -> np.ndarray:
    """Returns the path of least ink within reach of a column, int64 [h]: the column in each row.

    Args:
        small: float32 [h, w] in [0, 1].
        target: column that the path stays near.
        reach: columns that it may stray.
    """
    columns = np.unique(np.arange(round(target - reach), round(target + reach) + 1).clip(0, small.shape[1] - 1))
    astray = 0.01 * np.abs(columns - target)
    total, steps = small[0, columns] + astray, []
    for row in small[1:]:
        choices = np.stack([np.append(np.inf, total[:-1]) + STEP, total, np.append(total[1:], np.inf) + STEP])
        steps.append(choices.argmin(axis=0) - 1)
        total = choices.min(axis=0) + row[columns] + astray
    path = [int(total.argmin())]
    for step in reversed(steps):
        path.append(path[-1] + step[path[-1]])
    return columns[path[::-1]]


def _piece(ink: np.ndarray, labels: np.ndarray, index: int, stats: np.ndarray) -> Piece:
    """Cuts a component out with its soft edge, its strokes brought near 1 and the paper around it to 0."""
    x, y, width, height = (int(value) for value in stats[:4])
    margin = 2  # pixels of soft edge
    left, top = max(0, x - margin), max(0, y - margin)
    window = np.s_[top : y + height + margin, left : x + width + margin]
    own = (labels[window] == index).astype(np.uint8)
    values = ink[window]
    full = float(np.percentile(values[own > 0], 60))
    floor = 0.05 if max(width, height) <= 40 else 0.25
    around = cv2.dilate(own, np.ones((3, 3), np.uint8), iterations=2)
    soft = ((values / full - floor) / (1 - floor)).clip(0, 1) * around
    return trimmed(Piece(left, top, soft))


def trimmed(piece: Piece) -> Piece:
    """Returns a piece without the empty edges of its box."""
    rows, columns = (np.flatnonzero((piece.ink > 0.1).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return piece
    ink = piece.ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Piece(piece.x + int(columns[0]), piece.y + int(rows[0]), ink)


def join(pieces: list[Piece]) -> Piece:
    """Returns several pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    left, top = min(piece.x for piece in pieces), min(piece.y for piece in pieces)
    right = max(piece.x + piece.width for piece in pieces)
    bottom = max(piece.y + piece.height for piece in pieces)
    ink = np.zeros((bottom - top, right - left), np.float32)
    for piece in pieces:
        part = ink[piece.y - top :, piece.x - left :][: piece.height, : piece.width]
        np.maximum(part, piece.ink, out=part)
    return Piece(left, top, ink)
