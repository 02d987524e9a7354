"""Digits of a picture: a spotter says where in a line they stand, a classifier which they are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.handwriting.binarisation import Look, gray_plane, ink, looks
from digit_recognizer.handwriting.detector import Middle, Spot, find_middles, make_strip
from digit_recognizer.handwriting.normalisation import SHAPES, make_image, stroke_width, variants
from digit_recognizer.handwriting.segmentation import Piece, find_pieces, find_rows, join, parted, typical_height

LARGEST = 1600  # pixels of the longer side; larger pictures are reduced to that
SURE = 0.9  # share of the ink that digits explain from which no other look is tried
THRESHOLD = 0.3  # a digit of less probability is none
FAINT = (
    0.1  # difference to the paper, as a share of its brightness, that no stroke stays below, but a paper's grain does
)
SOLID = 0.95  # share of a side of the picture that a shadow along it fills at least
BLOT = 0.34  # stroke width as a share of the longer side from which a piece is a blot and no digit

Classify = Callable[[np.ndarray], np.ndarray]  # uint8 [n, 28, 28] -> probabilities, float [n, 10]


class Digit(NamedTuple):
    """A digit that was read."""

    probabilities: np.ndarray  # float [10]; what they lack of 1 is the probability that it is none
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    image: np.ndarray  # uint8 [28, 28], what the network saw

    @property
    def digit(self) -> int:
        """The likeliest one."""
        return int(self.probabilities.argmax())

    @property
    def probability(self) -> float:
        """Of the likeliest one."""
        return float(self.probabilities.max())


class Reading(NamedTuple):
    """What a picture says."""

    rows: list[list[Digit]]

    @property
    def text(self) -> str:
        """The digits, a line a row."""
        return "\n".join("".join(str(digit.digit) for digit in row) for row in self.rows)


class Found(NamedTuple):
    """Strokes that the spotter takes for one digit."""

    piece: Piece
    middle: Middle
    alone: bool  # whether no stroke was cut to part it from its neighbours


def read_pictures(pictures: Sequence[np.ndarray], classify: Classify, spot: Spot) -> list[Reading]:
    """Reads pictures together, so that the networks are asked for many images at once.

    Args:
        pictures: uint8 [h, w, 3] each, RGB.
        classify: says which digit it is.
        spot: says where in a line there is one.
    """
    small, scales = zip(*map(_reduced, pictures), strict=True) if pictures else ((), ())
    found = _find_digits(small, spot)
    images = [make_image(one.piece.ink) for rows in found for row in rows for one in row]
    asked = [variants(image) for image in images]
    answers = classify(np.concatenate(asked)).reshape(-1, len(SHAPES), CLASSES).mean(axis=1) if asked else ()
    read = zip(images, answers, strict=True)
    readings = []
    for rows, scale in zip(found, scales, strict=True):
        digits = [[_digit(one, *next(read), scale) for one in row] for row in rows]
        kept = [[digit for digit in row if digit.probability >= THRESHOLD] for row in digits]
        readings.append(Reading([row for row in kept if row]))
    return readings


def _reduced(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns a picture of at most the largest size, and how many times smaller it became."""
    scale = max(1.0, max(picture.shape[:2]) / LARGEST)
    if scale == 1:
        return picture, scale
    size = tuple(max(1, round(length / scale)) for length in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), scale


def _digit(found: Found, image: np.ndarray, answer: np.ndarray, scale: float) -> Digit:
    """Puts together what both networks say, each of which has seen other handwriting in its training.

    Of a digit that was cut out the classifier sees what a cut has left; the spotter alone sees all of it.
    """
    piece = found.piece
    box = tuple(round(value * scale) for value in (piece.x, piece.y, piece.width, piece.height))
    spotted = found.middle.probabilities[:CLASSES]
    return Digit((answer * spotted.sum() + spotted) / 2 if found.alone else spotted, box, image)


def _find_digits(pictures: Sequence[np.ndarray], spot: Spot) -> list[list[list[Found]]]:
    """Looks at each picture in the likeliest way, and in others while the digits explain little of the ink."""
    grays = [gray_plane(picture) for picture in pictures]
    ways = [looks(gray) for gray in grays]
    best: list[tuple[float, list[list[Found]]]] = [(0.0, [])] * len(pictures)
    for attempt in range(max(map(len, ways), default=0)):
        open_ = [i for i, tried in enumerate(ways) if attempt < len(tried) and best[i][0] <= SURE]
        seen = [_rows(grays[i], ways[i][attempt]) for i in open_]
        strips = [make_strip(row) for rows, _ in seen for row in rows]
        spotted = iter(find_middles(strips, spot))
        for i, (rows, total) in zip(open_, seen, strict=True):
            usual = typical_height([piece for row in rows for piece in row]) if rows else 0.0
            found = [_found_in_row(row, next(spotted), usual) for row in rows]
            explained = sum(one.piece.mass * one.middle.probabilities[:CLASSES].max() for row in found for one in row)
            quality = explained / max(total, 1e-9) * ways[i][attempt].prior
            if quality > best[i][0]:
                best[i] = quality, [row for row in found if row]
    return [rows for _, rows in best]


def _rows(gray: np.ndarray, look: Look) -> tuple[list[list[Piece]], float]:
    values = ink(gray, look)
    if values.max() < FAINT:
        return [], 0.0
    pieces, total = find_pieces(values)
    return find_rows([piece for piece in pieces if not _is_shadow(piece, values.shape)]), total


def _found_in_row(row: list[Piece], middles: list[Middle], usual: float) -> list[Found]:
    """Gives every stroke to the digit whose middle is in it, or to the nearest one; parts what has several in it."""
    height = typical_height(row)
    own: dict[int, list[Middle]] = {}
    for middle in middles:
        nearest = min(range(len(row)), key=lambda index: _away(row[index], middle.x, height))
        own.setdefault(nearest, []).append(middle)
    found: list[Found] = []
    for index, inside in own.items():
        parts = parted(row[index], [middle.x for middle in inside])
        alone = len(inside) == 1
        found += [Found(part, middle, alone) for part, middle in zip(parts, inside, strict=True)]
    for index, piece in enumerate(row):
        if index in own or not found:
            continue
        gaps = [_gap(one.piece, piece) for one in found]
        near = int(np.argmin(gaps))
        together = join([found[near].piece, piece])
        if gaps[near] < 0.25 * height and together.width < 1.3 * height:
            found[near] = found[near]._replace(piece=together)
    return [
        one
        for one in sorted(found, key=lambda one: one.middle.x)
        if one.piece.ink.max() > 0 and (not one.alone or (one.piece.height > 0.4 * usual and not _is_blot(one.piece)))
    ]


def _away(piece: Piece, x: float, height: float) -> float:
    """Returns how far a column is from where digits' middles can be in a piece; it may hold several."""
    return max(0.0, abs(x - piece.x - piece.width / 2) - max(0.0, piece.width - 0.8 * height) / 2)


def _gap(a: Piece, b: Piece) -> int:
    return max(a.x, b.x) - min(a.x + a.width, b.x + b.width)


def _is_shadow(piece: Piece, shape: tuple[int, int]) -> bool:
    """Whether a piece lies along a side of the picture from corner to corner, or along two, as uneven light does."""
    height, width = shape
    filled = piece.ink > 0
    sides = (
        (piece.y == 0, filled[0], width),
        (piece.y + piece.height == height, filled[-1], width),
        (piece.x == 0, filled[:, 0], height),
        (piece.x + piece.width == width, filled[:, -1], height),
    )
    shares = [float(edge.sum() / length) for met, edge, length in sides if met and edge.any()]
    whole = sum(share > SOLID for share in shares)
    return whole > 1 or (whole == 1 and len(shares) == 3)


def _is_blot(piece: Piece) -> bool:
    return stroke_width(piece.ink / piece.ink.max()) > BLOT * max(piece.ink.shape)
