"""Training images made of labelled drawings."""

import cv2
import numpy as np
import pytest

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting.collection import collect_digits
from digit_recognizer.handwriting.normalisation import normalise_digit
from digit_recognizer.handwriting.sample_digits import draw_digits


@pytest.fixture
def folder(tmp_path):
    """A folder with two drawings of one digit, one of two, and two whose labels do not fit."""
    digits = draw_digits()
    pictures = {"three": digits[3], "pair": np.hstack([digits[2], digits[8]]), "blank": np.full_like(digits[0], 250)}
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[..., ::-1])
    rows = "three.png,3", "pair.png,2 8", "pair.png,2", "blank.png,1", "three.png,x", "gone.png,4"
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    return tmp_path


def test_drawings_become_normalised_images_with_the_digits_of_their_labels(folder):
    collected = collect_digits(folder)
    assert collected.labels.tolist() == [3, 2, 8]
    assert collected.images.shape == (3, 28, 28)
    inks = [1 - draw_digits()[digit].mean(axis=2, dtype=np.float32) / 255 for digit in (3, 2, 8)]
    expected = [normalise_digit(ink - ink.min()) for ink in inks]
    assert np.abs(collected.images - np.float32(expected)).mean() < 6  # gray levels: the reader blurs the picture
    assert [line.removeprefix(f"{folder}/") for line in collected.left_out] == [
        "pair.png: expected 1 digits as its label, found 2",
        "blank.png: expected 1 digits as its label, found 0",
        "three.png: expected digits as its label, found 'x'",
        "gone.png: expected a file, found none",
    ]


def test_the_hash_is_that_of_images_and_labels(folder):
    first = collect_digits(folder)
    (folder / "labels.csv").write_text("path,label\nthree.png,3\npair.png,28\n")
    assert collect_digits(folder).sha256 == first.sha256
    (folder / "labels.csv").write_text("path,label\nthree.png,3\npair.png,29\n")
    assert collect_digits(folder).sha256 != first.sha256


def test_a_folder_without_usable_drawings_is_refused(folder):
    (folder / "labels.csv").write_text("path,label\nblank.png,1\n")
    with pytest.raises(UserError, match=r"found none that can be used; save some with `make draw`, or drop EXTRA="):
        collect_digits(folder)
