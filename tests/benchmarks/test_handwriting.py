"""The benchmark of the reader."""

import numpy as np
import pytest

from benchmarks import handwriting, train_detector
from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 30)


def test_a_run_with_the_detectors_hold_out_is_accepted():
    handwriting.require_unseen(train_detector.split_rows(LABELS).validation, LABELS)


@pytest.mark.parametrize("split", [{"folds": 5, "seed": 0}, {"folds": 1, "seed": 1}])
def test_a_run_that_held_out_training_rows_of_the_detector_is_refused(split):
    rows = np.concatenate([fold.validation for fold in make_folds(LABELS, validation=0.1, **split)])
    with pytest.raises(UserError, match=r"found \d+ of (300|30) among its training rows; name a RUN= with FOLDS=1"):
        handwriting.require_unseen(rows, LABELS)


def test_every_kind_of_picture_is_made():
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    random = np.random.default_rng(0)
    pictures = [handwriting.make_single(image, kind, random) for kind in handwriting.KINDS]
    pictures += [handwriting.make_other(kind, random) for kind in handwriting.OTHERS]
    page, text = handwriting.make_page(image[np.newaxis], np.array([1]), 0.5, random)
    assert set(text) == {"1", "\n"}
    for picture in [*pictures, page]:
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)
