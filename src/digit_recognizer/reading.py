"""Digits of a picture: strokes, strokes together and their parts, whichever a network takes for digits."""

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.handwriting import Piece, cut, find_pieces, find_rows, join, typical_height
from digit_recognizer.ink import gray_plane, ink, looks
from digit_recognizer.mnist import SHAPES, make_image, stroke_width, variants

LARGEST = 1600  # pixels of the longer side; larger pictures are reduced to that
SURE = 0.9  # probability from which a piece is not cut, and quality from which no other look is tried
THRESHOLD = 0.6  # a digit of less probability is none
NARROW = 3.0  # in natural logarithms: by what parts must be surer than a whole, each of width over height that it lacks
FAINT = (
    0.1  # difference to the paper, as a share of its brightness, that no stroke stays below, but a paper's grain does
)
SOLID = 0.7  # share of its box that a shadow along a side of the picture fills at least
BLOT = 0.34  # stroke width as a share of the longer side from which a piece is a blot and no digit

Classify = Callable[[np.ndarray], np.ndarray]  # uint8 [n, 28, 28] -> probabilities, float [n, 10]


class Digit(NamedTuple):
    """A digit that was read."""

    probabilities: np.ndarray  # float [10]
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


class Span(NamedTuple):
    """Neighbouring pieces of a row, taken for one digit."""

    first: int
    last: int  # not included
    piece: Piece  # the pieces as one
    cost: float  # against its logarithmic probability


class Found(NamedTuple):
    """What is taken for one digit."""

    piece: Piece
    image: np.ndarray  # uint8 [28, 28]
    answer: np.ndarray  # float [10]


# Gives the images that a network is to answer, a list of uint8 [28, 28], and is sent float [n, 10].
Questions = Generator[list[np.ndarray], np.ndarray, list[list[Found]]]


def read_pictures(pictures: Sequence[np.ndarray], classify: Classify) -> list[Reading]:
    """Reads pictures together, so that the network is asked for many images at once.

    Args:
        pictures: uint8 [h, w, 3] each, RGB.
        classify: the network.
    """
    small, scales = zip(*map(_reduced, pictures), strict=True) if pictures else ((), ())
    found = _together([_find_digits(picture) for picture in small], classify)
    images = [variants(digit.image) for rows in found for row in rows for digit in row]
    answers = iter(classify(np.concatenate(images)).reshape(-1, len(SHAPES), CLASSES).mean(axis=1) if images else ())
    readings = []
    for rows, scale in zip(found, scales, strict=True):
        read = [[_digit(digit, next(answers), scale) for digit in row] for row in rows]
        kept = [[digit for digit in row if digit.probability >= THRESHOLD] for row in read]
        readings.append(Reading([row for row in kept if row]))
    return readings


def _reduced(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns a picture of at most the largest size, and how many times smaller it became."""
    scale = max(1.0, max(picture.shape[:2]) / LARGEST)
    if scale == 1:
        return picture, scale
    size = tuple(max(1, round(length / scale)) for length in picture.shape[1::-1])
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA), scale


def _digit(found: Found, answer: np.ndarray, scale: float) -> Digit:
    piece = found.piece
    box = tuple(round(value * scale) for value in (piece.x, piece.y, piece.width, piece.height))
    return Digit(answer, box, found.image)


def _together(running: list[Questions], classify: Classify) -> list[list[list[Found]]]:
    """Runs all to their ends, each time with one call of the network for what all ask."""
    results: list[list[list[Found]]] = [[]] * len(running)
    asked: dict[int, list[np.ndarray]] = {}

    def advance(index: int, answers: np.ndarray | None) -> None:
        try:
            asked[index] = running[index].send(answers)
        except StopIteration as end:
            results[index] = end.value

    for index in range(len(running)):
        advance(index, None)
    while asked:
        questions, asked = asked, {}
        answers = classify(np.stack([image for images in questions.values() for image in images]))
        ends = np.cumsum([len(images) for images in questions.values()])
        for index, part in zip(questions, np.split(answers, ends[:-1]), strict=True):
            advance(index, part)
    return results


def _find_digits(picture: np.ndarray) -> Questions:
    """Looks at a picture in the likeliest way, and in others while the digits explain little of the ink."""
    gray = gray_plane(picture)
    best, quality = [], 0.0
    for look in looks(gray):
        rows, explained = yield from _find_in_ink(ink(gray, look))
        if explained * look.prior > quality:
            best, quality = rows, explained * look.prior
        if quality > SURE:
            break
    return best


def _find_in_ink(values: np.ndarray) -> Generator[list[np.ndarray], np.ndarray, tuple[list[list[Found]], float]]:
    """Finds digits in float32 [h, w] in [0, 1], 0 on paper; says also which share of the ink they explain."""
    if values.max() < FAINT:
        return [], 0.0
    pieces, total = find_pieces(values)
    rows = find_rows([piece for piece in pieces if not _is_shadow(piece, values.shape)])
    if not rows:
        return [], 0.0
    usual = typical_height([piece for row in rows for piece in row])
    found = []
    for row in rows:
        height = typical_height(row)
        spans = _spans(row, height, np.zeros(len(row) + 1))
        digits: list[Found] = []
        for whole in _best_path(len(row), (yield from _ask(spans))):
            digits += yield from _parts(whole, height)
        found.append([digit for digit in digits if digit.piece.height > 0.4 * usual and not _is_blot(digit.piece)])
    explained = sum(digit.piece.mass * digit.answer.max() for row in found for digit in row)
    return [row for row in found if row], float(explained / total)


def _is_shadow(piece: Piece, shape: tuple[int, ...]) -> bool:
    """Whether a piece fills a side of the picture from corner to corner, as uneven light does."""
    ends = piece.x + piece.width == shape[1], piece.y + piece.height == shape[0]
    return (piece.x == 0) + (piece.y == 0) + sum(ends) == 3 and (piece.ink > 0).mean() > SOLID


def _is_blot(piece: Piece) -> bool:
    return stroke_width(piece.ink / piece.ink.max()) > BLOT * max(piece.ink.shape)


def _ask(spans: list[Span]) -> Generator[list[np.ndarray], np.ndarray, list[tuple[Span, Found]]]:
    images = [make_image(span.piece.ink) for span in spans]
    answers = yield images
    return [
        (span, Found(span.piece, image, answer)) for span, image, answer in zip(spans, images, answers, strict=True)
    ]


def _parts(whole: Found, height: float) -> Generator[list[np.ndarray], np.ndarray, list[Found]]:
    """Takes a piece apart where the network is surer of the parts than of the whole."""
    piece = whole.piece
    doubtful = whole.answer.max() < SURE or piece.width > 1.15 * max(piece.height, 0.8 * height)
    if not (doubtful and piece.width > 0.5 * piece.height and piece.height > 12):
        return [whole]
    parts, crossed = cut(piece)
    if len(parts) == 1:
        return [whole]
    spans = _spans(parts, piece.height, np.array([0, *crossed, 0]), most=len(parts))
    narrow = NARROW * max(0, 1.2 - piece.width / piece.height)  # rarely holds two digits
    spans = [span._replace(cost=span.cost - narrow) if span.piece.width == piece.width else span for span in spans]
    return _best_path(len(parts), (yield from _ask(spans)), [part.width < 0.45 * piece.height for part in parts])


def _spans(pieces: list[Piece], height: float, crossed: np.ndarray, most: int = 3) -> list[Span]:
    """Returns what may be one digit: up to `most` neighbours.

    Args:
        pieces: of a row, from the left.
        height: of the row's digits, in pixels.
        crossed: float [len(pieces) + 1], the ink that is cut at each side of a piece, in stroke widths.
        most: pieces of a digit.
    """
    spans = []
    for first in range(len(pieces)):
        for last in range(first + 1, min(len(pieces), first + most) + 1):
            group = pieces[first:last]
            joined = join(group)
            if len(group) > 1:
                if joined.width < 0.12 * height:
                    continue
                gap = max(right.x - (left.x + left.width) for left, right in pairwise(group))
                if gap > 0.3 * height or joined.width > 1.5 * max(height, joined.height):
                    break
            wide = max(0, joined.width / joined.height - 1.2)
            low = joined.height < 0.45 * height
            cost = 0.1 * float(crossed[first] + crossed[last]) + 3 * wide + 2 * low
            spans.append(Span(first, last, joined, cost))
    return spans


def _best_path(count: int, answered: list[tuple[Span, Found]], shared: Sequence[bool] = ()) -> list[Found]:
    """Returns the digits that cover a row from the left to the right with the highest probability.

    Args:
        count: pieces of the row.
        answered: spans that may be digits.
        shared: whether a piece may belong to the digits on both of its sides, as the stroke of two that touch; none may
            unless given.
    """
    best: list[tuple[float, Found | None, int]] = [(0.0, None, 0)] + [(-np.inf, None, 0)] * count
    for span, found in sorted(answered, key=lambda pair: (pair[0].last, pair[0].first)):
        starts = [(span.first, 0.0)]
        if span.first > 0 and span.last > span.first + 1 and shared and shared[span.first]:
            starts.append((span.first + 1, 0.1))
        for start, cost in starts:
            score = best[start][0] + float(np.log(max(found.answer.max(), 1e-6))) - span.cost - cost
            if score > best[span.last][0]:
                best[span.last] = (score, found, start)
    path: list[Found] = []
    at = count
    while at:
        _, found, at = best[at]
        path.append(found)
    return path[::-1]
