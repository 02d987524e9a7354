"""Metrics on small answers that were counted by hand."""

import numpy as np
import pytest

from digit_recognizer.evaluation import metrics


def answers(*digits, certainty=0.9):
    probabilities = np.full((len(digits), 10), (1 - certainty) / 9, np.float32)
    probabilities[np.arange(len(digits)), digits] = certainty
    return probabilities


LABELS = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6], np.uint8)
ANSWERS = answers(0, 0, 1, 1, 0, 2, 3, 4, 5, 0)


def test_accuracy_with_wilsons_interval():
    result = metrics.accuracy(LABELS, ANSWERS)
    assert result.value == 0.7
    assert result.rows == 10
    # 7 of 10 by Wilson's formula: (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    assert result.low == pytest.approx(0.39677, abs=1e-4)
    assert result.high == pytest.approx(0.89221, abs=1e-4)
    assert str(result) == "70.00% (95% confidence interval 39.68% to 89.22%, 10 images)"


def test_log_loss_is_the_mean_of_minus_the_logarithm_of_the_labels_probability():
    expected = -(7 * np.log(0.9) + 3 * np.log(0.1 / 9)) / 10
    assert metrics.log_loss(LABELS, ANSWERS) == pytest.approx(expected, rel=1e-5)


def test_scores_of_a_class():
    zero, one, *_, nine = metrics.class_scores(LABELS, ANSWERS)
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
    matrix = metrics.confusion_matrix(LABELS, ANSWERS)
    assert matrix.shape == (10, 10)
    assert (matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[6, 0]) == (2, 1, 1, 1)
    assert matrix.sum() == 10


def test_confusions_come_most_frequent_first():
    labels = np.array([4, 4, 4, 9, 9], np.uint8)
    found = metrics.confusions(labels, answers(9, 9, 4, 4, 9))
    assert [tuple(confusion) for confusion in found] == [(4, 9, 2), (9, 4, 1)]


def test_the_worst_mistake_comes_first():
    probabilities = np.concatenate([answers(1, certainty=0.6), answers(5), answers(2, certainty=0.99), answers(3)])
    assert metrics.mistakes(np.array([0, 5, 0, 0], np.uint8), probabilities).tolist() == [2, 3, 0]


def test_calibration_by_hand():
    probabilities = np.concatenate([answers(0, 0, 1, certainty=0.62), answers(3, 3, certainty=0.94)])
    result = metrics.calibration(np.array([0, 0, 0, 3, 4], np.uint8), probabilities, bins=10)
    assert result.counts.tolist() == [3, 2]
    assert result.confidence == pytest.approx([0.62, 0.94])
    assert result.accuracy == pytest.approx([2 / 3, 1 / 2])
    assert result.error == pytest.approx(3 / 5 * abs(2 / 3 - 0.62) + 2 / 5 * abs(1 / 2 - 0.94))


def test_certain_answers_are_in_the_last_bin_and_perfectly_calibrated_when_right():
    result = metrics.calibration(np.arange(10, dtype=np.uint8), np.eye(10, dtype=np.float32))
    assert (result.counts.tolist(), result.error) == ([10], 0)


def noisy_answers(rows=2000, flipped=25):
    """Probabilities of a good network, labels of which some were flipped, and those of them that it is sure of."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 10, rows)
    sure = random.random(rows) < 0.9
    certainty = np.where(sure, 0.98, 0.6)[:, np.newaxis]
    probabilities = np.where(np.arange(10) == truth[:, np.newaxis], certainty, (1 - certainty) / 9)
    changed = np.sort(random.permutation(rows)[:flipped])
    labels = truth.copy()
    labels[changed] = (truth[changed] + random.integers(1, 10, flipped)) % 10
    return labels.astype(np.uint8), probabilities.astype(np.float32), changed[sure[changed]]


def test_labels_that_were_flipped_look_wrong():
    labels, probabilities, changed = noisy_answers()
    found = metrics.label_issues(labels, probabilities)
    assert sorted(found) == changed.tolist()
    margins = probabilities[found, labels[found]] - probabilities[found].max(axis=1)
    assert (np.diff(margins) >= 0).all()


def test_an_unsure_answer_that_differs_from_the_label_is_no_issue():
    labels = np.zeros(4, np.uint8)
    probabilities = np.concatenate([answers(0, 0, 0), answers(1, certainty=0.5)])
    labels[1:3] = [0, 1]  # the threshold of the digit 1 is what its one image gets
    assert metrics.label_issues(np.array([0, 0, 0, 0], np.uint8), probabilities).tolist() == []
    sure = np.concatenate([answers(0, 0, 1, 1), answers(1)])
    assert metrics.label_issues(np.array([0, 0, 1, 1, 0], np.uint8), sure).tolist() == [4]


def test_disagreement_counts_votes_and_differences_from_the_mean():
    members = np.stack([answers(1, 2, 3), answers(1, 2, 4), answers(1, 5, 4, certainty=0.8)])
    result = metrics.disagreement(members)
    assert result.shares == pytest.approx([1 / 3, 0, 1 / 3])
    assert result.votes[:, [1, 2, 3, 4, 5]].tolist() == [[3, 0, 0, 0, 0], [0, 2, 0, 0, 1], [0, 0, 1, 2, 0]]
    assert result.split.tolist() == [1, 2]


def test_the_paired_test_looks_at_the_discordant_images_alone():
    labels = np.array([0] * 20, np.uint8)
    first, second = answers(*[0] * 18, 1, 1), answers(*[0] * 11, *[1] * 7, 0, 1)
    result = metrics.paired_test(labels, first, second)
    assert (result.both_right, result.both_wrong) == (11, 1)
    assert (result.fixed.tolist(), result.broken.tolist()) == ([18], list(range(11, 18)))
    assert result.p_value == pytest.approx(2 * (1 + 8) / 2**8)  # one or none of eight, and the mirror image


def test_equal_runs_do_not_differ():
    result = metrics.paired_test(LABELS, ANSWERS, ANSWERS)
    assert (len(result.fixed), len(result.broken), result.p_value) == (0, 0, 1)
