"""Distorted training images."""

import threading

import numpy as np
import pytest

from digit_recognizer.data import augmentation
from digit_recognizer.data.augmentation import augment, augmented_epochs


@pytest.fixture(scope="module")
def images():
    """A filled rectangle, off the centre, in each of many images."""
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 6:22, 11:17] = 255
    return images


def test_the_same_seed_gives_the_same_images(images):
    assert (augment(images, 1) == augment(images, 1)).all()
    assert (augment(images, 1) != augment(images, 2)).any()


def test_every_image_is_distorted_differently_but_mildly(images):
    distorted = augment(images, 0)
    assert distorted.shape == images.shape
    assert distorted.dtype == np.uint8
    assert len({image.tobytes() for image in distorted}) == len(images)
    ink = distorted.sum(axis=(1, 2)) / images[0].sum()
    assert 0.6 < ink.min() < 0.9 < 1.1 < ink.max() < 1.4  # scaled within 12% each way, then bent
    rows, columns = np.mgrid[:28, :28]
    for axis, middle in ((rows, 13.5), (columns, 13.5)):
        centres = (distorted * axis).sum(axis=(1, 2)) / distorted.sum(axis=(1, 2)).astype(float)
        assert 1 < np.abs(centres - middle).max() < 5
        assert abs(centres.mean() - middle) < 0.5  # no drift to one side


def test_the_background_stays_black(images):
    assert (augment(images, 0)[:, 0, 0] == 0).all()


def test_epochs_differ_and_the_same_seed_gives_the_same_ones(images):
    first = list(augmented_epochs(images, epochs=2, seed=5))
    assert len(first) == 2
    assert (first[0] != first[1]).any()
    again = list(augmented_epochs(images, epochs=2, seed=5))
    assert all((one == other).all() for one, other in zip(first, again, strict=True))


def test_epochs_do_not_depend_on_the_number_of_workers(images, monkeypatch):
    monkeypatch.setattr(augmentation, "CHUNK", 64)
    several = next(augmented_epochs(images, epochs=1, seed=5))
    monkeypatch.setattr(augmentation.os, "cpu_count", lambda: 1)
    alone = next(augmented_epochs(images, epochs=1, seed=5))
    assert (several == alone).all()


def test_each_row_stays_in_its_place(monkeypatch):
    monkeypatch.setattr(augmentation, "CHUNK", 64)
    images = np.zeros((200, 28, 28), np.uint8)
    brightness = np.arange(50, 250, dtype=np.uint8)
    images[:, 8:20, 8:20] = brightness[:, np.newaxis, np.newaxis]
    distorted = next(augmented_epochs(images, epochs=1, seed=0))
    assert np.abs(distorted.max(axis=(1, 2)).astype(int) - brightness).max() <= 3


def test_views_are_moved_copies_the_first_of_which_is_the_image(images):
    views = list(augmentation.make_views(images[:3], 5))
    assert len(views) == 5
    assert (views[0] == images[:3]).all()
    shifted = [np.roll(images[:3], shift, axis) for shift, axis in ((1, 2), (-1, 2), (1, 1), (-1, 1))]
    assert all((view == expected).all() for view, expected in zip(views[1:], shifted, strict=True))
    assert len(augmentation.VIEWS) == len(list(augmentation.make_views(images[:3], 9))) == 9


def test_epochs_are_shared_through_files(images, tmp_path):
    epochs = [images[:2], images[2:4], images[4:6]]
    stop = threading.Event()
    augmentation.write_epochs(iter(epochs), tmp_path, stop)
    read = list(augmentation.read_epochs(tmp_path, epochs=3))
    assert all((one == other).all() for one, other in zip(read, epochs, strict=True))
    stop.set()
    augmentation.write_epochs(iter(epochs), tmp_path / "stopped", stop)
    assert not (tmp_path / "stopped").exists()
