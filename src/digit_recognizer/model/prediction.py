"""Prediction with trained networks, and test-time augmentation."""

import json
import zipfile
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
from digit_recognizer.files import check_unpacked_size, reading

PREDICTION_BATCH = 500  # images; larger batches exceed the processor's cache
VIEWS = (  # rotation (degrees), scale, shift right and down (pixels) of the views for test-time augmentation
    (0, 1, 0, 0),
    *((0, 1, right, down) for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1))),
    *((degrees, 1, 0, 0) for degrees in (7, -7)),
    *((0, scale, 0, 0) for scale in (1.07, 0.93)),
)


CLASS_NAMES = (  # in the configuration of a saved network, below keras
    "DTypePolicy Functional GlorotUniform Zeros "
    "Add Conv2D Dense Dropout GlobalAveragePooling2D InputLayer MaxPooling2D ReLU "
    "AffineTransform Clip Concatenate Maximum Multiply OnesLike Power Reshape Sqrt Subtract Sum TrueDivide ZerosLike"
)
KNOWN = {f"keras.{name}" for name in CLASS_NAMES.split()} | {"None.__keras_tensor__", "None.__numpy__"}


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


def _find_classes(config: Any) -> Iterator[str]:
    """Yield the classes that a Keras configuration names, with the packages that they come from."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield f"{str(config.get('module')).partition('.')[0]}.{config['class_name']}"
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _find_classes(value)


def load_network(path: Path, precision: str = "float32") -> keras.Model:
    """Load the model.keras of a member; the convolutional part computes in `precision`, a Keras dtype policy.

    The file may be somebody else's: only the layers of `build_model` are made, and no more weights than it holds.

    Returns:
        Model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].

    Raises:
        UserError: The file is missing, damaged, or another network.
    """
    remedy = f"delete {path.parent} and run `make train` again"
    with reading(path, "a network of `make train`", remedy), path.open("rb") as file:
        check_unpacked_size(file)
        config = json.loads(zipfile.ZipFile(file).read("config.json"))
        if foreign := sorted(set(_find_classes(config)) - KNOWN):
            raise ValueError(f"the class {foreign[0]}")
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
