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
