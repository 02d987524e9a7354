"""Training of the detector."""

import numpy as np
import pytest

from benchmarks import train_detector
from digit_recognizer.handwriting import detector


@pytest.mark.benchmarks
def test_written_weights_predict_like_the_trained_network(tmp_path):
    images = np.zeros((2, 28, 28), np.uint8)
    images[0, 4:24, 12:16] = images[1, 4:24, 6:22] = 255
    steps = []
    model = train_detector.train_detector(
        images, np.array([1, 8], np.uint8), pool_size=200, lines=640, report=lambda *step: steps.append(step[:2])
    )
    assert steps == [(number, 10) for number in range(1, 11)]
    train_detector.write_weights(model, tmp_path / "detector.npz")
    detect = detector.load_detector(tmp_path / "detector.npz")
    line = np.random.default_rng(0).integers(0, 256, (1, 32, 128)).astype(np.uint8)
    logits = model(line[..., np.newaxis] / np.float32(255), training=False).numpy()
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    assert detect(line) == pytest.approx(powers / powers.sum(axis=2, keepdims=True), abs=0.02)
