"""Throughput of the training of one network, of its convolutions alone, and of a matrix product."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from digit_recognizer.config import CLASSES, IMAGE_SIZE, PRESETS
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold

STEPS = 150  # training steps that are timed
WARM_UP = 10  # steps before them, the first of which includes tracing
REPETITIONS = 3  # the fastest of which counts
MATRIX = 2048  # rows and columns of the matrices


def measure_training(precision: str) -> dict[str, float]:
    """Return the arithmetic rate of the training of `single`, of its convolutions alone, and of a matrix product.

    The precision is a dtype policy of Keras.
    """
    with hide_native_messages():
        import keras
        import tensorflow as tf

        from digit_recognizer.model.networks import build_model
        from digit_recognizer.training import member

    member.REPORT_SECONDS = 0  # every step is reported
    config = replace(PRESETS["single"], epochs=1, rows_per_epoch=1.0, augment=False)
    rows, random = (STEPS + WARM_UP + 1) * config.batch_size, np.random.default_rng(0)
    images = random.integers(0, 256, (rows + CLASSES, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    data = Dataset(images, random.integers(0, CLASSES, len(images), np.uint8), "")
    ends: list[float] = []
    folds = [Fold(np.arange(rows), np.arange(rows, len(images)))]

    def note_end(*_: Any) -> None:
        ends.append(time.perf_counter())

    member.train_member(config, data, folds, 0, precision=precision, augmented=iter(()), report=note_end)
    step = statistics.median(np.diff(ends)[WARM_UP:-1])  # the last one includes the validation
    dtype = tf.as_dtype(keras.DTypePolicy(precision).compute_dtype)
    operations, convolution_seconds = 0, 0.0
    (architecture,) = config.architectures
    model = build_model(
        architecture=architecture, channels=config.channels, dropout=config.dropout, precision=precision
    )
    for number, layer in enumerate(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)):
        seconds, passes = _time_convolution(layer, config.batch_size, dtype, first=number == 0)
        convolution_seconds += seconds
        multiply_adds = config.batch_size * int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
        operations += 2 * passes * multiply_adds
    matrix = tf.cast(tf.random.normal((MATRIX, MATRIX)), dtype)
    product = 2 * MATRIX**3 / _time_operator(lambda: tf.matmul(matrix, matrix), dtype)
    convolutions = operations / convolution_seconds
    return {
        "images_per_second": config.batch_size / step,
        "gflops": operations / step / 1e9,
        "convolutions_gflops": convolutions / 1e9,
        "matrix_gflops": product / 1e9,
        "share": convolution_seconds / step,
        "convolutions_share": convolutions / product,
    }


def _time_convolution(layer: Any, batch_size: int, dtype: Any, *, first: bool) -> tuple[float, int]:
    """Return the seconds of a convolutional layer, forward and backward, and the number of its passes.

    The first convolution of a network needs no gradient of its input.
    """
    import tensorflow as tf

    shape, output_shape = ((batch_size, *tensor.shape[1:]) for tensor in (layer.input, layer.output))
    shapes = shape, layer.kernel.shape, output_shape
    images, kernel, gradient = (tf.cast(tf.random.normal(size), dtype) for size in shapes)

    def differentiate(variable: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(variable)
            outputs = layer.convolution_op(images, kernel)
        return tape.gradient(outputs, variable, gradient)

    passes = [lambda: layer.convolution_op(images, kernel), lambda: differentiate(kernel)]
    passes += [] if first else [lambda: differentiate(images)]
    return sum(_time_operator(operator, dtype) for operator in passes), len(passes)


def _time_operator(operator: Callable[[], Any], dtype: Any, repeats: int = 20) -> float:
    """Return the seconds of an operator, repeated inside one graph, so that the overhead of a call does not count."""
    import tensorflow as tf

    @tf.function
    def repeat(count: Any) -> Any:
        last = tf.zeros([], dtype)
        for _ in tf.range(count):
            last += tf.reshape(operator(), [-1])[0]  # uses the result, so that no pass is optimised away
        return last

    repeat(tf.constant(2))
    return min(measure_seconds(lambda: repeat(tf.constant(repeats)).numpy()) for _ in range(REPETITIONS)) / repeats


def measure_seconds(function: Callable[[], Any]) -> float:
    """Call a function and return how long it took."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
