"""A reader of the ten sample digits: the real detector, and a classifier by similarity in place of a trained run."""

import numpy as np
import pytest

from digit_recognizer.handwriting import detector, normalisation, reader
from digit_recognizer.handwriting.sample_digits import draw_digits


def classify_by_similarity(images):
    """Return probabilities that grow with the cosine similarity to each of the drawings."""
    strokes = [(255 - picture.mean(axis=2)).astype(np.float32) / 255 for picture in draw_digits()]
    known = np.stack([normalisation.normalise_digit(drawn) for drawn in strokes]).reshape(10, -1).astype(float)
    vectors = images.reshape(len(images), -1).astype(float)
    similarity = (vectors @ known.T) / np.linalg.norm(vectors, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    powers = np.exp(40 * similarity)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="session")
def detect():
    return detector.load_detector()


@pytest.fixture(scope="session")
def read(detect):
    """Read pictures, by default with the classifier by similarity."""
    return lambda pictures, classify=classify_by_similarity: reader.read_pictures(pictures, classify, detect)
