"""Digits drawn by the program."""

import numpy as np

from digit_recognizer.handwriting import sample_digits


def test_ten_different_digits_are_drawn_on_paper():
    pictures = sample_digits.draw_digits()
    assert len({picture.tobytes() for picture in pictures}) == 10
    for picture in pictures:
        assert (picture.shape, picture.dtype) == ((sample_digits.SIDE, sample_digits.SIDE, 3), np.uint8)
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (border == sample_digits.PAPER_COLOUR).all()
        assert (picture == sample_digits.PEN_COLOUR).all(axis=2).any()


def test_corners_are_rounded_and_ends_stay():
    rounded = sample_digits.round_corners(np.array([[0, 0], [8, 0], [8, 8]], float))
    assert rounded[[0, -1]].tolist() == [[0, 0], [8, 8]]
    assert np.linalg.norm(rounded - [8, 0], axis=1).min() > 1
    assert (rounded.min(), rounded.max()) == (0, 8)
