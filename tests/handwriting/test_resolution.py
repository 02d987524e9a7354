"""Pictures of few pixels, enlarged ones and large ones, at the size at which they are read."""

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits

from digit_recognizer.handwriting import reader
from digit_recognizer.handwriting.resolution import MAX_SIDE, adapt_resolution, find_blocks
from digit_recognizer.handwriting.sample_digits import draw_digits


def enlarge(picture, side):
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize("side", [16, 80, 100, 801])
@pytest.mark.parametrize("margin", [0, 7])
def test_blocks_of_pixels_are_found_also_inside_a_margin(side, margin):
    tiny = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    picture = np.pad(enlarge(tiny, side), margin, constant_values=tiny[0, 0])
    (x, y), block = find_blocks(picture)
    assert block == pytest.approx(side / 8, rel=0.02)
    assert (margin - x) / block == pytest.approx(round((margin - x) / block), abs=0.2)
    assert x == y


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((90, 90), np.uint8),
        draw_digits()[2],
        np.pad(np.full((60, 9), 255, np.uint8), 20),  # a straight stroke has few edges
    ],
    ids=["blank", "drawing", "stroke"],
)
def test_other_pictures_have_no_blocks(picture):
    corner, block = find_blocks(picture)
    assert (corner.tolist(), block) == ([0, 0], 1)


def test_a_large_picture_is_scaled_down_and_a_usual_one_is_unchanged():
    scaled = adapt_resolution(np.zeros((800, 2 * MAX_SIDE, 3), np.uint8))
    assert (scaled.picture.shape, scaled.scale) == ((400, MAX_SIDE, 3), 2)
    usual = draw_digits()[5]
    assert (adapt_resolution(usual).picture == usual).all()


def test_a_tiny_picture_is_enlarged_with_a_margin_of_paper():
    picture = np.full((8, 8), 200, np.uint8)
    picture[2:6, 3:5] = 10
    scaled = adapt_resolution(picture)
    assert scaled.picture.shape == (48, 48)
    assert scaled.picture[0].tolist() == [200] * 48
    strokes = scaled.picture < 100
    ends = [np.flatnonzero(strokes.any(axis=axis))[[0, -1]] + (0, 1) for axis in (0, 1)]  # columns, rows
    places = np.array(ends).T * scaled.scale + scaled.corner
    assert places == pytest.approx(np.array([[3, 2], [5, 6]]), abs=0.4)


@pytest.mark.parametrize("side", [8, 80])
@pytest.mark.parametrize("inverted", [False, True])
def test_eight_by_eight_digits_are_read_also_when_enlarged_by_nearest_neighbour(detect, side, inverted):
    """The network of the package alone reads 97% of them, scaled to 20x20 and centred."""
    digits = load_digits()
    images = np.round(digits.images[:100] * 255 / 16).astype(np.uint8)
    pictures = [enlarge(255 - image if inverted else image, side) for image in images]
    readings = reader.read_pictures(pictures, reader.load_classifier(None), detect)
    assert np.mean([reading.text == str(label) for reading, label in zip(readings, digits.target, strict=False)]) > 0.93
    boxes = np.array([digit.box for reading in readings for digit in reading.digits])
    assert (boxes[:, :2] >= 0).all()
    assert ((boxes[:, :2] + boxes[:, 2:]) <= side).all()
    assert (boxes[:, 3] > 0.7 * side).mean() > 0.9  # the digits fill the height
