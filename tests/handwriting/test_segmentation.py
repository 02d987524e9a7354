"""Margins, ruled lines, components, lines and cuts."""

import numpy as np

from digit_recognizer.handwriting import segmentation
from digit_recognizer.handwriting.segmentation import Component


def make_component(x, y, width, height):
    return Component(x, y, np.ones((height, width), np.float32))


def get_box(component):
    return component.x, component.y, component.width, component.height


def test_specks_belong_to_no_line_but_to_the_total_mass():
    foreground = np.zeros((80, 80), np.float32)
    foreground[10:70, 30:36] = 0.9
    foreground[40:42, 60:62] = 0.9
    components, mass = segmentation.find_components(foreground)
    ((stroke,),) = segmentation.group_lines(components)
    assert get_box(stroke) == (30, 10, 6, 60)
    assert mass > stroke.mass
    assert segmentation.find_components(np.zeros((80, 80), np.float32)) == ([], 0.0)


def test_lines_are_ordered_from_the_top_and_components_from_the_left():
    boxes = [(60, 100, 10, 30), (10, 5, 10, 30), (12, 98, 10, 30), (50, 0, 10, 30)]
    lines = segmentation.group_lines([make_component(*box) for box in boxes])
    assert [[(one.x, one.y) for one in line] for line in lines] == [[(10, 5), (50, 0)], [(12, 98), (60, 100)]]
    assert segmentation.group_lines([]) == []


def test_a_bar_above_a_body_is_merged_with_it():
    boxes = [(12, 0, 20, 5), (10, 8, 20, 25), (60, 0, 20, 32)]
    (line,) = segmentation.group_lines([make_component(*box) for box in boxes])
    assert [get_box(one) for one in line] == [(10, 0, 22, 33), (60, 0, 20, 32)]


def test_components_are_split_between_the_centres_of_their_digits():
    foreground = np.zeros((48, 60), np.float32)
    foreground[:, 5:15] = foreground[:, 25:33] = foreground[:, 45:55] = 1
    foreground[24:26, 15:25] = 1  # joins the first two
    component, centres = Component(100, 0, foreground), [110, 129, 150]
    parts, whole = zip(*segmentation.split_at(component, centres), strict=True)
    assert all(part.x <= centre < part.right for part, centre in zip(parts, centres, strict=True))
    assert [part.foreground[:10].sum() for part in parts] == [100, 80, 100]
    assert sum(part.mass for part in parts) == foreground.sum()
    assert whole == (False, False, True)
    assert segmentation.split_at(component, [110]) == [(component, True)]


def test_a_table_at_the_border_is_erased_and_a_stroke_that_touches_the_border_is_kept():
    foreground = np.zeros((100, 100), np.float32)
    foreground[90:] = 0.8
    foreground[0:60, 50:56] = 0.8
    kept = segmentation.remove_margins(foreground)
    assert kept[85:].max() == 0
    assert kept[0:60, 50:56].min() > 0.7


def test_ruled_lines_are_erased_and_a_stroke_that_crosses_them_is_kept():
    foreground = np.zeros((200, 200), np.float32)
    foreground[50:52] = foreground[100:102] = foreground[150:152] = 0.5
    foreground[30:170, 90:100] = 0.9
    for ruled in (foreground, foreground.T):
        kept = segmentation.remove_ruled_lines(ruled)
        kept = kept if ruled is foreground else kept.T
        assert kept[:, :80].max() == 0
        assert kept[30:170, 92:98].min() > 0.4


def test_a_straight_stroke_is_not_a_ruled_line():
    foreground = np.zeros((100, 100), np.float32)
    foreground[12:88, 48:52] = 0.9
    assert (segmentation.remove_ruled_lines(foreground) == foreground).all()
    foreground[:, 48:52] = 0.9  # a tight crop
    assert (segmentation.remove_ruled_lines(foreground) == foreground).all()
