"""Prediction with trained networks, and test-time augmentation."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras import layers

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.data.csv_files import normalise

PREDICTION_BATCH = 500  # images; larger batches exceed the processor's cache
VIEWS = (  # rotation (degrees), scale, shift right and down (pixels) of the views for test-time augmentation
    (0, 1, 0, 0),
    *((0, 1, right, down) for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *((degrees, 1, 0, 0) for degrees in (7, -7)),
    *((0, scale, 0, 0) for scale in (1.07, 0.93)),
)


def make_views(images: np.ndarray, views: int) -> Iterator[np.ndarray]:
    """Yield uint8 images [n, 28, 28], then copies that are all moved in the same way, up to the number of `views`."""
    yield images
    for degrees, scale, right, down in VIEWS[1:views]:
        matrix = cv2.getRotationMatrix2D((13.5, 13.5), degrees, scale)
        matrix[:, 2] += right, down
        yield np.array([cv2.warpAffine(image, matrix, (28, 28)) for image in images], np.uint8).reshape(images.shape)


def make_predictor(networks: Sequence[keras.Model], *, views: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a function that averages the probabilities of networks over a number of `VIEWS` of the images.

    `keras.Model.predict` builds a tf.data pipeline for each call: 125 ms for one image, where this takes 3 ms.

    Returns:
        Function from uint8 [n, 28, 28] to probabilities, float32 [n, 10].
    """

    @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 1], tf.float32)])
    def predict_batch(images: Any) -> Any:
        return tf.reduce_mean(tf.stack([network(images, training=False) for network in networks]), axis=0)

    def predict(images: np.ndarray) -> np.ndarray:
        total = np.zeros((len(images), CLASSES), np.float32)
        for view in make_views(images, views):
            for start in range(0, len(images), PREDICTION_BATCH):
                rows = slice(start, start + PREDICTION_BATCH)
                total[rows] += predict_batch(normalise(view[rows])).numpy()
        return np.nan_to_num(total / views, nan=1 / CLASSES)  # of a network whose loss was not finite

    return predict


def load_network(path: Path, precision: str = "float32") -> keras.Model:
    """Load the model.keras of a member; the convolutional part computes in `precision`, a Keras dtype policy.

    Returns:
        Model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    saved = keras.models.load_model(path, compile=False)
    if precision == "float32":
        return saved

    def in_precision(layer: keras.layers.Layer) -> keras.layers.Layer:
        keep = isinstance(layer, keras.Model | layers.InputLayer | layers.Dense)
        return layer.__class__.from_config(layer.get_config() | ({} if keep else {"dtype": precision}))

    network = keras.models.clone_model(saved, clone_function=in_precision)
    network.set_weights(saved.get_weights())
    return network
