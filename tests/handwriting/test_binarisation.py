"""Strokes separated from paper."""

import numpy as np
import pytest

from digit_recognizer.handwriting import binarisation


@pytest.fixture
def writing():
    """A dark stroke on paper that a shadow falls on from the middle."""
    gray = np.full((120, 120), 220, np.uint8)
    gray[:, 60:] = 120
    gray[30:90, 40:46] = 40
    gray[60:66, 46:100] = 20
    return gray


def test_ink_is_where_the_strokes_are_and_the_shadows_edge_is_none(writing):
    look = binarisation.looks(writing)[0]
    values = binarisation.ink(writing, look)
    assert not look.light_on_dark
    assert values.shape == writing.shape
    assert values[40:80, 42:44].min() > 0.4
    assert values[62:64, 70:95].min() > 0.4
    assert values[:25].max() < 0.05
    assert values[95:].max() < 0.05


def test_light_strokes_on_dark_are_found_by_looking(writing):
    assert binarisation.looks(255 - writing)[0].light_on_dark
    assert binarisation.skewness(writing) < 0 < binarisation.skewness(255 - writing)


def test_a_coloured_stroke_of_the_papers_brightness_is_seen_in_its_colour():
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[...] = (0, 127, 0)
    picture[20:40, 28:32] = (250, 0, 0)  # of nearly the same luminance
    assert binarisation.gray_plane(picture)[30, 30] in (0, 250)


def test_threshold_parts_two_groups():
    assert 0.2 <= binarisation.threshold(np.array([0.2] * 50 + [0.8] * 50, np.float32)) < 0.8


def test_blank_paper_has_no_ink():
    gray = np.full((80, 80), 200, np.uint8)
    assert all(binarisation.ink(gray, look).max() == 0 for look in binarisation.looks(gray))
