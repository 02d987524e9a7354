"""How good answers are. Everything here takes labels and probabilities, never a model."""

from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES


class Accuracy(NamedTuple):
    """A share of right answers with its 95% confidence interval."""

    value: float  # 0..1
    low: float
    high: float
    rows: int

    def __str__(self) -> str:
        """Returns it as people write it."""
        return f"{self.value:.2%} (95% confidence interval {self.low:.2%} to {self.high:.2%}, {self.rows:,} images)"


class Confusion(NamedTuple):
    """How often one digit was taken for another."""

    label: int
    predicted: int
    count: int


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    """Returns the share of right answers with its Wilson interval (doi:10.1080/01621459.1927.10502953).

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10].
    """
    from scipy.stats import binomtest

    right = int((probabilities.argmax(axis=1) == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(confidence_level=0.95, method="wilson")
    return Accuracy(right / len(labels), interval.low, interval.high, len(labels))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the mean cross-entropy in nats. Takes what `accuracy` takes."""
    from sklearn import metrics

    # In float64 the rows add up to 1 as exactly as scikit-learn asks for.
    probabilities = probabilities.astype(np.float64)
    return float(
        metrics.log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(CLASSES))
    )


def class_scores(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Returns digit, precision, recall, f1 (0..1) and support (rows) of each class. Takes what `accuracy` takes."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=range(CLASSES), zero_division=0
    )
    return [
        {
            "digit": digit,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for digit, (precision, recall, f1, support) in enumerate(zip(*columns, strict=True))
    ]


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns counts, int64 [10, 10]: row the label, column the answer. Takes what `accuracy` takes."""
    from sklearn import metrics

    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(CLASSES))


def confusions(labels: np.ndarray, probabilities: np.ndarray) -> list[Confusion]:
    """Returns every confusion that occurred, the most frequent first. Takes what `accuracy` takes."""
    matrix = confusion_matrix(labels, probabilities)
    pairs = [
        Confusion(int(label), int(predicted), int(matrix[label, predicted]))
        for label, predicted in np.argwhere(matrix)
        if label != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, pair.label, pair.predicted))


def mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the positions of the wrong answers, the least probability of the label first.

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10].

    Returns:
        int64 [number of mistakes].
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(of_label[wrong], kind="stable")]
