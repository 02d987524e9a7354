"""Strokes put together to pieces, pieces to rows, and parted again."""

import numpy as np

from digit_recognizer.handwriting import segmentation
from digit_recognizer.handwriting.segmentation import Piece


def piece(x, y, width, height):
    return Piece(x, y, np.ones((height, width), np.float32))


def places(rows):
    return [[(piece.x, piece.y) for piece in row] for row in rows]


def test_weak_strokes_count_where_they_touch_strong_ones():
    ink = np.zeros((9, 30), np.float32)
    ink[4, 2:10] = 0.8
    ink[4, 10:14] = 0.55
    ink[4, 20:24] = 0.3
    mask = segmentation.stroke_mask(ink)
    assert mask[4, 2:14].all()
    assert not mask[4, 15:].any()
    assert not segmentation.stroke_mask(np.zeros((5, 5), np.float32)).any()


def test_rows_are_read_from_the_top_and_the_left():
    pieces = [piece(60, 100, 10, 30), piece(10, 5, 10, 30), piece(12, 98, 10, 30), piece(50, 0, 10, 30)]
    assert places(segmentation.find_rows(pieces)) == [[(10, 5), (50, 0)], [(12, 98), (60, 100)]]


def test_a_bar_above_a_body_belongs_to_one_digit():
    rows = segmentation.find_rows([piece(12, 0, 20, 5), piece(10, 8, 20, 25), piece(60, 0, 20, 32)])
    assert [(found.x, found.y, found.width, found.height) for found in rows[0]] == [(10, 0, 22, 33), (60, 0, 20, 32)]


def test_specks_are_dropped():
    ink = np.zeros((80, 80), np.float32)
    ink[10:70, 30:36] = 0.9
    ink[40:42, 60:62] = 0.9
    pieces, mass = segmentation.find_pieces(ink)
    ((found,),) = segmentation.find_rows(pieces)
    assert (found.x, found.y, found.width, found.height) == (30, 10, 6, 60)
    assert mass > found.mass


def test_a_table_at_the_border_is_dropped_and_a_stroke_that_meets_it_is_not():
    ink = np.zeros((100, 100), np.float32)
    ink[90:] = 0.8
    ink[0:60, 50:56] = 0.8
    kept = segmentation.without_margins(ink)
    assert kept[85:].max() == 0
    assert kept[0:60, 50:56].min() > 0.7


def test_ruled_lines_are_erased_and_a_stroke_that_crosses_them_is_kept():
    ink = np.zeros((200, 200), np.float32)
    ink[50:52] = ink[100:102] = ink[150:152] = 0.5
    ink[30:170, 90:100] = 0.9
    kept = segmentation.without_rules(ink)
    assert kept[:, :80].max() == 0
    assert kept[30:170, 92:98].min() > 0.4


def test_strokes_joined_by_a_thread_are_cut_between_their_middles():
    ink = np.zeros((48, 60), np.float32)
    ink[:, 5:15] = ink[:, 25:33] = ink[:, 45:55] = 1
    ink[24:26, 15:45] = 1
    parts = segmentation.parted(Piece(100, 0, ink), [110, 129, 150])
    assert [part.x <= middle < part.x + part.width for part, middle in zip(parts, (110, 129, 150), strict=True)]
    assert [part.ink[:10].sum() for part in parts] == [100, 80, 100]
    assert sum(part.mass for part in parts) == ink.sum()
    assert segmentation.parted(Piece(100, 0, ink), [110]) == [Piece(100, 0, ink)]


def test_pieces_are_trimmed_and_joined_where_they_stand():
    ink = np.zeros((10, 10), np.float32)
    ink[2:4, 3:8] = 1
    one = segmentation.trimmed(Piece(5, 5, ink))
    assert (one.x, one.y, one.width, one.height) == (8, 7, 5, 2)
    both = segmentation.join([one, piece(20, 20, 2, 3)])
    assert (both.x, both.y, both.width, both.height, both.mass) == (8, 7, 14, 16, 16.0)


def test_typical_height_is_that_of_half_of_the_ink():
    assert segmentation.typical_height([piece(0, 0, 10, 30), piece(0, 0, 10, 32), piece(0, 0, 2, 4)]) == 32


def test_a_straight_stroke_is_no_ruled_line():
    ink = np.zeros((100, 100), np.float32)
    ink[12:88, 48:52] = 0.9
    assert (segmentation.without_rules(ink) == ink).all()
    ink[:, 48:52] = 0.9  # not even one in a tight crop
    assert (segmentation.without_rules(ink) == ink).all()
