"""Augmentation: randomly rotated, scaled, shifted, sheared and bent training images."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future

import numpy as np

CHUNK = 2048  # images per task; each chunk has its own seed, so the size is part of the result
GROUP = 8  # random images of a chunk that are distorted alike, as channels: a seventh of the time of one by one


def augment(images: np.ndarray, seed: int) -> np.ndarray:
    """Return a randomly distorted copy of each image, uint8 [n, 28, 28]; the same seed gives the same copies.

    Affine: rotation within 12 degrees, scale within 12%, shift within 2.2 pixels, shear within 8 degrees. Half of the
    images also get a mild elastic distortion (Simard, Steinkraus and Platt 2003, doi:10.1109/ICDAR.2003.1227801).
    `GROUP` images at a time, chosen anew by each seed, share a distortion.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # on import it would look for its latest version on the internet
    import albumentations as A  # noqa: N812
    import cv2

    cv2.setNumThreads(0)  # the images are too small to share between threads
    distort = A.Compose(
        [
            A.Affine(rotate=(-12, 12), scale=(0.88, 1.12), translate_percent=(-0.08, 0.08), shear=(-8, 8), p=1),
            A.ElasticTransform(alpha=20, sigma=4, p=0.5),
        ],
        seed=seed,
    )
    order = np.random.default_rng(seed).permutation(len(images))
    distorted = np.empty_like(images)
    for rows in np.split(order, range(GROUP, len(images), GROUP)):
        group = distort(image=np.ascontiguousarray(images[rows].transpose(1, 2, 0)))["image"]
        distorted[rows] = group.transpose(2, 0, 1)
    return distorted


def augmented_epochs(
    images: np.ndarray, *, epochs: int, seed: int, executor: Executor, first: int = 0
) -> Iterator[np.ndarray]:
    """Return an iterator of augmented copies of all images, uint8 [n, 28, 28], one for each epoch from `first` on.

    The executor prepares the next epoch while the caller trains on the current one. It starts with this call, not
    with the first `next`. The result depends on the seed, not on the number of workers.
    """
    starts = range(0, len(images), CHUNK)

    def submit(epoch: int) -> list[Future[np.ndarray]]:
        if epoch >= epochs:
            return []
        seeds = np.random.SeedSequence([seed, epoch]).generate_state(len(starts)).tolist()
        chunks = zip(starts, seeds, strict=True)
        return [executor.submit(augment, images[start : start + CHUNK], chunk_seed) for start, chunk_seed in chunks]

    def results(tasks: list[Future[np.ndarray]]) -> Iterator[np.ndarray]:
        for epoch in range(first, epochs):
            following = submit(epoch + 1)
            yield np.concatenate([task.result() for task in tasks])
            tasks = following

    return results(submit(first))
