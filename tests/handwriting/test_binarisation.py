"""Strokes separated from paper."""

import numpy as np
import pytest

from digit_recognizer.handwriting import binarisation


def test_strokes_are_foreground_and_the_edge_of_a_shadow_is_not():
    writing = np.full((120, 120), 220, np.uint8)
    writing[:, 60:] = 120
    writing[30:90, 40:46] = 40
    writing[60:66, 46:100] = 20
    settings = binarisation.propose_settings(writing)[0]
    foreground = binarisation.extract_foreground(writing, settings)
    assert not settings.light_on_dark
    assert foreground.shape == writing.shape
    assert foreground[40:80, 42:44].min() > 0.4
    assert foreground[62:64, 70:95].min() > 0.4
    assert foreground[:25].max() < 0.05
    assert foreground[95:].max() < 0.05


@pytest.mark.parametrize("inverted", [False, True])
def test_small_strokes_on_a_large_page_with_a_gradient_have_a_window(inverted):
    """The shading of such a page has more energy than its strokes."""
    gray = np.repeat(np.linspace(60, 240, 900).astype(np.uint8)[:, np.newaxis], 1200, axis=1)
    for x in range(500, 700, 40):
        gray[300:340, x : x + 6] = 20
    settings = binarisation.propose_settings(255 - gray if inverted else gray)
    assert any(one.light_on_dark == inverted and one.window is not None and one.window < 0.1 for one in settings)


def test_a_coloured_stroke_as_bright_as_the_paper_is_found_in_its_channel():
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[...] = (0, 127, 0)
    picture[20:40, 28:32] = (250, 0, 0)  # nearly the same luminance
    assert binarisation.to_gray(picture)[30, 30] in (0, 250)


def test_weak_pixels_are_kept_where_they_are_connected_to_strong_ones():
    foreground = np.zeros((9, 30), np.float32)
    foreground[4, 2:10] = 0.8
    foreground[4, 10:14] = 0.55
    foreground[4, 20:24] = 0.3
    mask = binarisation.apply_hysteresis_threshold(foreground)
    assert mask[4, 2:14].all()
    assert not mask[4, 15:].any()
    assert not binarisation.apply_hysteresis_threshold(np.zeros((5, 5), np.float32)).any()


def test_without_a_window_the_paper_has_one_brightness():
    gray = np.full((40, 20), 200, np.uint8)
    gray[2:38, 2:18] = 50  # most of the picture is a stroke
    for light_on_dark, picture in ((False, gray), (True, 255 - gray)):
        settings = binarisation.BinarisationSettings(light_on_dark, None, 1.0)
        foreground = binarisation.extract_foreground(picture, settings)
        assert foreground[3:37, 3:17].min() > 0.5
        assert foreground[:2].max() == 0
        assert settings[:2] in [one[:2] for one in binarisation.propose_settings(picture)]
