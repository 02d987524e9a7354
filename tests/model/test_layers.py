"""The fused batch normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from digit_recognizer.model.layers import FusedBatchNormalization, choose_momentum


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


@pytest.mark.parametrize(("steps", "momentum"), [(1, 0), (10, 0), (20, 0.5), (100, 0.9), (9999, 0.9)])
def test_moving_statistics_of_a_short_training_average_over_fewer_steps(steps, momentum):
    assert choose_momentum(steps) == pytest.approx(momentum)
