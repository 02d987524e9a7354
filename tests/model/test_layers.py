"""The layers that TensorFlow computes in another way than Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from digit_recognizer.model.layers import FastConv2D, FusedBatchNormalization


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_outputs_gradients_and_statistics_equal_those_of_keras(precision, tolerance, scaled):
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(3, 2, (4, 5, 6, 16)), tf.float32)
    weights = tf.constant(random.normal(size=(4, 5, 6, 16)), tf.float32)  # of the outputs in the loss
    scale, offset = random.uniform(0.5, 2, 16), random.normal(size=16)

    def apply(layer):
        layer.build(inputs.shape)
        layer.set_weights([*([scale] if scaled else []), offset, np.full(16, 0.5), np.full(16, 3.0)])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            trained = tf.cast(layer(inputs, training=True), tf.float32)
            loss = tf.reduce_sum(weights * trained)
        variables = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(loss, [inputs, *variables])
        statistics = layer.get_weights()[-2:]
        return [trained, *gradients, *statistics, tf.cast(layer(inputs, training=False), tf.float32)]

    ours = apply(FusedBatchNormalization(momentum=0.9, scale=scaled, dtype=precision))
    for found, expected in zip(ours, apply(keras.layers.BatchNormalization(momentum=0.9, scale=scaled)), strict=True):
        expected = np.asarray(expected)
        assert np.asarray(found) == pytest.approx(expected, abs=tolerance * float(np.abs(expected).max()))


@pytest.mark.parametrize("size", [(3, 3), (2, 3), (1, 1), (4, 3)])  # the last one is larger than the kernel
@pytest.mark.parametrize("kernel_size", [3, (3, 4)])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_a_convolution_has_the_outputs_and_gradients_of_keras(precision, tolerance, kernel_size, size):
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(size=(7, *size, 16)), tf.float32)
    weights = tf.constant(random.normal(size=(7, *size, 32)), tf.float32)  # of the outputs in the loss

    def apply(kind):
        keras.utils.set_random_seed(0)
        layer = kind(32, kernel_size, padding="same", dtype=precision)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = tf.cast(layer(inputs), tf.float32)
            loss = tf.reduce_sum(weights * outputs)
        return [outputs, *tape.gradient(loss, [inputs, *(variable.value for variable in layer.trainable_variables)])]

    for found, expected in zip(apply(FastConv2D), apply(keras.layers.Conv2D), strict=True):
        expected = np.asarray(expected)
        assert np.asarray(found) == pytest.approx(expected, abs=tolerance * float(np.abs(expected).max()))
