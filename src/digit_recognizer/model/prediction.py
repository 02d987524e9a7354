"""Prediction with trained networks."""

import contextlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.data.csv_files import normalise
from digit_recognizer.files import check_unpacked_size, reading

PREDICTION_BATCH = 500  # images; larger batches exceed the processor's cache


def make_predictor(networks: Sequence[keras.Model], *, shifts: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """Compile a function that averages the probabilities of networks.

    With `shifts` they are also averaged over copies of the images that are shifted by one pixel in four directions.
    `keras.Model.predict` builds a tf.data pipeline for each call: 125 ms for one image, where this takes 3 ms.

    Returns:
        Function from uint8 [n, 28, 28] to probabilities, float32 [n, 10].
    """

    @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 1], tf.float32)])
    def predict_batch(images: Any) -> Any:
        return tf.reduce_mean(tf.stack([network(images, training=False) for network in networks]), axis=0)

    def predict(images: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(images), CLASSES), np.float32)
        for start in range(0, len(images), PREDICTION_BATCH):
            rows = slice(start, start + PREDICTION_BATCH)
            probabilities[rows] = predict_batch(normalise(images[rows])).numpy()
        return np.nan_to_num(probabilities, nan=1 / CLASSES)  # of a network whose loss was not finite

    def predict_shifted(images: np.ndarray) -> np.ndarray:
        padded, size = np.pad(images, ((0, 0), (1, 1), (1, 1))), IMAGE_SIZE
        corners = (1, 1), (0, 1), (2, 1), (1, 0), (1, 2)
        copies = (padded[:, top : top + size, left : left + size] for top, left in corners)
        return np.mean([predict(copy) for copy in copies], axis=0)

    return predict_shifted if shifts else predict


def load_network(path: Path, precision: str = "float32") -> keras.Model:
    """Load the model.keras of a member; the convolutional part computes in `precision`, a Keras dtype policy.

    The file may be somebody else's: Keras' safe mode runs no code of it, and it takes no more memory than its size.

    Returns:
        Model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].

    Raises:
        UserError: The file is missing, damaged, or another network.
    """
    with reading(path, "a network of `make train`", _find_remedy(path)), path.open("rb") as file:
        check_unpacked_size(file)
        config = json.loads(zipfile.ZipFile(file).read("config.json"))
        with keras.StatelessScope(initialize_variables=False):  # without memory for the weights
            planned = keras.saving.deserialize_keras_object(config, safe_mode=True)
        shapes, size = (planned.input_shape, planned.output_shape), 4 * planned.count_params()
        if shapes != ((None, IMAGE_SIZE, IMAGE_SIZE, 1), (None, CLASSES)) or size > path.stat().st_size:
            raise ValueError(f"a network of {size:,} bytes from {shapes[0]} to {shapes[1]}")
        saved = keras.models.load_model(path, compile=False, safe_mode=True)
    if precision == "float32":
        return saved

    def in_precision(layer: keras.layers.Layer) -> keras.layers.Layer:
        keep = isinstance(layer, keras.Model | layers.InputLayer | layers.Dense)
        return layer.__class__.from_config(layer.get_config() | ({} if keep else {"dtype": precision}))

    network = keras.models.clone_model(saved, clone_function=in_precision)
    network.set_weights(saved.get_weights())
    return network


def _find_remedy(path: Path) -> str:
    """Return what to do if a network cannot be loaded; one of another Keras may be good."""
    with contextlib.suppress(Exception), zipfile.ZipFile(path) as file:
        version = str(json.loads(file.read("metadata.json"))["keras_version"])[:20]
        if version != keras.__version__:
            return f"Keras {version} saved it, this is Keras {keras.__version__}: install that version"
    return f"move {path.parent} away and run `make train` again"
