"""What a network consists of, read from its layers."""

import math
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A layer of a network, for one image."""

    name: str
    kind: str  # "Conv2D 3x3"
    inputs: tuple[str, ...]  # names of the layers that it takes its values from
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int
    multiply_adds: int  # of its kernel; element-wise work (ReLU, pooling) is not counted


def describe(model: Any) -> list[Layer]:
    """Returns the layers of a network in their order.

    Args:
        model: a functional `keras.Model` whose layers each have one output.
    """
    maker = {id(layer.output): layer.name for layer in model.layers}
    described = []
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        shape = tuple(layer.output.shape[1:])
        window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or ()
        # A kernel is applied once at each place of the output: [height, width, in, out] or [in, out].
        kernel = math.prod(layer.kernel.shape) if hasattr(layer, "kernel") else 0
        described.append(
            Layer(
                name=layer.name,
                kind=" ".join([type(layer).__name__, "x".join(map(str, window))]).strip(),
                # A network as a layer tells the tensors inside of it; it is a link of a chain.
                inputs=tuple(maker.get(id(tensor)) or described[-1].name for tensor in inputs) if described else (),
                shape=shape,
                parameters=layer.count_params(),
                multiply_adds=kernel * math.prod(shape[:-1]),
            )
        )
    return described
