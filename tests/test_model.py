"""The network's shapes, size and answers, and its normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from digit_recognizer.config import PRESETS
from digit_recognizer.model import ARCHITECTURES, FusedBatchNormalization, build_model, make_predictor


@pytest.mark.parametrize(
    ("architecture", "channels", "parameters"),
    [("plain", (16, 32, 64), 73_114), ("plain", (32, 64, 128), 289_066), ("residual", (32, 64, 128), 437_770)],
)
def test_the_networks_of_the_presets(architecture, channels, parameters):
    model = build_model(architecture=architecture, channels=channels, dropout=0.1)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert model.count_params() == parameters
    sizes = [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert sizes == [14, 7, 3]
    assert any(isinstance(layer, keras.layers.Add) for layer in model.layers) == (architecture == "residual")


def test_every_preset_has_networks_that_there_are():
    assert {name for config in PRESETS.values() for name in config.architectures} == set(ARCHITECTURES)


def test_answers_are_probabilities():
    model = build_model(architecture="residual", channels=(4, 8), dropout=0.5)
    answers = model.predict(np.random.default_rng(0).random((5, 28, 28, 1), np.float32), verbose=0)
    assert answers.shape == (5, 10)
    assert (answers >= 0).all()
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_residual_block_passes_its_input_on():
    model = build_model(architecture="residual", channels=(4, 8), dropout=0)
    add = next(layer for layer in model.layers if layer.__class__.__name__ == "Add")
    convolution = next(layer for layer in model.layers if layer.name.startswith("conv2d") and layer.use_bias)
    convolution.set_weights([np.zeros_like(weights) for weights in convolution.get_weights()])
    parts = keras.Model(model.inputs, [add.input[0], add.output])
    before, after = parts.predict(np.ones((1, 28, 28, 1), np.float32), verbose=0)
    assert before == pytest.approx(after)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_fused_batch_normalisation_equals_that_of_keras(precision, tolerance):
    random = np.random.default_rng(0)
    inputs = tf.constant(random.normal(3, 2, (4, 5, 6, 16)), tf.float32)
    weights = tf.constant(random.normal(size=(4, 5, 6, 16)), tf.float32)  # of the outputs in the loss
    scale, offset = random.uniform(0.5, 2, 16), random.normal(size=16)

    def apply(layer):
        layer.build(inputs.shape)
        layer.set_weights([scale, offset, np.full(16, 0.5), np.full(16, 3.0)])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            trained = tf.cast(layer(inputs, training=True), tf.float32)
            loss = tf.reduce_sum(weights * trained)
        variables = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(loss, [inputs, *variables])
        statistics = layer.get_weights()[2:]
        return [trained, *gradients, *statistics, tf.cast(layer(inputs, training=False), tf.float32)]

    ours = apply(FusedBatchNormalization(momentum=0.9, dtype=precision))
    for found, expected in zip(ours, apply(keras.layers.BatchNormalization(momentum=0.9)), strict=True):
        expected = np.asarray(expected)
        assert np.asarray(found) == pytest.approx(expected, abs=tolerance * float(np.abs(expected).max()))


def test_the_fused_network_has_the_weights_of_the_stock_one():
    fused, stock = (
        build_model(architecture="residual", channels=(16, 32), dropout=0, fused=fused) for fused in (True, False)
    )
    stock.set_weights(fused.get_weights())
    assert all(type(layer).__module__.startswith("keras.") for layer in stock.layers)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    assert make_predictor([fused])(images) == pytest.approx(make_predictor([stock])(images), abs=1e-5)


def test_a_predictor_averages_networks_and_keeps_the_order_of_many_images():
    models = [build_model(architecture="residual", channels=(4, 8), dropout=0) for _ in range(2)]
    images = np.random.default_rng(0).integers(0, 256, (1203, 28, 28), np.uint8)
    each = [model.predict(images[..., np.newaxis] / np.float32(255), verbose=0) for model in models]
    predict = make_predictor(models)
    assert predict(images) == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert predict(images[:0]).shape == (0, 10)
