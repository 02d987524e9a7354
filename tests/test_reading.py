"""Pictures read with a classifier that knows only the ten digits that this program draws."""

import cv2
import numpy as np
import pytest

from digit_recognizer import mnist, reading
from digit_recognizer.drawings import INK, PAPER, draw_digits


def made(picture):
    """What the network sees of a drawing: its strokes are the darkest of two colours."""
    return mnist.make_image((picture.mean(axis=2).max() - picture.mean(axis=2)).astype(np.float32) / 255)


KNOWN = np.stack([made(picture) for picture in draw_digits()]).astype(float)


def nearest(images):
    """Gives the digit whose drawing is most like the image, surer the more alike they are."""
    vectors = images.reshape(len(images), -1).astype(float)
    known = KNOWN.reshape(10, -1)
    likeness = (vectors @ known.T) / np.linalg.norm(vectors, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    powers = np.exp(40 * likeness)
    return powers / powers.sum(axis=1, keepdims=True)


def texts(*pictures):
    return [result.text for result in reading.read_pictures(pictures, nearest)]


def test_each_drawing_is_read():
    assert texts(*draw_digits()) == list("0123456789")


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: 255 - picture,
        lambda picture: cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC),
        lambda picture: cv2.copyMakeBorder(picture, 0, 200, 150, 0, cv2.BORDER_CONSTANT, value=PAPER),
        lambda picture: (picture * np.linspace(0.4, 1, picture.shape[1])[:, None]).astype(np.uint8),
    ],
    ids=["inverted", "three times as large", "in a corner", "in a gradient"],
)
def test_a_changed_drawing_is_read_alike(change):
    assert texts(*(change(picture) for picture in draw_digits())) == list("0123456789")


def test_moving_a_digit_changes_nothing_of_what_the_network_sees():
    pictures = [
        cv2.copyMakeBorder(draw_digits()[5], 20 + move, 60 - move, 60, 20, cv2.BORDER_CONSTANT, value=PAPER)
        for move in (0, 30)
    ]
    one, other = (result.rows[0][0] for result in reading.read_pictures(pictures, nearest))
    assert (one.image == other.image).all()
    assert (one.box[0], one.box[1] + 30, *one.box[2:]) == other.box


def test_rows_of_digits_are_read_in_order():
    digits = draw_digits()
    sheet = np.concatenate([np.concatenate(digits[:5], axis=1), np.concatenate(digits[5:], axis=1)])
    assert texts(sheet) == ["01234\n56789"]


def test_blank_paper_holds_no_digit():
    assert texts(np.full((100, 100, 3), 230, np.uint8), np.full((100, 100, 3), INK, np.uint8)) == ["", ""]


def test_an_unsure_answer_is_no_digit():
    (result,) = reading.read_pictures(draw_digits()[:1], lambda images: np.full((len(images), 10), 0.1))
    assert result.rows == []


@pytest.mark.parametrize(("width", "digits"), [(60, 1), (140, 2)])
def test_parts_of_a_narrow_piece_must_be_much_surer_than_the_whole(width, digits):
    picture = np.full((160, 240, 3), 250, np.uint8)
    picture[30:130, 40:52] = picture[30:130, 28 + width : 40 + width] = picture[78:82, 40 : 40 + width] = 20

    def surer_of_bars(images):
        wide = (images > 127).any(axis=1).sum(axis=1) > 7
        return np.where(np.arange(10) == 1, np.where(wide, 0.7, 0.97)[:, np.newaxis], 0.003)

    (result,) = reading.read_pictures([picture], surer_of_bars)
    assert result.text == "1" * digits


def test_boxes_are_those_of_the_picture_however_large_it_is():
    large = cv2.resize(draw_digits()[3], (2000, 2000), interpolation=cv2.INTER_CUBIC)
    small, great = (result.rows[0][0] for result in reading.read_pictures([draw_digits()[3], large], nearest))
    factor = 2000 / draw_digits()[3].shape[0]
    assert np.abs(np.array(great.box) - np.array(small.box) * factor).max() < 3 * factor


def test_no_pictures_are_read_as_none():
    assert reading.read_pictures([], nearest) == []


def test_uneven_light_on_a_blank_page_is_no_digit():
    light = np.linspace(90, 230, 300)[np.newaxis, :, np.newaxis]
    page = light + np.random.default_rng(0).normal(0, 3, (300, 300, 3))
    (result,) = reading.read_pictures([page.astype(np.uint8)], lambda images: np.eye(10)[np.zeros(len(images), int)])
    assert result.rows == []
