"""Where digits stand in lines."""

import numpy as np
import pytest

from digit_recognizer.handwriting import detector, synthetic_lines
from digit_recognizer.handwriting.detector import Strip
from digit_recognizer.handwriting.segmentation import Piece


def bar(x, y, width=8, height=44):
    return Piece(x, y, np.ones((height, width), np.float32))


def test_a_row_becomes_a_level_strip_of_the_known_size():
    strip = detector.make_strip([bar(100 + 40 * number, 300 + 10 * number) for number in range(4)])
    assert strip.scale == synthetic_lines.DIGIT / 44
    assert strip.image.shape == (32, 64 + 2 * detector.MARGIN)
    assert strip.left + detector.MARGIN / strip.scale == 100
    rows = np.flatnonzero((strip.image > 127).any(axis=1))
    assert (rows[0], rows[-1]) == pytest.approx((5, 26), abs=1)


def test_thin_strokes_are_thickened():
    thin = detector.make_strip([bar(0, 0, width=4, height=400)])
    assert (thin.image[16] / 255).sum() == pytest.approx(1.9, abs=0.5)


def test_a_middle_is_found_at_each_peak_and_its_column_in_the_picture_told():
    places = synthetic_lines.STEP * (np.arange(64) + 0.5)
    answer = np.zeros((64, 11))
    for middle, digit, height in ((21, 3, 1.0), (42.4, 7, 0.8), (70, 1, 0.1)):
        answer[:, digit] = height * np.exp(-0.5 * ((places - middle) / synthetic_lines.SPREAD) ** 2)
    answer[:, synthetic_lines.NONE] = 1 - answer.sum(axis=1)
    strip = Strip(np.zeros((32, 128), np.uint8), left=50, scale=0.5)
    (middles,) = detector.find_middles([strip], lambda strips: answer[np.newaxis])
    assert [int(middle.probabilities.argmax()) for middle in middles] == [3, 7]
    assert [middle.x for middle in middles] == pytest.approx([50 + 2 * 21, 50 + 2 * 42.4], abs=0.5)
    assert [middle.probabilities[digit] for middle, digit in zip(middles, (3, 7), strict=True)] == pytest.approx(
        [1, 0.8], abs=0.05
    )
    assert [middle.probabilities.sum() for middle in middles] == pytest.approx([1, 1])


def test_saved_weights_answer_as_the_trained_ones(tmp_path, monkeypatch):
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 6:22] = 255
    monkeypatch.setattr(detector, "POOL", 200)
    monkeypatch.setattr(detector, "LINES", 640)
    model = detector.train_spotter(images, np.array([1, 8], np.uint8), precision="float32", tell=lambda *_: None)
    detector.save_spotter(model, tmp_path / "weights")
    spot = detector.load_spotter(tmp_path / "weights")
    strip = np.random.default_rng(0).integers(0, 256, (1, 32, 128)).astype(np.uint8)
    logits = model(strip[..., np.newaxis] / np.float32(255), training=False).numpy()
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    assert spot(strip) == pytest.approx(powers / powers.sum(axis=2, keepdims=True), abs=0.02)
