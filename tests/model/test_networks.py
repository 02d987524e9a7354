"""The network's shapes, size and answers, and its normalisation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from digit_recognizer.config import PRESETS
from digit_recognizer.model.networks import (
    ARCHITECTURES,
    UPRIGHT_DEVIATION,
    FusedBatchNormalization,
    build_model,
    build_upright,
    fold_normalisation,
    make_predictor,
)


@pytest.mark.parametrize(
    ("architecture", "channels", "parameters"),
    [
        ("plain", (16, 32, 64), 72_442),
        ("plain", (32, 64, 128), 287_722),
        ("residual", (32, 64, 128), 435_818),
        ("upright", (32, 64, 128), 287_722),
    ],
)
def test_the_networks_of_the_presets(architecture, channels, parameters):
    model = build_model(architecture=architecture, channels=channels, dropout=0.1, folded=True)
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


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_fused_batch_normalisation_equals_that_of_keras(precision, tolerance, scaled):
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


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_the_folded_network_answers_as_the_trained_one_and_is_stock_keras(architecture):
    network = {"architecture": architecture, "channels": (16, 32), "dropout": 0.2}
    trained, folded = (build_model(**network, folded=folded) for folded in (False, True))
    random = np.random.default_rng(0)
    for layer in trained.layers:
        if isinstance(layer, FusedBatchNormalization):
            layer.set_weights([random.normal(0, 1, weights.shape) ** 2 + 0.1 for weights in layer.get_weights()])
    folded.set_weights(fold_normalisation(trained))
    assert all(type(layer).__module__.startswith("keras.") for layer in folded.layers)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    images = random.integers(0, 256, (7, 4, 4), np.uint8).repeat(7, axis=1).repeat(7, axis=2)
    answers = make_predictor([trained])(images)
    assert make_predictor([folded])(images) == pytest.approx(answers, abs=1e-5)
    assert answers.std(axis=0).max() > 1e-3  # of all images alike they would be equal for nothing


def test_digits_are_made_upright_and_of_one_width():
    rows, columns = np.mgrid[:28, :28].astype(np.float32)
    bar = np.exp(-(((columns - 15 - 0.5 * (rows - 13)) / 3) ** 2)) * np.exp(-(((rows - 13) / 5) ** 2))
    (upright,) = build_upright().predict(bar[np.newaxis, ..., np.newaxis], verbose=0)[..., 0]
    shares = upright / upright.sum()
    middle = (shares * columns).sum()
    assert middle == pytest.approx(13.5, abs=0.1)
    assert (shares * (columns - middle) * (rows - 13)).sum() == pytest.approx(0, abs=0.1)  # no slant
    before = np.sqrt((bar / bar.sum() * (columns - 15 - 0.5 * (rows - 13)) ** 2).sum())
    after = np.sqrt((shares * (columns - middle) ** 2).sum())
    assert before < 2.5 and after == pytest.approx(UPRIGHT_DEVIATION, abs=0.1)
    assert shares.sum(axis=1) == pytest.approx((bar / bar.sum()).sum(axis=1), abs=0.01)  # rows stay where they are


def test_a_blank_image_stays_blank():
    assert not build_upright().predict(np.zeros((2, 28, 28, 1), np.float32), verbose=0).any()


def test_a_predictor_averages_networks_and_keeps_the_order_of_many_images():
    models = [build_model(architecture="residual", channels=(4, 8), dropout=0) for _ in range(2)]
    images = np.random.default_rng(0).integers(0, 256, (1203, 28, 28), np.uint8)
    each = [model.predict(images[..., np.newaxis] / np.float32(255), verbose=0) for model in models]
    predict = make_predictor(models)
    assert predict(images) == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert predict(images[:0]).shape == (0, 10)
