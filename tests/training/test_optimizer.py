"""The optimizer."""

import keras
import numpy as np
import pytest
from keras import layers

from digit_recognizer.training.optimizer import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(40, 8), (8, 40), (16, 16)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = np.asarray(orthogonalise(matrix))
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    values = left.T @ found @ right.T
    assert found.shape == shape
    assert values - np.diag(np.diag(values)) == pytest.approx(np.zeros_like(values), abs=1e-3)
    assert np.diag(values).min() > 0.6 and np.diag(values).max() < 1.3


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [layers.Input((6, 6, 1)), layers.Conv2D(4, 3), layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(2)]
    )


def step(optimizer, model, steps=1):
    optimizer.build(model.trainable_variables)
    random = np.random.default_rng(0)
    for _ in range(steps):
        gradients = [random.normal(size=variable.shape).astype(np.float32) for variable in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
    return model.get_weights()


def test_only_convolutions_of_several_channels_differ_from_adamw():
    muon, adamw = Muon(0.1, weight_decay=0.01), keras.optimizers.AdamW(0.1, weight_decay=0.01)
    ours, theirs = step(muon, make_model(), 3), step(adamw, make_model(), 3)
    same = [bool(np.allclose(one, other)) for one, other in zip(ours, theirs, strict=True)]
    assert same == [True, True, False, True, True, True]


def test_updates_are_about_as_large_as_those_of_adamw():
    before = make_model().get_weights()[2]
    muon, adamw = (step(kind(0.1, weight_decay=0), make_model())[2] - before for kind in (Muon, keras.optimizers.AdamW))
    assert 0.1 < np.std(muon) / np.std(adamw) < 0.4
