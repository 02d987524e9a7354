"""The benchmark of the reader, and its pictures."""

import numpy as np
import pytest

from benchmarks import handwriting, synthetic_pictures, train_detector
from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting.reader import Digit, Reading


def test_a_run_that_held_out_training_rows_of_the_detector_is_refused():
    labels = np.repeat(np.arange(10, dtype=np.uint8), 30)
    handwriting.require_unseen(train_detector.split_rows(labels).validation, labels)
    (fold,) = make_folds(labels, folds=1, validation=0.1, seed=1)
    with pytest.raises(UserError, match=r"trained on \d+ of the 30 rows that the run held out; name a RUN= with"):
        handwriting.require_unseen(fold.validation, labels)


def measure(texts, *rows, by_line):
    """Measure pictures with these texts that are read as rows of digits, each a pair of digit and probability."""
    digits = [
        [[Digit(p * np.eye(10)[i], (), np.zeros((28, 28))) for i, p in row] for row in reading] for reading in rows
    ]
    pictures = [(np.zeros((9, 9, 3), np.uint8), text) for text in texts]
    return handwriting.measure_kind(lambda batch: [Reading(reading) for reading in digits], pictures, by_line=by_line)


def test_correct_and_refused_pictures_are_counted():
    rows = [[(7, 0.9)]], [[(1, 0.8)]], [[(2, 0.2)]], []
    scores, probabilities = measure(["7", "2", "2", ""], *rows, by_line=False)
    assert scores == {"correct": 0.5, "refused": 0.5}
    assert probabilities == [0.9, 0.8, 0.2, 0.0]


def test_lines_are_correct_although_others_are_missing():
    rows = [[(1, 0.9), (2, 0.9)], [(5, 0.9)], [(6, 0.9)]]
    assert measure(["12\n34\n5\n7"], rows, by_line=True)[0] == {"correct": 0.5, "refused": 0.0}


@pytest.mark.parametrize("part", synthetic_pictures.KINDS)
def test_every_kind_of_picture_is_made(part):
    random, images = np.random.default_rng(0), np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 8:20] = 255
    for kind in synthetic_pictures.KINDS[part]:
        ((picture, text),) = synthetic_pictures.make_pictures(part, kind, images, np.array([1, 8]), 1, random)
        assert (picture.dtype, picture.shape[2:]) == (np.uint8, (3,))
        assert np.ptp(picture) > 5
        assert {"digits": len(text) == 1, "others": text == "", "lines": len(text) >= 2}[part]
        if kind == synthetic_pictures.LARGE:
            assert (picture.shape[:2], len(text)) == ((3000, 4000), 5)
