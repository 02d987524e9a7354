"""Split the training rows for validation, and combine predictions for validation rows."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.errors import UserError


class Fold(NamedTuple):
    """The rows of a member: two disjoint, sorted index arrays that together cover all rows."""

    train: np.ndarray  # int64 [m]
    validation: np.ndarray  # int64 [n - m]


class Predictions(NamedTuple):
    """Predictions for rows of train.csv by networks that were not trained on them."""

    rows: np.ndarray  # int64 [n], sorted
    labels: np.ndarray  # uint8 [n]
    probabilities: np.ndarray  # float32 [n, 10]


def make_folds(labels: np.ndarray, *, folds: int, validation: float, seed: int) -> list[Fold]:
    """Split the rows into stratified training and validation sets.

    Args:
        labels: uint8 [n] in 0..9.
        folds: 0: no validation rows; 1: a single hold-out; k >= 2: k-fold, whose validation sets partition all rows.
        validation: Fraction of the rows held out when `folds` is 1.
        seed: The same seed gives the same split.

    Raises:
        UserError: A class has fewer rows than there are folds, or the held-out rows are fewer than the classes.
    """
    from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

    if folds == 0:
        return [Fold(np.arange(len(labels)), np.arange(0))]
    digits, counts = np.unique(labels, return_counts=True)
    needed = max(2, folds)
    if counts.min() < needed:
        fault = f"found {counts.min()} of the digit {digits[counts.argmin()]}; use fewer folds or more rows"
        raise UserError(f"expected {needed} rows of each class to split them, {fault}")
    held_out_rows = math.ceil(validation * len(labels))
    if folds == 1 and not len(digits) <= held_out_rows <= len(labels) - len(digits):
        fault = f"found {held_out_rows} validation rows of {len(labels)}; change VALIDATION=, or use more rows"
        raise UserError(f"expected validation and training rows of each of {len(digits)} digits, {fault}")
    if folds == 1:
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=validation, random_state=seed)
    else:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return [Fold(np.sort(train), np.sort(held_out)) for train, held_out in splitter.split(labels, labels)]


def average_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Combine the predictions of members, sorted by row; several for the same row are averaged."""
    rows, first, position, counts = np.unique(
        np.concatenate([part.rows for part in parts]), return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(rows), CLASSES))
    np.add.at(total, position, np.concatenate([part.probabilities for part in parts]))
    labels = np.concatenate([part.labels for part in parts])[first]
    return Predictions(rows, labels, (total / counts[:, np.newaxis]).astype(np.float32))
