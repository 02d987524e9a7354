"""Temperature scaling."""

import numpy as np
import pytest

from digit_recognizer.evaluation.calibration import apply_temperature, fit_temperature


def test_temperature_one_changes_nothing_and_higher_ones_lower_the_confidence():
    probabilities = np.array([[0.8, 0.2, 0], [0.5, 0.25, 0.25]])
    assert apply_temperature(probabilities, 1) == pytest.approx(probabilities)
    assert apply_temperature(probabilities, 2)[0] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1, 2.5])
def test_the_temperature_of_miscalibrated_probabilities_is_found(temperature):
    random = np.random.default_rng(1)
    calibrated = random.dirichlet(np.full(10, 0.3), 20_000)
    labels = (calibrated.cumsum(axis=1) > random.random((len(calibrated), 1))).argmax(axis=1)
    miscalibrated = apply_temperature(calibrated, 1 / temperature)
    assert fit_temperature(labels, miscalibrated) == pytest.approx(temperature, rel=0.05)
    assert fit_temperature(labels[:0], miscalibrated[:0]) == 1  # of a run trained on all rows
