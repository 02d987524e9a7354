"""Synthetic lines to train the detector on."""

import numpy as np
import pytest

from benchmarks import synthetic_lines
from digit_recognizer.handwriting import detector


@pytest.fixture(scope="module")
def pool():
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 8:20] = 255
    return synthetic_lines.make_pool(images, np.array([1, 8], np.uint8), 300, np.random.default_rng(0))


def test_a_pool_has_every_class_sorted_by_stroke_width(pool):
    assert {shape.label for shape in pool} == set(range(11))
    widths = [synthetic_lines.measure_stroke_width(shape.strokes) for shape in pool]
    assert widths == sorted(widths)
    assert all(shape.strokes.shape[0] <= detector.HEIGHT * synthetic_lines.OVERSAMPLING for shape in pool)


def test_the_positions_at_the_centres_of_digits_have_their_class(pool):
    random = np.random.default_rng(1)
    ones = [shape for shape in pool if shape.label == 1]
    for _ in range(20):
        line, probabilities = synthetic_lines.make_line(ones, random)
        assert (line.shape, line.dtype) == ((32, 128), np.uint8)
        assert (probabilities.shape, probabilities.dtype) == ((64, 11), np.float32)
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(64))
        assert probabilities[:, [1, detector.NONE]].sum() == pytest.approx(64)
        centres = np.flatnonzero(probabilities[:, 1] > 0.7)
        assert len(centres)
        for position in centres:
            assert line[:, max(0, 2 * position - 4) : 2 * position + 6].max() > 100


def test_shapes_other_than_digits_have_no_class(pool):
    others = [shape for shape in pool if shape.label == detector.NONE]
    random = np.random.default_rng(2)
    assert all((synthetic_lines.make_line(others, random)[1][:, detector.NONE] == 1).all() for _ in range(10))
