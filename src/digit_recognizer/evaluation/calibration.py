"""Temperature scaling (Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599)."""

import numpy as np


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature from 0.2 to 5 that minimises the cross-entropy; 1 if there are no labels.

    Labels are uint8 [n] in 0..9, probabilities float32 [n, 10], out-of-fold or from a hold-out.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):  # the run was trained on all rows
        return 1.0
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        return -float(np.log(apply_temperature(probabilities, np.exp(logarithm))[rows, labels] + 1e-12).mean())

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.2, 5]), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits of softmax probabilities, float [n, 10], by a temperature; return float64 [n, 10].

    The predicted digits do not change; temperatures above 1 lower the confidence.
    """
    from scipy.special import softmax

    return softmax(np.log(np.maximum(probabilities, 1e-12, dtype=np.float64)) / temperature, axis=1)
