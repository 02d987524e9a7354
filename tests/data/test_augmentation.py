"""Augmented training images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from digit_recognizer.data import augmentation
from digit_recognizer.data.augmentation import augment, augmented_epochs
from digit_recognizer.training.workers import worker_pool


@pytest.fixture(scope="module")
def images():
    """A filled rectangle, off the centre, in each of many images."""
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 6:22, 11:17] = 255
    return images


def test_every_group_of_images_is_distorted_differently_but_mildly(images):
    distorted = augment(images, 0)
    assert distorted.shape == images.shape
    assert distorted.dtype == np.uint8
    assert len({image.tobytes() for image in distorted}) == -(-len(images) // augmentation.GROUP)
    ink = distorted.sum(axis=(1, 2)) / images[0].sum()
    assert 0.6 < ink.min() < 0.9 < 1.1 < ink.max() < 1.4  # scaled within 12% each way, then bent
    rows, columns = np.mgrid[:28, :28]
    for axis, middle in ((rows, 13.5), (columns, 13.5)):
        centres = (distorted * axis).sum(axis=(1, 2)) / distorted.sum(axis=(1, 2)).astype(float)
        assert 1 < np.abs(centres - middle).max() < 5
        assert abs(centres.mean() - middle) < 0.5  # no drift to one side


@pytest.fixture
def executor():
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_epochs_differ_and_depend_on_the_seed_only(images, executor):
    first, again = (list(augmented_epochs(images, epochs=2, seed=5, executor=executor)) for _ in range(2))
    assert len(first) == 2
    assert (first[0] != first[1]).any()
    assert (np.array(first) == np.array(again)).all()


def test_no_epochs_need_no_work(images):
    assert list(augmented_epochs(images, epochs=0, seed=5, executor=None)) == []


def test_rows_keep_their_order(executor, monkeypatch):
    monkeypatch.setattr(augmentation, "CHUNK", 64)
    images = np.zeros((200, 28, 28), np.uint8)
    brightness = np.arange(50, 250, dtype=np.uint8)
    images[:, 8:20, 8:20] = brightness[:, np.newaxis, np.newaxis]
    distorted = next(augmented_epochs(images, epochs=1, seed=0, executor=executor))
    assert np.abs(distorted.max(axis=(1, 2)).astype(int) - brightness).max() <= 3


def test_worker_processes_make_the_same_epochs(images, executor, monkeypatch):
    monkeypatch.setattr(augmentation, "CHUNK", 64)
    expected = next(augmented_epochs(images, epochs=1, seed=5, executor=executor))
    with worker_pool(1) as pool:
        assert (next(augmented_epochs(images, epochs=1, seed=5, executor=pool)) == expected).all()
