"""Metrics on small answers that were counted by hand."""

import numpy as np
import pytest

from digit_recognizer import evaluation


def answers(*digits, certainty=0.9):
    probabilities = np.full((len(digits), 10), (1 - certainty) / 9, np.float32)
    probabilities[np.arange(len(digits)), digits] = certainty
    return probabilities


LABELS = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], np.uint8)
ANSWERS = answers(0, 0, 1, 1, 0, 2, 3, 4, 5, 0)


def test_accuracy_with_wilsons_interval():
    result = evaluation.accuracy(LABELS, ANSWERS)
    assert result.value == 0.7
    assert result.rows == 10
    # 7 of 10 by Wilson's formula: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert result.low == pytest.approx(0.39677, abs=1e-4)
    assert result.high == pytest.approx(0.89221, abs=1e-4)
    assert str(result) == "70.00% (95% confidence interval 39.68% to 89.22%, 10 images)"


def test_log_loss_is_the_mean_of_minus_the_logarithm_of_the_labels_probability():
    expected = -(7 * np.log(0.9) + 3 * np.log(0.1 / 9)) / 10
    assert evaluation.log_loss(LABELS, ANSWERS) == pytest.approx(expected, rel=1e-5)


def test_scores_of_a_class():
    zero, one, *_, nine = evaluation.class_scores(LABELS, ANSWERS)
    assert zero == {
        "digit": 0,
        "precision": 0.5,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(4 / 7),
        "support": 3,
    }
    assert (one["precision"], one["recall"]) == (0.5, 0.5)
    assert nine == {"digit": 9, "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_the_confusion_matrix_has_labels_as_rows():
    matrix = evaluation.confusion_matrix(LABELS, ANSWERS)
    assert matrix.shape == (10, 10)
    assert (matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[6, 0]) == (2, 1, 1, 1)
    assert matrix.sum() == 10


def test_confusions_come_most_frequent_first():
    labels = np.array([4, 4, 4, 9, 9], np.uint8)
    found = evaluation.confusions(labels, answers(9, 9, 4, 4, 9))
    assert [tuple(confusion) for confusion in found] == [(4, 9, 2), (9, 4, 1)]


def test_the_worst_mistake_comes_first():
    probabilities = np.concatenate([answers(1, certainty=0.6), answers(5), answers(2, certainty=0.99), answers(3)])
    assert evaluation.mistakes(np.array([0, 5, 0, 0], np.uint8), probabilities).tolist() == [2, 3, 0]
