"""Detection of digits in lines."""

import numpy as np
import pytest

from digit_recognizer.handwriting import detector
from digit_recognizer.handwriting.detector import LineImage
from digit_recognizer.handwriting.segmentation import Component


def make_bar(x, y, width=8, height=44):
    return Component(x, y, np.ones((height, width), np.float32))


def test_a_sloping_line_is_rendered_level_at_the_detectors_scale():
    line = detector.render_line([make_bar(100 + 40 * number, 300 + 10 * number) for number in range(4)])
    assert line.scale == detector.DIGIT / 44
    assert line.image.shape == (32, 64 + 2 * detector.MARGIN)
    assert line.left + detector.MARGIN / line.scale == 100
    rows = np.flatnonzero((line.image > 127).any(axis=1))
    assert (rows[0], rows[-1]) == pytest.approx((5, 26), abs=1)


def test_components_much_higher_than_the_line_are_not_rendered():
    bars = [make_bar(40 * number, 100) for number in range(5)]
    assert (detector.render_line([*bars, make_bar(200, 0, width=2, height=140)]).image[:, -8 - 2 :] == 0).all()


def test_each_peak_is_a_detection_with_its_column_in_the_picture():
    positions = detector.STEP * (np.arange(64) + 0.5)
    probabilities = np.zeros((64, 11))
    for centre, digit, height in ((21, 3, 1.0), (42.4, 7, 0.8), (70, 1, 0.1)):
        probabilities[:, digit] = height * np.exp(-0.5 * ((positions - centre) / detector.SPREAD) ** 2)
    probabilities[:, detector.NONE] = 1 - probabilities.sum(axis=1)
    line = LineImage(np.zeros((32, 128), np.uint8), left=50, scale=0.5)
    (detections,) = detector.detect_digits([line], lambda lines: probabilities[np.newaxis])
    assert [int(digits.argmax()) for _, digits in detections] == [3, 7]
    assert [x for x, _ in detections] == pytest.approx([50 + 2 * 21, 50 + 2 * 42.4], abs=0.5)
    assert [digits.sum() for _, digits in detections] == pytest.approx([1, 0.8], abs=0.05)


def test_a_doubtful_digit_is_a_detection_with_its_low_probability():
    probabilities = np.zeros((1, 64, 11))
    probabilities[0, 19:22, 4] = 0.05, 0.15, 0.05
    probabilities[..., detector.NONE] = 1 - probabilities.sum(axis=2)
    ((detection,),) = detector.detect_digits([LineImage(np.zeros((32, 128), np.uint8), 0, 1)], lambda _: probabilities)
    _, digits = detection
    assert (digits.argmax(), digits.sum()) == (4, pytest.approx(0.25 / detector.BELL))
