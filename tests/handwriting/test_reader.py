"""Digits in pictures."""

import cv2
import made
import numpy as np
import pytest

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import detector, reader, transcription
from digit_recognizer.handwriting.sample_digits import PAPER_COLOUR, PEN_COLOUR, draw_digits


@pytest.fixture
def read_texts(read):
    return lambda *pictures: [reading.text for reading in read(pictures)]


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture,
        lambda picture: 255 - picture,
        lambda picture: cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC),
        lambda picture: cv2.copyMakeBorder(picture, 0, 200, 150, 0, cv2.BORDER_CONSTANT, value=PAPER_COLOUR),
        lambda picture: (picture * np.linspace(0.4, 1, picture.shape[1])[:, None]).astype(np.uint8),
    ],
    ids=["as drawn", "inverted", "three times as large", "in a corner", "in a gradient"],
)
def test_drawings_are_read(read_texts, change):
    assert read_texts(*map(change, draw_digits())) == list("0123456789")


def test_boxes_contain_all_strokes(read):
    for picture, reading in zip(draw_digits(), read(draw_digits()), strict=True):
        x, y, width, height = reading.rows[0][0].box
        strokes = picture.min(axis=2) < 128
        assert strokes[y : y + height, x : x + width].sum() == strokes.sum()


def test_boxes_are_in_pixels_of_the_original_picture(read):
    large = cv2.resize(draw_digits()[3], (2000, 2000), interpolation=cv2.INTER_CUBIC)
    small_box, large_box = (np.array(reading.rows[0][0].box) for reading in read([draw_digits()[3], large]))
    factor = 2000 / draw_digits()[3].shape[0]
    assert np.abs(large_box - small_box * factor).max() < 3 * factor


def test_lines_are_read_from_the_top_and_digits_from_the_left(read_texts):
    digits = draw_digits()
    page = np.concatenate([np.concatenate(digits[:5], axis=1), np.concatenate(digits[5:], axis=1)])
    assert read_texts(page) == ["01234\n56789"]


def test_touching_digits_are_split(read_texts):
    line = np.concatenate([draw_digits()[digit][:, 22:88] for digit in (3, 5, 2)], axis=1)
    line[54:58, 20:-20] = PEN_COLOUR
    assert read_texts(line) == ["352"]


def test_uneven_light_on_blank_paper_is_refused(read):
    light = np.linspace(90, 230, 300)[np.newaxis, :, np.newaxis]
    page = light + np.random.default_rng(0).normal(0, 3, (300, 300, 3))
    (reading,) = read([page.astype(np.uint8)], lambda images: np.eye(10)[np.zeros(len(images), int)])
    assert reading.rows == []


def test_a_letter_and_a_scribble_are_refused_or_uncertain(read):
    letter, scribble = np.full((2, 120, 120, 3), 240, np.uint8)
    cv2.putText(letter, "M", (30, 85), cv2.FONT_HERSHEY_SIMPLEX, 2.5, PEN_COLOUR, 7, cv2.LINE_AA)
    points = np.array([[20, 20], [100, 30], [30, 50], [90, 90], [60, 10], [20, 100], [110, 60], [40, 110]], np.int32)
    cv2.polylines(scribble, [points], False, PEN_COLOUR, 4, cv2.LINE_AA)
    assert max(digit.probability for reading in read([letter, scribble]) for digit in [*reading.digits, NOTHING]) < 0.6


NOTHING = reader.Digit(np.zeros(10), (0, 0, 0, 0), np.zeros((28, 28), np.uint8))


def test_digits_less_probable_than_asked_are_refused(detect):
    def guess(images):
        return np.full((len(images), 10), 0.1)

    (reading,) = reader.read_pictures(draw_digits()[:1], guess, detect)
    (digit,) = reading.digits
    assert 0.3 < digit.probability < 0.6  # the mean with the detector's
    (reading,) = reader.read_pictures(draw_digits()[:1], guess, detect, refuse=0.6)
    assert reading.rows == []


@pytest.mark.parametrize("paper", [2, -1], ids=["with a margin of 2 pixels", "cut off on each side"])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_plain_stroke_that_fills_its_picture_is_a_one(read_texts, paper, inverted):
    x = np.arange(40) + 30 * (1 - np.linspace(0, 1, 200)[:, np.newaxis])  # a slanted stroke 24 pixels wide
    stroke = np.where((x > 38) & (x < 62), 60, 230).astype(np.uint8)
    rows, columns = (np.flatnonzero((stroke < 128).any(axis=axis)) for axis in (1, 0))
    stroke = stroke[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    picture = np.pad(stroke, paper, constant_values=230) if paper > 0 else stroke[-paper:paper, -paper:paper]
    assert read_texts(255 - picture if inverted else picture) == ["1"]


def test_a_doubtful_digit_is_more_probable_among_digits_than_alone_or_among_others():
    def weigh(*presences):
        glyphs = [reader.Glyph(None, x, presence * np.eye(10)[2], True) for x, presence in enumerate(presences)]
        return [float(glyph.probabilities.sum()) for glyph in reader.adjust_by_line_context(glyphs)]

    assert weigh(0.2) == pytest.approx([0.2])
    assert weigh(0.2, 1, 1, 1)[0] == pytest.approx(0.5, abs=1e-4)
    assert weigh(0.2, 0, 0, 0)[0] == pytest.approx(1 / 17, abs=1e-4)
    assert reader.adjust_by_line_context([]) == []


SIZES = [(1, 1), (1, 500), (2, 3000), (10, 20_000), (1, 100_000), (3, 59), (40, 5000), (60, 61)]  # pixels


@pytest.mark.parametrize("size", [*SIZES, *(size[::-1] for size in SIZES)])
def test_pictures_of_every_shape_are_read_and_drawn(read, size):
    random = np.random.default_rng(size)
    rows, columns = (np.arange(length) % 50 < 3 for length in size)
    grays = [
        *(np.full(size, value) for value in (0, 128, 255)),
        *(random.integers(0, 256, size), 128 + random.normal(0, 3, size), 255 * (random.random(size) > 0.02)),
        *(np.linspace(0, 255, size[0] * size[1]).reshape(size), 255 * (rows[:, np.newaxis] | columns)),
        cv2.resize(draw_digits()[3][..., 0], size[::-1], interpolation=cv2.INTER_AREA),
    ]
    pictures = [np.repeat(gray.astype(np.uint8)[..., np.newaxis], 3, axis=2) for gray in grays]
    readings = read(pictures)
    assert [reading.text for reading in readings[:3]] == ["", "", ""]
    for picture, reading in zip(pictures, readings, strict=True):
        assert transcription.annotate(picture, reading).shape[1] >= transcription.MIN_SIDE
        for x, y, width, height in (digit.box for digit in reading.digits):
            assert 0 <= x < x + width <= size[1] + 1  # rounded
            assert 0 <= y < y + height <= size[0] + 1


def test_a_loaded_reader_is_calibrated_and_has_run_its_networks(monkeypatch, detect, tmp_path):
    sizes = []

    def classify(images):
        sizes.append(len(images))
        return np.full((len(images), 10), 0.1)

    monkeypatch.setattr(detector, "load_detector", lambda: detect)
    monkeypatch.setattr("digit_recognizer.model.prediction.make_predictor", lambda networks: classify)
    monkeypatch.setattr(reader, "load_networks", lambda run_dir: (1.5, []))
    monkeypatch.setattr(reader, "apply_temperature", lambda values, temperature: values * 0 + np.eye(10)[7])
    read = reader.make_reader(reader.load_classifier(tmp_path))
    assert sizes == [20]  # two variants of ten digits
    assert [reading.text for reading in read(draw_digits()[7:8])] == ["7"]


def test_the_probability_of_a_reading_is_that_of_its_least_certain_digit():
    digits = [reader.Digit(np.eye(10)[n] * share, NOTHING.box, NOTHING.image) for n, share in ((4, 0.9), (2, 0.7))]
    reading = reader.Reading([digits, digits[:1]])
    assert (reading.text, reading.probability, len(reading.digits)) == ("42\n4", 0.7, 3)
    assert reader.Reading([]).probability == 0


def test_a_run_whose_training_diverged_is_not_read_with(demo_dir, tmp_path):
    run_dir = made.write_run(tmp_path / "made", demo_dir)
    path = run_dir / "member-0" / "validation.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"probabilities": arrays["probabilities"] * np.nan})
    with pytest.raises(UserError, match="are nan: its training diverged; train with"):
        reader.load_classifier(run_dir)
