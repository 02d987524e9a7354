"""Temperatures."""

import numpy as np
import pytest

from digit_recognizer.evaluation import calibration


def test_a_temperature_of_one_changes_nothing_and_a_higher_one_softens():
    probabilities = np.array([[0.8, 0.2, 0], [0.5, 0.25, 0.25]])
    assert calibration.temper(probabilities, 1) == pytest.approx(probabilities)
    assert calibration.temper(probabilities, 2)[0] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)


def test_no_answer_becomes_another_and_all_add_up_to_one():
    probabilities = np.random.default_rng(0).dirichlet(np.full(10, 0.1), 50)
    for temperature in (0.3, 4):
        tempered = calibration.temper(probabilities, temperature)
        assert (tempered.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert tempered.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("temperature", [0.5, 1, 2.5])
def test_the_temperature_of_overconfident_logits_is_found(temperature):
    rng = np.random.default_rng(1)
    true = rng.dirichlet(np.full(10, 0.3), 20_000)
    labels = (true.cumsum(axis=1) > rng.random((len(true), 1))).argmax(axis=1)
    answered = calibration.temper(true, 1 / temperature)  # what a network says that is sure by so much
    assert calibration.fit_temperature(labels, answered) == pytest.approx(temperature, rel=0.05)


def test_without_answers_nothing_is_changed():
    assert calibration.fit_temperature(np.zeros(0, np.uint8), np.zeros((0, 10), np.float32)) == 1
