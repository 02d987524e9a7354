"""Digits that the program draws."""

import numpy as np

from digit_recognizer.handwriting import sample_digits


def test_ten_pictures_of_strokes_on_paper():
    pictures = sample_digits.draw_digits()
    assert len(pictures) == 10
    for picture in pictures:
        assert (picture.shape, picture.dtype) == ((sample_digits.SIDE, sample_digits.SIDE, 3), np.uint8)
        assert tuple(picture[0, 0]) == sample_digits.PAPER
        ink = (picture == sample_digits.INK).all(axis=2)
        assert 0.04 < ink.mean() < 0.3
        assert not ink[[0, -1]].any()
        assert not ink[:, [0, -1]].any()


def test_no_two_digits_are_drawn_alike():
    pictures = sample_digits.draw_digits()
    assert all((a != b).any() for i, a in enumerate(pictures) for b in pictures[:i])


def test_corners_are_rounded_and_ends_stay():
    line = np.array([[0, 0], [8, 0], [8, 8]], float)
    rounded = sample_digits.rounded(line)
    assert rounded[[0, -1]].tolist() == [[0, 0], [8, 8]]
    assert np.linalg.norm(rounded - [8, 0], axis=1).min() > 1
    assert (rounded.min(), rounded.max()) == (0, 8)
