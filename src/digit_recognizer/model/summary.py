"""The layers of a network, with parameters and arithmetic."""

import math
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A layer of a network; sizes are for one image."""

    name: str
    kind: str  # such as "Conv2D 3x3"
    inputs: tuple[str, ...]  # names of the layers it takes its input from
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int
    multiply_adds: int  # of its kernel; element-wise operations are not counted


def describe(model: Any) -> list[Layer]:
    """Return the layers of a functional `keras.Model`, whose layers have one output each, in order."""
    maker = {id(layer.output): layer.name for layer in model.layers}
    described: list[Layer] = []
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        shape = tuple(layer.output.shape[1:])
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or ()
        # A kernel, [height, width, in, out] or [in, out], is applied once at each position of the output.
        kernel = math.prod(layer.kernel.shape) if hasattr(layer, "kernel") else 0
        described.append(
            Layer(
                name=layer.name,
                kind=" ".join([type(layer).__name__, "x".join(map(str, window))]).strip(),
                # A nested model has tensors of its own as input: it follows the layer before it.
                inputs=tuple(maker.get(id(tensor)) or described[-1].name for tensor in inputs) if described else (),
                shape=shape,
                parameters=layer.count_params(),
                multiply_adds=kernel * math.prod(shape[:-1]),
            )
        )
    return described
