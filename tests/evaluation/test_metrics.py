"""Metrics of small examples computed by hand."""

import numpy as np
import pytest

from digit_recognizer.evaluation import metrics


def predict(*digits, confidence=0.9):
    probabilities = np.full((len(digits), 10), (1 - confidence) / 9, np.float32)
    probabilities[np.arange(len(digits)), digits] = confidence
    return probabilities


LABELS = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], np.uint8)
PREDICTED = predict(0, 0, 1, 1, 0, 2, 3, 4, 5, 0)


def test_accuracy_with_wilson_interval():
    result = metrics.accuracy(LABELS, PREDICTED)
    assert result.value == 0.7
    assert result.rows == 10
    # 7 of 10 by Wilson's formula: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert result.low == pytest.approx(0.39677, abs=1e-4)
    assert result.high == pytest.approx(0.89221, abs=1e-4)
    assert str(result) == "70.00% (95% confidence interval 39.68% to 89.22%, 10 images)"


def test_log_loss_is_the_mean_negative_logarithm_of_the_label_probability():
    expected = -(7 * np.log(0.9) + 3 * np.log(0.1 / 9)) / 10
    assert metrics.log_loss(LABELS, PREDICTED) == pytest.approx(expected, rel=1e-5)


def test_class_scores():
    scores = metrics.class_scores(LABELS, PREDICTED)
    zero, one, *_, nine = scores
    assert list(zero.values()) == [0, 0.5, pytest.approx(2 / 3), pytest.approx(4 / 7), 3]
    assert (one["precision"], one["recall"]) == (0.5, 0.5)
    assert nine == {"digit": 9, "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_rows_of_the_confusion_matrix_are_labels():
    matrix = metrics.confusion_matrix(LABELS, PREDICTED)
    assert matrix.shape == (10, 10)
    assert (matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[6, 0]) == (2, 1, 1, 1)
    assert matrix.sum() == 10


def test_confusions_are_sorted_by_frequency():
    labels = np.array([4, 4, 9, 9, 9, 9], np.uint8)
    found = metrics.confusions(labels, predict(1, 8, 4, 4, 4, 9))
    assert [tuple(confusion.values()) for confusion in found] == [(9, 4, 3), (4, 1, 1), (4, 8, 1)]


def test_mistakes_are_sorted_by_the_probability_of_the_label():
    probabilities = np.concatenate([predict(1, confidence=0.6), predict(5), predict(2, confidence=0.99), predict(3)])
    assert metrics.mistakes(np.array([0, 5, 0, 0], np.uint8), probabilities).tolist() == [2, 3, 0]


HISTORY = {"accuracy": np.array([0.2, 0.7]), "loss": np.array([2.0, 1.0])}


def test_plausible_result_has_no_warnings():
    assert metrics.find_warnings(LABELS, LABELS, PREDICTED, [HISTORY]) == []
    assert metrics.find_warnings(LABELS, LABELS[:0], PREDICTED[:0], [HISTORY]) == []  # trained on all rows


def test_implausible_results_are_named():
    ones, nan = np.ones(20, np.uint8), {"accuracy": np.array([0.1, 0.81]), "loss": np.array([2.0, np.nan])}
    assert metrics.find_warnings(ones, LABELS, PREDICTED, [HISTORY, nan]) == [
        "100% of the 20 labels in train.csv are the digit 1",
        "the loss of member 1 was not finite in epoch 2",
    ]
    assert metrics.find_warnings(LABELS, LABELS, predict(*[1] * 10), [HISTORY]) == [
        "100% of the 10 predictions are the digit 1",
        "the validation accuracy, 20.0%, is far below the training accuracy, 70.0%",
    ]


def test_temperature_one_changes_nothing_and_higher_ones_lower_the_confidence():
    probabilities = np.array([[0.8, 0.2, 0], [0.5, 0.25, 0.25]])
    assert metrics.apply_temperature(probabilities, 1) == pytest.approx(probabilities)
    assert metrics.apply_temperature(probabilities, 2)[0] == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1, 2.5])
def test_the_temperature_of_miscalibrated_probabilities_is_found(temperature):
    random = np.random.default_rng(1)
    calibrated = random.dirichlet(np.full(10, 0.3), 20_000)
    labels = (calibrated.cumsum(axis=1) > random.random((len(calibrated), 1))).argmax(axis=1)
    miscalibrated = metrics.apply_temperature(calibrated, 1 / temperature)
    assert metrics.fit_temperature(labels, miscalibrated) == pytest.approx(temperature, rel=0.05)
    assert metrics.fit_temperature(labels[:0], miscalibrated[:0]) == 1  # of a run trained on all rows
