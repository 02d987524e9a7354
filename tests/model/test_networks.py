"""Architecture and export of the networks."""

import keras
import numpy as np
import pytest

from digit_recognizer.config import ARCHITECTURES
from digit_recognizer.model.layers import FusedBatchNormalization
from digit_recognizer.model.networks import build_model, fold_normalisation
from digit_recognizer.model.prediction import make_predictor


@pytest.mark.parametrize(
    ("architecture", "channels", "parameters"), [("plain", (16, 32, 64), 72_698), ("residual", (32, 64, 128), 435_818)]
)
def test_input_output_and_parameters_of_the_networks_of_the_presets(architecture, channels, parameters):
    model = build_model(architecture=architecture, channels=channels, dropout=0.1, folded=True)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert model.count_params() == parameters
    sizes = [layer.output.shape[1] for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    assert sizes == [12, 6, 3]
    assert any(isinstance(layer, keras.layers.Add) for layer in model.layers) == (architecture == "residual")


def test_a_residual_block_with_zero_weights_is_the_identity():
    model = build_model(architecture="residual", channels=(4, 8), dropout=0)
    add = next(layer for layer in model.layers if layer.__class__.__name__ == "Add")
    convolution = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D) and layer.use_bias)
    convolution.set_weights([np.zeros_like(weights) for weights in convolution.get_weights()])
    parts = keras.Model(model.inputs, [add.input[0], add.output])
    before, after = parts.predict(np.ones((1, 28, 28, 1), np.float32), verbose=0)
    assert before == pytest.approx(after)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_folded_network_is_stock_keras_and_computes_the_same(architecture):
    keras.utils.set_random_seed(0)
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
    probabilities = make_predictor([trained])(images)
    assert make_predictor([folded])(images) == pytest.approx(probabilities, abs=1e-5)
    assert probabilities.std(axis=0).max() > 1e-3  # differs between images
