"""The network's shapes, size and answers."""

import keras
import numpy as np
import pytest

from digit_recognizer.config import PRESETS
from digit_recognizer.model import build_model


@pytest.mark.parametrize(("preset", "parameters"), [("fast", 110_602), ("single", 437_770)])
def test_the_network_of_a_preset(preset, parameters):
    config = PRESETS[preset]
    model = build_model(channels=config.channels, dropout=config.dropout)
    assert model.input_shape == (None, 28, 28, 1)
    assert model.output_shape == (None, 10)
    assert model.count_params() == parameters
    maps = [layer.output.shape[1:] for layer in model.layers if layer.__class__.__name__ == "Add"]
    assert maps == [(size, size, width) for size, width in zip((14, 7, 3), config.channels, strict=True)]


def test_answers_are_probabilities():
    model = build_model(channels=(4, 8), dropout=0.5)
    answers = model.predict(np.random.default_rng(0).random((5, 28, 28, 1), np.float32), verbose=0)
    assert answers.shape == (5, 10)
    assert (answers >= 0).all()
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_residual_block_passes_its_input_on():
    model = build_model(channels=(4, 8), dropout=0)
    add = next(layer for layer in model.layers if layer.__class__.__name__ == "Add")
    convolution = next(layer for layer in model.layers if layer.name.startswith("conv2d") and layer.use_bias)
    convolution.set_weights([np.zeros_like(weights) for weights in convolution.get_weights()])
    parts = keras.Model(model.inputs, [add.input[0], add.output])
    before, after = parts.predict(np.ones((1, 28, 28, 1), np.float32), verbose=0)
    assert before == pytest.approx(after)
