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


@pytest.mark.parametrize("label", [1, detector.NONE])
def test_only_the_centres_of_digits_have_a_class(pool, label):
    random, shapes = np.random.default_rng(1), [shape for shape in pool if shape.label == label]
    for _ in range(20):
        line, probabilities = synthetic_lines.make_line(shapes, random)
        assert (line.shape, line.dtype, probabilities.shape) == ((32, 128), np.uint8, (64, 11))
        assert probabilities[:, [label, detector.NONE]].sum(axis=1) == pytest.approx(
            64 * [1 + (label == detector.NONE)]
        )
        centres = np.flatnonzero(probabilities[:, 1] > 0.7)
        assert bool(len(centres)) == (label == 1)
        assert all(line[:, max(0, 2 * centre - 4) : 2 * centre + 6].max() > 100 for centre in centres)
