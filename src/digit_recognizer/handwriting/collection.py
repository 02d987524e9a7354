"""Training images made of labelled drawings, such as those that the page saves."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import detector
from digit_recognizer.handwriting.image_files import LABELS, read_picture, read_table
from digit_recognizer.handwriting.reader import read_pictures


class Collection(NamedTuple):
    """The digits of the labelled pictures in a folder."""

    images: np.ndarray  # uint8 [n, 28, 28], normalised as for reading
    labels: np.ndarray  # uint8 [n] in 0..9
    left_out: list[str]  # a line for each picture that cannot be used
    sha256: str  # of images and labels


def collect_digits(folder: Path) -> Collection:
    """Find the digits in the pictures that a folder's labels.csv lists; no classifier has a say in it.

    Raises:
        UserError: There is no table, or no picture with as many digits as its label.
    """
    images, labels, left_out, detect = list[np.ndarray](), list[int](), list[str](), detector.load_detector()
    for path, label, _ in read_table(folder / LABELS):
        expected = "".join((label or "").split())
        try:
            if not (expected.isascii() and expected.isdigit()):
                raise UserError(f"{path}: expected digits as its label, found {label!r}")
            # Probabilities of 1: a digit that the detector has found is never refused.
            (reading,) = read_pictures([read_picture(path)], lambda one: np.ones((len(one), CLASSES)), detect)
            if len(reading.digits) != len(expected):
                raise UserError(f"{path}: expected {len(expected)} digits as its label, found {len(reading.digits)}")
        except UserError as error:
            left_out.append(str(error))
            continue
        images += [digit.image for digit in reading.digits]
        labels += map(int, expected)
    if not images:
        raise UserError(
            f"expected labelled drawings in {folder}, found none that can be used; save some with `make draw`, or drop "
            "EXTRA="
        )
    stacked, targets = np.stack(images), np.array(labels, np.uint8)
    digest = hashlib.sha256(stacked.tobytes() + targets.tobytes()).hexdigest()
    return Collection(stacked, targets, left_out, digest)
