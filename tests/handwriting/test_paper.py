"""Margins and ruled lines erased."""

import numpy as np

from digit_recognizer.handwriting import paper


def test_a_table_at_the_border_is_erased_and_a_stroke_that_touches_the_border_is_kept():
    foreground = np.zeros((100, 100), np.float32)
    foreground[90:] = 0.8
    foreground[0:60, 50:56] = 0.8
    kept = paper.remove_margins(foreground)
    assert kept[85:].max() == 0
    assert kept[0:60, 50:56].min() > 0.7


def test_ruled_lines_are_erased_and_a_stroke_that_crosses_them_is_kept():
    foreground = np.zeros((200, 200), np.float32)
    foreground[50:52] = foreground[100:102] = foreground[150:152] = 0.5
    foreground[30:170, 90:100] = 0.9
    for ruled in (foreground, foreground.T):
        kept = paper.remove_ruled_lines(ruled)
        kept = kept if ruled is foreground else kept.T
        assert kept[:, :80].max() == 0
        assert kept[30:170, 92:98].min() > 0.4


def test_a_straight_stroke_is_not_a_ruled_line():
    foreground = np.zeros((100, 100), np.float32)
    foreground[12:88, 48:52] = 0.9
    assert (paper.remove_ruled_lines(foreground) == foreground).all()
    foreground[:, 48:52] = 0.9  # a tight crop
    assert (paper.remove_ruled_lines(foreground) == foreground).all()
