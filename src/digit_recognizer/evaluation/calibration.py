"""Probabilities that mean what they say: one temperature for a run.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger 2017, On calibration of modern neural networks (arXiv:1706.04599).
"""

import numpy as np

COLDEST, HOTTEST = 0.2, 5.0


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the temperature at which the labels are likeliest; 1 where there are none.

    Args:
        labels: uint8 [n] in 0..9.
        probabilities: float32 [n, 10], of networks that were not trained on these images.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):  # of a run that held out no row
        return 1.0
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        return -float(np.log(temper(probabilities, np.exp(logarithm))[rows, labels] + 1e-12).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divides logits by a temperature: above 1 answers become less sure, and none becomes another.

    Args:
        probabilities: float [n, 10], the softmax of the logits.
        temperature: above 0; 1 changes nothing.

    Returns:
        float64 [n, 10], adding up to 1.
    """
    logits = np.log(np.maximum(probabilities, 1e-12, dtype=np.float64)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
