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


class Calibration(NamedTuple):
    """The probabilities of answers beside the shares of right ones, in bins of the probability that are not empty."""

    confidence: np.ndarray  # float64 [bins], mean probability of the answers, ascending
    accuracy: np.ndarray  # float64 [bins]
    counts: np.ndarray  # int64 [bins]
    error: float  # expected calibration error: the mean distance of the two over the answers


class Disagreement(NamedTuple):
    """Where members differ from each other and from their ensemble."""

    shares: np.ndarray  # float64 [members], of the images that a member answers otherwise than the ensemble
    votes: np.ndarray  # int64 [n, 10], members for each answer
    split: np.ndarray  # int64 [k], positions of the images that not all answer alike, the least agreed on first


class PairedTest(NamedTuple):
    """Right and wrong answers of two runs to the same images, and McNemar's exact test of their difference."""

    both_right: int
    both_wrong: int
    fixed: np.ndarray  # int64, positions that the first has wrong and the second right
    broken: np.ndarray  # int64, positions that the first has right and the second wrong
    p_value: float  # of so uneven a split of fixed and broken ones if the runs were equally good


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    """Returns the share of right answers with its Wilson interval (doi:10.1080/01621459.1927.10502953).

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10].
    """
    return share(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))


def share(right: int, count: int) -> Accuracy:
    """Returns `right` out of `count`, at least 1, with the Wilson interval."""
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(confidence_level=0.95, method="wilson")
    return Accuracy(right / count, interval.low, interval.high, count)


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


def calibration(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Calibration:
    """Returns how far probabilities can be believed (Guo et al. 2017, arXiv:1706.04599).

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10].
        bins: of equal width.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    index = np.ceil(confidence * bins).astype(int).clip(1, bins) - 1
    counts = np.bincount(index, minlength=bins)
    filled = counts > 0
    means = [np.bincount(index, values, bins)[filled] / counts[filled] for values in (confidence, right)]
    error = float(np.average(np.abs(means[0] - means[1]), weights=counts[filled]))
    return Calibration(*means, counts[filled], error)


def label_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the positions of images that look mislabelled, by confident learning, the clearest first.

    An image is taken to be of the class whose probability is not below that class' threshold, the mean probability
    that images labelled so get; it is an issue when this is not its label (the confident joint of Northcutt, Jiang and
    Chuang 2021, doi:10.1613/jair.1.12125). They are ordered by the probability of the label less the highest one.

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10], of networks that were not trained on these images.

    Returns:
        int64 [number of issues].
    """
    present = np.isin(np.arange(CLASSES), labels)
    thresholds = np.array(
        [probabilities[labels == digit, digit].mean() if present[digit] else np.inf for digit in range(CLASSES)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    issues = np.flatnonzero((confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != labels))
    margins = probabilities[issues, labels[issues]] - probabilities[issues].max(axis=1)
    return issues[np.argsort(margins, kind="stable")]


def disagreement(probabilities: np.ndarray) -> Disagreement:
    """Returns how much members differ, for images whose labels need not be known.

    Args:
        probabilities: float32 [members, n, 10]; the ensemble's are their mean.
    """
    answers = probabilities.argmax(axis=2)
    ensemble = probabilities.mean(axis=0).argmax(axis=1)
    votes = (answers[..., np.newaxis] == np.arange(CLASSES)).sum(axis=0)
    agreed = votes.max(axis=1)
    split = np.flatnonzero(agreed < len(answers))
    return Disagreement((answers != ensemble).mean(axis=1), votes, split[np.argsort(agreed[split], kind="stable")])


def paired_test(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Compares two runs on the same images (McNemar 1947, doi:10.1007/BF02295996, exact).

    Args:
        labels: uint8 [n] in 0..9.
        first: probabilities of one run, float32 [n, 10].
        second: those of the other.
    """
    from scipy.stats import binomtest

    rights = first.argmax(axis=1) == labels, second.argmax(axis=1) == labels
    fixed, broken = np.flatnonzero(~rights[0] & rights[1]), np.flatnonzero(rights[0] & ~rights[1])
    discordant = len(fixed) + len(broken)
    return PairedTest(
        both_right=int((rights[0] & rights[1]).sum()),
        both_wrong=int((~rights[0] & ~rights[1]).sum()),
        fixed=fixed,
        broken=broken,
        p_value=float(binomtest(len(fixed), discordant).pvalue) if discordant else 1.0,
    )
