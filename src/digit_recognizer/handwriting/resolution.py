"""Bring a picture to a size that can be read: scale large ones down, tiny ones up, undo nearest neighbour."""

from typing import NamedTuple

import cv2
import numpy as np

from digit_recognizer.handwriting.normalisation import rescale

MAX_SIDE = 1600  # pixels; larger pictures are scaled down
MIN_SIDE, MAX_LINE = 28, 280  # pixels; pictures that are lower, and not longer than a line of tiny digits, are enlarged
ENLARGEMENT, MARGIN = 4, 2  # factor, and pixels of paper that are added on each side before
MIN_GAPS = 6  # between rows or columns that change; straight strokes have fewer


class Scaled(NamedTuple):
    """A picture at the size at which it is read, and its place in the original."""

    picture: np.ndarray  # uint8 [h, w, 3] RGB or [h, w] gray
    corner: np.ndarray  # float [2]: x and y of its upper left corner, in pixels of the original
    scale: float  # pixels of the original per pixel
    is_enlarged: bool = False


def adapt_resolution(picture: np.ndarray) -> Scaled:
    """Return a picture, uint8 [h, w, 3] RGB or [h, w] gray, at a size that can be read."""
    longest = max(picture.shape[:2])
    if longest > MAX_SIDE:
        return Scaled(rescale(picture, MAX_SIDE / longest), np.zeros(2), longest / MAX_SIDE)
    corner, side = find_blocks(picture)
    if side > 1:  # the middle of each block
        x, y = (np.arange(corner[i] + side / 2, picture.shape[1 - i], side).astype(int) for i in (0, 1))
        picture = picture[np.ix_(y, x)]
    if min(picture.shape[:2]) >= MIN_SIDE or max(picture.shape[:2]) > MAX_LINE:
        return Scaled(picture, corner, side)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    paper = np.atleast_1d(np.median(border, axis=0)).tolist()
    wider = cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_CONSTANT, value=paper)
    large = rescale(wider, ENLARGEMENT, cv2.INTER_LANCZOS4)
    return Scaled(large, corner - MARGIN * side, side / ENLARGEMENT, is_enlarged=True)


def find_blocks(picture: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the blocks of a picture that was enlarged by nearest neighbour; a plain margin may surround them.

    Returns:
        x and y of the upper left corner of the first block, and the side of all, in pixels; without blocks, 0, 0 and 1.
    """
    axes = tuple(range(1, picture.ndim))
    edges = [1 + np.flatnonzero(np.diff(lines, axis=0).any(axis=axes)) for lines in (picture.swapaxes(0, 1), picture)]
    gaps = np.concatenate([np.diff(places) for places in edges])
    if len(gaps) >= MIN_GAPS and gaps.min() > 1 and all(map(len, edges)):
        blocks = np.round(gaps / gaps[gaps <= gaps.min() + 1].mean())  # edges of blocks of 12.5 pixels are rounded
        side = gaps.sum() / blocks.sum()
        errors = np.concatenate([(places - places[0]) / side for places in edges])
        if np.abs(errors - errors.round()).max() <= min(1.5 / side, 0.25):
            return np.array([places[0] for places in edges]) % side, float(side)
    return np.zeros(2), 1.0
