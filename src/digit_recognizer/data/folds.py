"""Cross-validation splits of the training rows."""

from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES
from digit_recognizer.errors import UserError


class Fold(NamedTuple):
    """The rows of one member: two disjoint, sorted sets of indices that together are all rows."""

    train: np.ndarray  # int64 [m]
    validation: np.ndarray  # int64 [n - m]


def make_folds(labels: np.ndarray, *, folds: int, validation: float, seed: int) -> list[Fold]:
    """Splits the rows, each class in the same proportion on both sides.

    Args:
        labels: uint8 [n] in 0..9.
        folds: 0 to hold out no row; 1 for a single hold-out of `validation` of the rows; k >= 2 for k folds whose
            validation rows partition all rows.
        validation: share of the rows held out when `folds` is 1.
        seed: the same seed gives the same rows.

    Raises:
        UserError: a class has fewer rows than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

    if folds == 0:
        return [Fold(np.arange(len(labels)), np.arange(0))]
    splitter = (
        StratifiedShuffleSplit(n_splits=1, test_size=validation, random_state=seed)
        if folds == 1
        else StratifiedKFold(folds, shuffle=True, random_state=seed)
    )
    counts = np.bincount(labels, minlength=CLASSES)
    if counts[counts > 0].min() < max(2, folds):
        raise UserError(
            f"expected {max(2, folds)} rows of each class to split them, found {counts[counts > 0].min()} of the digit "
            f"{np.flatnonzero(counts == counts[counts > 0].min())[0]}; use fewer folds or more rows"
        )
    rows = np.zeros(len(labels))
    return [Fold(np.sort(train), np.sort(held_out)) for train, held_out in splitter.split(rows, labels)]
