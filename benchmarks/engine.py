"""Throughput of one network in training and prediction, and of its convolutions alone."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import PRESETS
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import load_test

STEPS = 150  # training steps that are timed
REPETITIONS = 3  # the fastest of which counts


def measure_training(precision: str) -> dict[str, float]:
    """Return the training throughput of the network of `single`, and that of its convolutions alone.

    Args:
        precision: A dtype policy of Keras.
    """
    with hide_native_messages():
        import keras
        import tensorflow as tf

        from digit_recognizer.model.networks import build_model
        from digit_recognizer.training.member import make_dataset

    config = PRESETS["single"]
    model = build_model(
        architecture=config.architectures[0], channels=config.channels, dropout=config.dropout, precision=precision
    )
    model.compile(keras.optimizers.AdamW(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    batch = (
        np.random.default_rng(0).random((config.batch_size, 28, 28, 1), np.float32),
        np.zeros(config.batch_size, np.uint8),
    )
    ends: list[float] = []
    timer = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
    steps = STEPS + 10  # the first ones include tracing
    batches = make_dataset(lambda: iter([batch] * steps))
    model.fit(batches, steps_per_epoch=steps, shuffle=False, callbacks=[timer], verbose=0)
    step = statistics.median(np.diff(ends)[10:])
    dtype = tf.as_dtype(keras.DTypePolicy(precision).compute_dtype)
    operations, convolution_seconds = 0, 0.0
    for number, layer in enumerate(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)):
        shape = (config.batch_size, *layer.input.shape[1:])
        seconds, passes = _time_convolution(shape, layer.kernel.shape, dtype, first=number == 0)
        convolution_seconds += seconds
        multiply_adds = config.batch_size * int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
        operations += 2 * passes * multiply_adds
    return {
        "images_per_second": config.batch_size / step,
        "gflops": operations / step / 1e9,
        "convolutions_gflops": operations / convolution_seconds / 1e9,
        "share": convolution_seconds / step,
    }


def _time_convolution(
    shape: Sequence[int], kernel_shape: Sequence[int], dtype: Any, *, first: bool
) -> tuple[float, int]:
    """Return the seconds of a convolution, forward and backward, and the number of its passes.

    The first convolution of a network needs no gradient of its input. Each pass is repeated inside one graph, so that
    the overhead of a call does not count.
    """
    import tensorflow as tf

    ops, options = tf.raw_ops, {"strides": [1, 1, 1, 1], "padding": "SAME"}
    images, kernel, gradient = (
        tf.cast(tf.random.normal(size), dtype) for size in (shape, kernel_shape, (*shape[:3], kernel_shape[-1]))
    )
    passes = [
        lambda: ops.Conv2D(input=images, filter=kernel, **options),
        lambda: ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel_shape, out_backprop=gradient, **options),
        lambda: ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=gradient, **options),
    ][: 2 if first else 3]
    total, repeats = 0.0, 20
    for one_pass in passes:

        @tf.function
        def repeat(count: Any, one_pass: Callable[[], Any] = one_pass) -> Any:
            last = tf.zeros([], dtype)
            for _ in tf.range(count):
                last += tf.reshape(one_pass(), [-1])[0]  # uses the result, so that no pass is optimised away
            return last

        repeat(tf.constant(2))
        total += min(_time(lambda: repeat(tf.constant(repeats)).numpy()) for _ in range(REPETITIONS)) / repeats
    return total, len(passes)


def measure_prediction(data_dir: Path, path: Path, precision: str) -> float:
    """Return the images of test.csv that one saved network predicts per second, without test-time augmentation.

    Args:
        data_dir: Folder of test.csv.
        path: model.keras of a member.
        precision: A dtype policy of Keras.
    """
    with hide_native_messages():
        from digit_recognizer.model.prediction import load_network, make_predictor

    images, predict = load_test(data_dir).images, make_predictor([load_network(path, precision)])
    predict(images[:1000])
    return len(images) / min(_time(lambda: predict(images)) for _ in range(REPETITIONS))


def _time(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
