"""Training images, slightly turned, scaled, shifted, sheared and bent, made ahead by worker processes."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np

from digit_recognizer.files import replacing
from digit_recognizer.training.workers import end_with_parent

POLL_SECONDS = 0.1  # between two looks for an epoch that another process makes
CHUNK = 2048  # images that one task of a worker augments; a part of the result, since each chunk has its own seed

# Turn (degrees), scale and shift (pixels) of the copies whose answers are averaged.
VIEWS = (
    (0, 1, 0, 0),
    *((0, 1, right, down) for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *((degrees, 1, 0, 0) for degrees in (7, -7)),
    *((0, scale, 0, 0) for scale in (1.07, 0.93)),
)


def augment(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns a randomly distorted copy of each image.

    Affine: rotation within 12 degrees, scale within 12%, shift within 2.2 pixels, shear within 8 degrees. Half of the
    images also get a mild elastic distortion (Simard, Steinkraus and Platt 2003, doi:10.1109/ICDAR.2003.1227801).

    Args:
        images: uint8 [n, 28, 28].
        seed: the same seed gives the same images.

    Returns:
        uint8 [n, 28, 28].
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # importing it would ask the internet for its latest version
    import albumentations as A  # noqa: N812
    import cv2

    cv2.setNumThreads(0)  # the images are too small to share out, and the cores have other work
    distort = A.Compose(
        [
            A.Affine(rotate=(-12, 12), scale=(0.88, 1.12), translate_percent=(-0.08, 0.08), shear=(-8, 8), p=1),
            A.ElasticTransform(alpha=20, sigma=4, p=0.5),
        ],
        seed=seed,
    )
    return np.stack([distort(image=image)["image"] for image in images])


def make_views(images: np.ndarray, views: int) -> Iterator[np.ndarray]:
    """Yields the images, then slightly moved copies: all in the same way, and without chance.

    Args:
        images: uint8 [n, 28, 28].
        views: how many of `VIEWS`.

    Yields:
        uint8 [n, 28, 28].
    """
    import cv2

    yield images
    for degrees, scale, right, down in VIEWS[1:views]:
        matrix = cv2.getRotationMatrix2D((13.5, 13.5), degrees, scale)
        matrix[:, 2] += right, down
        yield np.array([cv2.warpAffine(image, matrix, (28, 28)) for image in images], np.uint8).reshape(images.shape)


def augmented_epochs(images: np.ndarray, *, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yields a new distorted copy of all images for each epoch.

    Worker processes make the next epoch while the caller trains on this one. They start at once, not at the first
    `next`, so that what the caller does in between (importing TensorFlow, say) costs no time. The result does not
    depend on the number of workers.

    Args:
        images: uint8 [n, 28, 28].
        epochs: how many copies.
        seed: the same seed gives the same copies.

    Returns:
        An iterator of uint8 [n, 28, 28].
    """
    # spawn: a fork of a process in which TensorFlow runs its threads can hang.
    pool = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), end_with_parent)

    def submit(epoch: int) -> list[Future[np.ndarray]]:
        starts = range(0, len(images), CHUNK)
        seeds = np.random.SeedSequence([seed, epoch]).generate_state(len(starts))
        return [
            pool.submit(augment, images[start : start + CHUNK], int(chunk_seed))
            for start, chunk_seed in zip(starts, seeds, strict=True)
        ]

    first = submit(0)

    def epochs_in_turn() -> Iterator[np.ndarray]:
        tasks = first
        try:
            for epoch in range(epochs):
                following = submit(epoch + 1) if epoch + 1 < epochs else []
                yield np.concatenate([task.result() for task in tasks])
                tasks = following
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    return epochs_in_turn()


def write_epochs(epochs: Iterator[np.ndarray], folder: Path, stop: threading.Event) -> None:
    """Writes each epoch to a file of a folder, for processes that share them by `read_epochs`, until told to stop."""
    for epoch, images in enumerate(epochs):
        if stop.is_set():
            return
        with replacing(folder / f"{epoch}.npy") as temporary:
            np.save(temporary, images)


def read_epochs(folder: Path, *, epochs: int) -> Iterator[np.ndarray]:
    """Yields the epochs that the parent process writes by `write_epochs`, waiting for each.

    Raises:
        RuntimeError: the parent has ended, so that nothing would come any more.
    """
    parent = multiprocessing.parent_process()
    for epoch in range(epochs):
        path = folder / f"{epoch}.npy"
        while not path.exists():
            if parent is not None and not parent.is_alive():
                raise RuntimeError(f"expected {path} of the parent process, found that it has ended")
            time.sleep(POLL_SECONDS)
        yield np.load(path, mmap_mode="r")
