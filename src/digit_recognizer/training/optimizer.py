"""The optimizer: Muon for the kernels of convolutions, AdamW for all other weights, and an average of all weights."""

from typing import Any

import keras
from keras import ops

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the polynomial of Jordan et al.
ITERATIONS = 5
BETA = 0.95  # decay rate of the momentum
SCALE = 0.2  # of an update: the root mean square of AdamW's updates, about


class Muon(keras.optimizers.AdamW):
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101), with Muon's updates for the kernels of convolutions.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) makes the momentum of a kernel, as a matrix of inputs
    by outputs, orthogonal. Scaled by its size (Liu et al. 2025, arXiv:2502.16982) it takes the learning rate and the
    weight decay of AdamW. `keras.optimizers.Muon` leaves convolutions to AdamW.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, given its gradient."""
        if len(variable.shape) < 4 or variable.shape[2] == 1:  # one input channel: too few for a direction to matter
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self._momentums[self._get_variable_index(variable)]
        self.assign(momentum, BETA * momentum + gradient)
        matrix = ops.reshape(gradient + BETA * momentum, (-1, variable.shape[-1]))
        scale = learning_rate * SCALE * max(matrix.shape) ** 0.5
        self.assign_sub(variable, ops.reshape(orthogonalise(matrix, scale), variable.shape))


def orthogonalise(matrix: Any, scale: Any = 1.0) -> Any:
    """Return an almost orthogonal matrix with the singular vectors of a float32 [m, n], by Newton-Schulz iterations.

    Its singular values are between 0.7 and 1.2, times `scale`. The iterations X <- (a + b S + c S S) X, S = X X', only
    change S and the product of the factors, which commute: two small matrices, instead of X.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else ops.transpose(matrix)
    inverse_norm = 1 / (ops.norm(x) + 1e-7)
    square = (x @ ops.transpose(x)) * inverse_norm**2
    identity = ops.eye(x.shape[0])
    linear, cubic, quintic = COEFFICIENTS
    product = scale * inverse_norm * identity
    for _ in range(ITERATIONS):
        factor = linear * identity + cubic * square + quintic * square @ square
        product = factor @ product
        square = factor @ square @ factor
    return product @ x if wide else ops.transpose(x) @ product
