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


@pytest.fixture
def images():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 8:20] = 255
    return images


def test_every_kind_of_picture_is_made(images):
    labels, random = np.array([1, 8]), np.random.default_rng(0)
    pictures = [handwriting.make_other(images, kind, random) for kind in handwriting.OTHERS]
    for kind in handwriting.KINDS:
        ((digit, label),) = handwriting.choose_digits(kind, images, labels, 1, random)
        assert label in ("014578" if kind in handwriting.DRAWN else "18")
        pictures.append(handwriting.make_single(digit, kind, random))
    pages = [handwriting.make_page(images, labels, kind, random) for kind in handwriting.LINES]
    pages += [handwriting.make_small_drawing(images, labels, random)]
    for picture, text in pages:
        assert set(text) <= set("0123456789\n")
        pictures.append(picture)
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.shape[2:] == (3,)


def test_a_large_photo_has_12_megapixels_and_five_small_digits(images):
    picture, text = handwriting.make_large_photo(images, np.array([1, 8]), np.random.default_rng(0))
    assert (picture.shape, len(text)) == ((3000, 4000, 3), 5)


@pytest.mark.parametrize("width", [0.05, 0.1])
def test_gaps_are_as_wide_as_asked(width):
    random = np.random.default_rng(0)
    square = np.ones((200, 200), np.float32)  # a gap crosses it in one place, at an angle
    erased = [200**2 - float(handwriting.break_strokes(square, random, width).sum()) for _ in range(50)]
    assert np.median(erased) == pytest.approx(width * 200 * 200, rel=0.3)


def test_refusals_are_drawn_by_limit(tmp_path):
    handwriting.draw_refusals({"0.0": [0.0, 0.4], "0.5": [0.1, 0.9]}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
