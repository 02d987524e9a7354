"""Training images, slightly turned, scaled, shifted, sheared and bent, made ahead by worker processes."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import numpy as np

CHUNK = 2048  # images that one task of a worker augments; a part of the result, since each chunk has its own seed


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
    pool = ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))

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
