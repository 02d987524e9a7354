"""Digits of a picture, read by a network that is asked for whole strokes, for strokes together and for their parts."""

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from digit_recognizer.handwriting import Piece, cut, find_pieces, find_rows, join, typical_height
from digit_recognizer.ink import gray_plane, ink, looks
from digit_recognizer.mnist import make_image, stroke_width

SURE = 0.9  # probability from which a piece is not cut, and quality from which no other look is tried
THRESHOLD = 0.6  # a digit of less probability is none
BLOT = 0.34  # stroke width as a share of the longer side from which a piece is a blot and no digit

Classify = Callable[[np.ndarray], np.ndarray]  # uint8 [n, 28, 28] -> probabilities, float [n, 10]


class Digit(NamedTuple):
    """A digit that was read."""

    probabilities: np.ndarray  # float [10]
    box: tuple[int, int, int, int]  # x, y, width, height in pixels
    image: np.ndarray  # uint8 [28, 28], what the network saw
    mass: float = 0  # ink in pixels
    blot: float = 0  # stroke width as a share of the longer side

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
    quality: float  # share of the ink that the digits explain, each as far as it is probable

    @property
    def text(self) -> str:
        """The digits, a line a row."""
        return "\n".join("".join(str(digit.digit) for digit in row) for row in self.rows)


class Span(NamedTuple):
    """Neighbouring pieces of a row, taken for one digit."""

    first: int
    last: int  # not included
    piece: Piece  # the pieces as one
    image: np.ndarray  # uint8 [28, 28]
    cost: float  # against its logarithmic probability


# Gives the images to be classified, a list of uint8 [28, 28], and is sent their probabilities, float [n, 10].
Questions = Generator[list[np.ndarray], np.ndarray, Reading]
Answered = list[tuple[Span, np.ndarray]]


def read_pictures(pictures: Sequence[np.ndarray], classify: Classify) -> list[Reading]:
    """Reads pictures together, so that the network is asked for many images at once.

    Args:
        pictures: uint8 [h, w, 3] each, RGB.
        classify: the network.
    """
    readings: dict[int, Reading] = {}
    running = dict(enumerate(map(_read_picture, pictures)))
    asked: dict[int, list[np.ndarray]] = {}

    def advance(index: int, answers: np.ndarray | None) -> None:
        try:
            asked[index] = running[index].send(answers)
        except StopIteration as end:
            readings[index] = end.value

    for index in running:
        advance(index, None)
    while asked:
        questions, asked = asked, {}
        answers = classify(np.stack([image for images in questions.values() for image in images]))
        ends = np.cumsum([len(images) for images in questions.values()])
        for index, part in zip(questions, np.split(answers, ends[:-1]), strict=True):
            advance(index, part)
    return [readings[index] for index in range(len(pictures))]


def _read_picture(picture: np.ndarray) -> Questions:
    """Reads a picture in the likeliest way to look at it, and in others while that explains little of the ink."""
    gray = gray_plane(picture)
    best = Reading([], -1.0)
    for look in looks(gray):
        reading = yield from _read_ink(ink(gray, look))
        if reading.quality * look.prior > best.quality:
            best = reading._replace(quality=reading.quality * look.prior)
        if best.quality > SURE:
            break
    return best


def _read_ink(values: np.ndarray) -> Questions:
    """Reads float32 [h, w] in [0, 1], 0 on paper."""
    pieces, total = find_pieces(values)
    rows = find_rows(pieces)
    if not rows:
        return Reading([], 0.0)
    usual = typical_height([piece for row in rows for piece in row])
    found = []
    for row in rows:
        spans = _spans(row, typical_height(row), np.zeros(len(row) + 1))
        answers = yield [span.image for span in spans]
        answered: Answered = []
        for span, answer in _best_path(len(row), spans, answers):
            answered += yield from _read_parts(span, answer, typical_height(row))
        digits = [_digit(span.piece, span.image, answer) for span, answer in answered]
        found.append([digit for digit in digits if _is_digit(digit, usual)])
    explained = sum(digit.mass * digit.probability for row in found for digit in row)
    return Reading([row for row in found if row], explained / (total + 1e-9))


def _read_parts(span: Span, answer: np.ndarray, height: float) -> Generator[list[np.ndarray], np.ndarray, Answered]:
    """Takes a span apart where the network is surer of the parts than of the whole."""
    piece = span.piece
    doubtful = answer.max() < SURE or piece.width > 1.15 * max(piece.height, 0.8 * height)
    if not (doubtful and piece.width > 0.5 * piece.height and piece.height > 12):
        return [(span, answer)]
    parts, crossed = cut(piece)
    if len(parts) == 1:
        return [(span, answer)]
    spans = _spans(parts, piece.height, np.array([0, *crossed, 0]), most=len(parts))
    answers = yield [part.image for part in spans]
    return _best_path(len(parts), spans, answers, [part.width < 0.45 * piece.height for part in parts])


def _digit(piece: Piece, image: np.ndarray, answer: np.ndarray) -> Digit:
    width = stroke_width(piece.ink / piece.ink.max()) / max(piece.ink.shape)
    return Digit(answer, (piece.x, piece.y, piece.width, piece.height), image, piece.mass, width)


def _is_digit(digit: Digit, usual: float) -> bool:
    return digit.probability >= THRESHOLD and digit.box[3] > 0.4 * usual and digit.blot < BLOT


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
            spans.append(Span(first, last, joined, make_image(joined.ink), cost))
    return spans


def _best_path(count: int, spans: list[Span], answers: np.ndarray, shared: Sequence[bool] = ()) -> Answered:
    """Returns the spans that cover a row from the left to the right with the highest probability.

    Args:
        count: pieces of the row.
        spans: that may be digits.
        answers: float [len(spans), 10].
        shared: whether a piece may belong to the digits on both of its sides, as the stroke of two that touch; none may
            unless given.
    """
    best: list[tuple[float, tuple[Span, np.ndarray] | None, int]] = [(0.0, None, 0)]
    best += [(-np.inf, None, 0)] * count
    for span, answer in sorted(zip(spans, answers, strict=True), key=lambda pair: (pair[0].last, pair[0].first)):
        starts = [(span.first, 0.0)]
        if span.first > 0 and span.last > span.first + 1 and shared and shared[span.first]:
            starts.append((span.first + 1, 0.1))
        for start, cost in starts:
            score = best[start][0] + float(np.log(max(answer.max(), 1e-6))) - span.cost - cost
            if score > best[span.last][0]:
                best[span.last] = (score, (span, answer), start)
    path: Answered = []
    at = count
    while at:
        _, item, at = best[at]
        path.append(item)
    return path[::-1]
