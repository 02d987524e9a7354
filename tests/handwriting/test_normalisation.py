"""Strokes normalised to the MNIST format."""

import numpy as np
import pytest

from digit_recognizer.data import csv_files
from digit_recognizer.handwriting import normalisation


def make_bar(height, width, thickness):
    """Return a vertical stroke in the middle of an empty map."""
    strokes = np.zeros((height, width), np.float32)
    left = (width - thickness) // 2
    strokes[height // 10 : -height // 10, left : left + thickness] = 1
    return strokes


def test_a_digit_is_centred_by_mass():
    image = normalisation.centre_by_mass(np.pad(np.full((4, 4), 255, np.uint8), ((0, 6), (0, 2))))
    rows, columns = np.nonzero(image)
    assert image.shape == (28, 28)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 15, 12, 15)


@pytest.mark.parametrize(("thickness", "expected"), [(3, 1.7), (60, 3.9)])
def test_thin_strokes_are_thickened_and_fat_ones_thinned(thickness, expected):
    image = normalisation.normalise_digit(make_bar(300, 200, thickness))
    assert image.max(axis=0).astype(float).sum() / 255 == pytest.approx(expected, abs=0.7)
    rows = np.flatnonzero(image.any(axis=1))
    assert 19 <= rows[-1] - rows[0] + 1 <= 21


def test_images_of_train_csv_stay_nearly_the_same(competition_dir):
    images = csv_files.load_train(competition_dir).images[:300]
    normalised = np.stack([normalisation.normalise_digit(image / np.float32(255)) for image in images])
    differences = np.abs(normalised.astype(int) - images).mean(axis=(1, 2))
    assert np.median(differences) < 1
    assert np.quantile(differences, 0.95) < 20


def test_variants_are_narrower_and_smaller_around_the_same_centre():
    image = normalisation.normalise_digit(np.ones((40, 40), np.float32))
    variants = normalisation.make_variants(image)
    sizes = [tuple(int((one.max(axis=axis) > 127).sum()) for axis in (0, 1)) for one in variants]  # width, height
    assert sizes == [pytest.approx((20 * x, 20 * y), abs=1) for x, y in normalisation.VARIANT_SCALES]
    for one in variants:
        centre = [(np.indices(one.shape)[axis] * one.astype(float)).sum() / one.sum() for axis in (0, 1)]
        assert centre == pytest.approx([14, 14], abs=0.7)


def test_a_hairline_across_a_large_picture_stays_visible():
    strokes = np.zeros((1500, 1500), np.float32)
    strokes[np.arange(1500), np.arange(1500)] = 1
    assert normalisation.normalise_digit(strokes).max() == 255
