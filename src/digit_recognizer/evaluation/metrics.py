"""Classification metrics.

Labels are uint8 [n] in 0..9, n at least 1; probabilities are float32 [n, 10], from networks not trained on the images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES

MAJORITY = 0.9  # a larger share of one digit is implausible
OVERFITTED = 0.1  # a validation accuracy that is lower than the training accuracy by more than this is implausible


class Accuracy(NamedTuple):
    """An accuracy with its 95% confidence interval."""

    value: float  # 0..1
    low: float
    high: float
    rows: int

    def __str__(self) -> str:
        """Return, for example, "99.50% (95% confidence interval 99.24% to 99.67%, 4,200 images)"."""
        return f"{self.value:.2%} (95% confidence interval {self.low:.2%} to {self.high:.2%}, {self.rows:,} images)"


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    """Return the accuracy with its Wilson interval."""
    return proportion(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))


def proportion(successes: int, count: int) -> Accuracy:
    """Return `successes / count` with its Wilson interval (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    from scipy.stats import binomtest

    interval = binomtest(successes, count).proportion_ci(confidence_level=0.95, method="wilson")
    return Accuracy(successes / count, float(interval.low), float(interval.high), count)


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy in nats."""
    from sklearn import metrics

    # scikit-learn requires rows that sum to 1 more exactly than float32 does.
    exact = probabilities.astype(np.float64)
    return float(metrics.log_loss(labels, exact / exact.sum(axis=1, keepdims=True), labels=range(CLASSES)))


def find_warnings(
    train_labels: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    histories: Sequence[Mapping[str, np.ndarray]],
) -> list[str]:
    """Return what is implausible about a trained run, one line each.

    `train_labels` are those of all rows, uint8 [m]; of the validation rows there may be none. `histories` are each
    member's values per epoch, with `accuracy` and `loss`.
    """
    warnings = describe_majority("labels in train.csv", train_labels)
    warnings += describe_majority("predictions", probabilities.argmax(axis=1))
    for member, history in enumerate(histories):
        finite = np.isfinite(history["loss"])
        if not finite.all():
            warnings.append(f"the loss of member {member} was not finite in epoch {finite.argmin() + 1}")
    trained = float(np.mean([history["accuracy"][-1] for history in histories]))
    validated = accuracy(labels, probabilities).value if len(labels) else 1.0
    if trained - validated > OVERFITTED:
        warnings.append(f"the validation accuracy, {validated:.1%}, is far below the training accuracy, {trained:.1%}")
    return warnings


def describe_majority(what: str, digits: np.ndarray) -> list[str]:
    """Return a line about digits, integers [n] in 0..9, if implausibly many are the same; otherwise none."""
    counts = np.bincount(digits, minlength=CLASSES)
    share = counts.max() / max(len(digits), 1)
    return [f"{share:.0%} of the {len(digits):,} {what} are the digit {counts.argmax()}"] if share > MAJORITY else []


def validation_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Return accuracy, loss and number of validation rows for the record of a run; None without rows."""
    return {
        "validation_accuracy": accuracy(labels, probabilities).value if len(labels) else None,
        "validation_loss": log_loss(labels, probabilities) if len(labels) else None,
        "validation_rows": len(labels),
    }


def class_scores(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Return digit, precision, recall, f1 (0..1; 0 if undefined) and support (images) of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    names, predicted = ("digit", "precision", "recall", "f1", "support"), probabilities.argmax(axis=1)
    scores = precision_recall_fscore_support(labels, predicted, labels=range(CLASSES), zero_division=0)
    columns = range(CLASSES), *(column.tolist() for column in scores)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return image counts, int64 [10, 10]: rows are labels, columns predictions."""
    from sklearn import metrics

    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(CLASSES))


def confusions(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, int]]:
    """Return label, predicted and count (images) of each pair of confused digits, most frequent first."""
    matrix = confusion_matrix(labels, probabilities)
    np.fill_diagonal(matrix, 0)
    pairs = [{"label": i, "predicted": j, "count": int(matrix[i, j])} for i, j in np.argwhere(matrix).tolist()]
    return sorted(pairs, key=lambda pair: -pair["count"])


def mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the positions of wrong predictions, int64 [k], lowest probability of the label first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature from 0.2 to 5 that minimises the cross-entropy; 1 if there are no labels.

    Source: Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):  # the run was trained on all rows
        return 1.0

    def loss(logarithm: float) -> float:
        return log_loss(labels, apply_temperature(probabilities, np.exp(logarithm)))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.2, 5]), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of softmax probabilities, float [n, 10], by a temperature; return float64 [n, 10].

    The predicted digits do not change; temperatures above 1 lower the confidence.
    """
    from scipy.special import softmax

    return softmax(np.log(np.maximum(probabilities, 1e-12, dtype=np.float64)) / temperature, axis=1)
