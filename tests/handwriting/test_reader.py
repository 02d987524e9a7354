"""Pictures read with a classifier that knows only the ten digits that this program draws."""

import functools

import cv2
import numpy as np
import pytest

from digit_recognizer.handwriting import detector, normalisation, reader
from digit_recognizer.handwriting.sample_digits import INK, PAPER, draw_digits


def made(picture):
    """What the network sees of a drawing: its strokes are the darkest of two colours."""
    return normalisation.make_image((picture.mean(axis=2).max() - picture.mean(axis=2)).astype(np.float32) / 255)


KNOWN = np.stack([made(picture) for picture in draw_digits()]).astype(float)


def nearest(images):
    """Gives the digit whose drawing is most like the image, surer the more alike they are."""
    vectors = images.reshape(len(images), -1).astype(float)
    known = KNOWN.reshape(10, -1)
    likeness = (vectors @ known.T) / np.linalg.norm(vectors, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    powers = np.exp(40 * likeness)
    return powers / powers.sum(axis=1, keepdims=True)


@functools.cache
def spot():
    return detector.load_spotter()


def read(pictures, classify=nearest):
    return reader.read_pictures(pictures, classify, spot())


def texts(*pictures):
    return [result.text for result in read(pictures)]


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
    one, other = (result.rows[0][0] for result in read(pictures))
    assert (one.image == other.image).all()
    assert (one.box[0], one.box[1] + 30, *one.box[2:]) == other.box


def test_rows_of_digits_are_read_in_order():
    digits = draw_digits()
    sheet = np.concatenate([np.concatenate(digits[:5], axis=1), np.concatenate(digits[5:], axis=1)])
    assert texts(sheet) == ["01234\n56789"]


def test_blank_paper_holds_no_digit():
    assert texts(np.full((100, 100, 3), 230, np.uint8), np.full((100, 100, 3), INK, np.uint8)) == ["", ""]


def test_touching_digits_are_parted():
    sheet = np.concatenate([draw_digits()[digit][:, 22:88] for digit in (3, 5, 2)], axis=1)
    sheet[54:58, 20:-20] = INK
    assert texts(sheet) == ["352"]


def test_a_letter_and_a_scribble_are_no_digits_or_doubtful_ones():
    letter, scribble = np.full((2, 120, 120, 3), 240, np.uint8)
    cv2.putText(letter, "M", (30, 85), cv2.FONT_HERSHEY_SIMPLEX, 2.5, INK, 7, cv2.LINE_AA)
    points = np.array([[20, 20], [100, 30], [30, 50], [90, 90], [60, 10], [20, 100], [110, 60], [40, 110]], np.int32)
    cv2.polylines(scribble, [points], False, INK, 4, cv2.LINE_AA)
    assert (
        max([digit.probability for one in read([letter, scribble]) for row in one.rows for digit in row], default=0)
        < 0.6
    )


def test_an_unsure_answer_is_no_digit(monkeypatch):
    (result,) = read(draw_digits()[:1], lambda images: np.full((len(images), 10), 0.1))
    ((digit,),) = result.rows
    assert digit.probability < 0.6  # one of the two networks knows it
    monkeypatch.setattr(reader, "THRESHOLD", 0.6)
    (result,) = read(draw_digits()[:1], lambda images: np.full((len(images), 10), 0.1))
    assert result.rows == []


def test_boxes_are_those_of_the_picture_however_large_it_is():
    large = cv2.resize(draw_digits()[3], (2000, 2000), interpolation=cv2.INTER_CUBIC)
    small, great = (result.rows[0][0] for result in read([draw_digits()[3], large]))
    factor = 2000 / draw_digits()[3].shape[0]
    assert np.abs(np.array(great.box) - np.array(small.box) * factor).max() < 3 * factor


def test_no_pictures_are_read_as_none():
    assert read([]) == []


def test_uneven_light_on_a_blank_page_is_no_digit():
    light = np.linspace(90, 230, 300)[np.newaxis, :, np.newaxis]
    page = light + np.random.default_rng(0).normal(0, 3, (300, 300, 3))
    (result,) = read([page.astype(np.uint8)], lambda images: np.eye(10)[np.zeros(len(images), int)])
    assert result.rows == []
