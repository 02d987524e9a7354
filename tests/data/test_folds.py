"""Cross-validation splits."""

import numpy as np
import pytest

from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 40)[np.random.default_rng(0).permutation(400)]


@pytest.mark.parametrize(("folds", "size"), [(1, 4), (2, 20), (5, 8)])
def test_folds_and_a_hold_out_partition_the_rows_and_are_stratified(folds, size):
    parts = make_folds(LABELS, folds=folds, validation=0.1, seed=0)
    held_out = np.sort(np.concatenate([part.validation for part in parts])).tolist()
    assert (len(parts), held_out == list(range(400))) == (folds, folds > 1)
    for part in parts:
        assert np.sort(np.concatenate(part)).tolist() == list(range(400))
        assert np.bincount(LABELS[part.validation]).tolist() == [size] * 10


def test_splits_depend_on_the_seed_only():
    first, again, other = (make_folds(LABELS, folds=1, validation=0.1, seed=seed)[0] for seed in (1, 1, 2))
    assert first.validation.tolist() == again.validation.tolist()
    assert first.validation.tolist() != other.validation.tolist()


def test_too_few_rows_of_a_class_are_reported():
    with pytest.raises(UserError, match="expected 5 rows of each class to split them, found 4 of the digit 1"):
        make_folds(np.array([0] * 9 + [1] * 4), folds=5, validation=0.1, seed=0)


def test_a_hold_out_without_a_row_of_each_class_is_an_error():
    with pytest.raises(UserError, match="of each of 10 digits, found 6 validation rows of 60; change VALIDATION="):
        make_folds(np.resize(LABELS, 60), folds=1, validation=0.1, seed=0)
    labels = np.resize(np.arange(8, dtype=np.uint8), 16)
    assert np.unique(labels[make_folds(labels, folds=1, validation=0.5, seed=0)[0].validation]).size == 8
