"""Made lines."""

import numpy as np
import pytest

from digit_recognizer.handwriting import synthetic_lines


def pool(seed):
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 8:20] = 255
    return synthetic_lines.make_pool(images, np.array([1, 8], np.uint8), 300, np.random.default_rng(seed))


def test_a_pool_holds_the_given_digits_drawn_ones_and_things_that_are_none():
    labels = [stroke.label for stroke in pool(0)]
    assert set(labels) == set(range(11))
    assert 120 < labels.count(1) + labels.count(8) < 220
    assert all(stroke.ink.shape[0] <= synthetic_lines.HEIGHT * synthetic_lines.FINE for stroke in pool(0))


def test_a_lines_places_name_the_digits_whose_middles_are_there():
    random = np.random.default_rng(1)
    ones = [stroke for stroke in pool(0) if stroke.label == 1]
    for _ in range(20):
        ink, said = synthetic_lines.make_line(ones, random)
        assert (ink.shape, ink.dtype, said.shape, said.dtype) == ((32, 128), np.uint8, (64, 11), np.float32)
        assert said.sum(axis=1) == pytest.approx(np.ones(64))
        assert said[:, [1, synthetic_lines.NONE]].sum() == pytest.approx(64)
        middles = np.flatnonzero(said[:, 1] > 0.7)
        assert len(middles)
        for place in middles:
            assert ink[:, max(0, 2 * place - 4) : 2 * place + 6].max() > 100


def test_things_that_are_no_digits_are_never_named():
    others = [stroke for stroke in pool(0) if stroke.label == synthetic_lines.NONE]
    random = np.random.default_rng(2)
    assert all((synthetic_lines.make_line(others, random)[1][:, synthetic_lines.NONE] == 1).all() for _ in range(10))
