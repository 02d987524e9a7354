"""Strokes made into what MNIST's makers made."""

import numpy as np
import pytest

from digit_recognizer.data import csv_files
from digit_recognizer.handwriting import normalisation


def bar(height, width, thickness):
    """A vertical stroke in the middle of an empty picture."""
    ink = np.zeros((height, width), np.float32)
    left = (width - thickness) // 2
    ink[height // 10 : -height // 10, left : left + thickness] = 1
    return ink


def test_crop_keeps_the_box_of_what_is_above_a_tenth():
    ink = np.zeros((6, 7), np.float32)
    ink[2, 3], ink[4, 4], ink[0, 0] = 1, 0.2, 0.05
    assert normalisation.crop(ink).shape == (3, 2)
    assert normalisation.crop(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize(("shape", "expected"), [((40, 20), (20, 10)), ((5, 10), (10, 20)), ((100, 1), (20, 1))])
def test_scaling_keeps_the_aspect(shape, expected):
    assert normalisation.scale_to(np.ones(shape, np.float32), 20).shape == expected


@pytest.mark.parametrize("thickness", [4, 10, 20])
def test_the_width_of_a_straight_stroke_is_measured(thickness):
    assert normalisation.stroke_width(bar(200, 60, thickness)) == pytest.approx(thickness, rel=0.12)


def test_a_digit_is_centred_by_its_mass():
    image = normalisation.centre(np.pad(np.full((4, 4), 255, np.uint8), ((0, 6), (0, 2))))
    rows, columns = np.nonzero(image)
    assert image.shape == (28, 28)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 15, 12, 15)


@pytest.mark.parametrize(("thickness", "expected"), [(3, normalisation.LIGHT), (60, normalisation.HEAVY)])
def test_thin_strokes_are_thickened_and_fat_ones_thinned(thickness, expected):
    image = normalisation.make_image(bar(300, 200, thickness))
    width = image.max(axis=0).astype(float).sum() / 255
    assert width == pytest.approx(expected, abs=0.7)
    rows = np.flatnonzero(image.any(axis=1))
    assert 19 <= rows[-1] - rows[0] + 1 <= 21


def test_the_training_datas_own_images_stay_nearly_as_they_are(competition_dir):
    images = csv_files.load_train(competition_dir).images[:300]
    made = np.stack([normalisation.make_image(image / np.float32(255)) for image in images])
    differences = np.abs(made.astype(int) - images).mean(axis=(1, 2))
    assert np.median(differences) < 1
    assert np.quantile(differences, 0.95) < 20


def test_variants_are_narrower_and_smaller_around_the_same_middle():
    image = normalisation.make_image(np.ones((40, 40), np.float32))
    made = normalisation.variants(image)
    sizes = [tuple(int((one.max(axis=axis) > 127).sum()) for axis in (0, 1)) for one in made]  # width, height
    assert sizes == [pytest.approx((20 * x, 20 * y), abs=1) for x, y in normalisation.SHAPES]
    for one in made:
        middle = [(np.indices(one.shape)[axis] * one.astype(float)).sum() / one.sum() for axis in (0, 1)]
        assert middle == pytest.approx([14, 14], abs=0.7)


def test_a_hair_across_a_large_picture_is_still_seen():
    ink = np.zeros((1500, 1500), np.float32)
    ink[np.arange(1500), np.arange(1500)] = 1
    assert normalisation.make_image(ink).max() == 255
