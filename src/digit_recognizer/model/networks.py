"""The convolutional networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.model.layers import MOMENTUM, FastConv2D, FusedBatchNormalization


def build_model(
    *, architecture: str, channels: Sequence[int], dropout: float, precision: str = "float32", folded: bool = False
) -> keras.Model:
    """Build a small convolutional network: features, global average pooling, one dense layer.

    A 5x5 convolution without padding, which leaves the later ones a quarter less to do, then a stage for each entry of
    `channels`; three stages work on 12, 6 and 3 pixels per side.

    - "residual": per stage x + ReLU(Conv3x3(x)) and a 3x3 convolution (residual blocks: He et al. 2015,
      arXiv:1512.03385; the arrangement follows github.com/ttdoucet/mnist at a fraction of its width).
    - "plain": per stage one 3x3 convolution, and one more between two stages.

    Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) and ReLU follow the pooling, where they cost a
    quarter; scales are left to the next kernel. Multiples of 16 `channels` are fast. `precision` is the Keras dtype
    policy of the convolutional part. `folded` is without normalisation, for weights of `fold_normalisation`.

    Returns:
        Model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    # Keras 3.15 saves its default initialiser with keys that 3.14 rejects; folded networks get their weights later.
    initial = {"kernel_initializer": "random_normal"} if folded else {}
    convolution = partial(layers.Conv2D if folded else FastConv2D, padding="same", dtype=precision, **initial)

    def block(x: Any, filters: int, size: int = 3, *, pooling: bool = False, padding: str = "same") -> Any:
        x = convolution(filters, size, use_bias=folded, padding=padding)(x)
        if pooling:
            x = layers.MaxPooling2D(dtype=precision)(x)
        if not folded:
            x = FusedBatchNormalization(momentum=MOMENTUM, scale=False, dtype=precision)(x)
        return layers.ReLU(dtype=precision)(x)

    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    x = block(images, channels[0], 5, pooling=True, padding="valid")
    for width, following in zip(channels, [*channels[1:], None], strict=True):
        if architecture == "residual":
            x = layers.Add(dtype=precision)([x, layers.ReLU(dtype=precision)(convolution(width, 3)(x))])
            x = block(x, following or width, pooling=following is not None)
        else:
            x = block(x, width)
            x = block(x, following, pooling=True) if following else x
    x = layers.GlobalAveragePooling2D(dtype=precision)(x)
    x = layers.Dropout(dropout, dtype=precision)(x)
    probabilities = layers.Dense(CLASSES, "softmax", name="probabilities", dtype="float32", **initial)(x)
    return keras.Model(images, probabilities, name="digit_recognizer")


def fold_normalisation(trained: keras.Model) -> list[np.ndarray]:
    """Return the weights with which the same network, built `folded`, computes the same function.

    Batch normalisation multiplies each channel by 1 / deviation, which the kernel before it can do: the factor is
    positive, so that max-pooling in between makes no difference. Its offset becomes the convolution's bias.
    """
    weights: list[np.ndarray] = []
    for layer in trained.layers:
        if isinstance(layer, layers.BatchNormalization):
            offset, mean, variance = layer.get_weights()
            scale = 1 / np.sqrt(variance + layer.epsilon)
            weights[-1:] = [weights[-1] * scale, offset - mean * scale]
        else:
            weights += layer.get_weights()
    return weights
