"""The convolutional networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.model.layers import MOMENTUM, FusedBatchNormalization

UPRIGHT_DEVIATION = 3.6  # pixels: standard deviation of an upright digit along x, about the mean of train.csv
STRETCH = 1 / 2.2, 1 / 0.6  # limits of the horizontal scaling in `build_upright`


def build_model(
    *,
    architecture: str,
    channels: Sequence[int],
    dropout: float,
    precision: str = "float32",
    momentum: float = MOMENTUM,
    folded: bool = False,
) -> keras.Model:
    """Build a small convolutional network: features, global average pooling, one dense layer.

    Each entry of `channels` is a stage; three stages work on 28, 14, 7 and 3 pixels per side.

    - "residual": a 5x5 convolution, then per stage x + ReLU(Conv3x3(x)) and a 3x3 convolution (residual blocks: He et
      al. 2015, arXiv:1512.03385; the arrangement follows github.com/ttdoucet/mnist at a fraction of its width).
    - "plain": per stage two 3x3 convolutions.
    - "upright": as "plain", on images that `build_upright` has straightened.

    Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) and ReLU follow the pooling, where they cost a
    quarter. It has no scale: after a ReLU, the next linear layer's kernel covers that.

    Multiples of 16 `channels` are fast. `precision` is the Keras dtype policy of the convolutional part. `momentum`
    is that of the moving statistics of batch normalisation. With `folded`, the network has none, for weights of
    `fold_normalisation`.

    Returns:
        Model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    convolution = partial(layers.Conv2D, padding="same", dtype=precision)

    def block(x: Any, filters: int, size: int = 3, *, pooling: bool = False) -> Any:
        x = convolution(filters, size, use_bias=folded)(x)
        if pooling:
            x = layers.MaxPooling2D(dtype=precision)(x)
        if not folded:
            x = FusedBatchNormalization(momentum=momentum, scale=False, dtype=precision)(x)
        return layers.ReLU(dtype=precision)(x)

    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    if architecture == "residual":
        x = block(images, channels[0], 5, pooling=True)
        for width, following in zip(channels, [*channels[1:], None], strict=True):
            x = layers.Add(dtype=precision)([x, layers.ReLU(dtype=precision)(convolution(width, 3)(x))])
            x = block(x, following or width, pooling=following is not None)
    else:
        x = build_upright()(images) if architecture == "upright" else images
        for width in channels:
            x = block(block(x, width, pooling=True), width)
    x = layers.GlobalAveragePooling2D(dtype=precision)(x)
    x = layers.Dropout(dropout, dtype=precision)(x)
    probabilities = layers.Dense(CLASSES, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(images, probabilities, name="digit_recognizer")


def build_upright() -> keras.Model:
    """Build a model that shears each digit upright and scales it to a standard width.

    A network that sees digits this way makes other errors than one that sees them as they are. The slant is computed
    from second moments; standard width: Ciresan, Meier and Schmidhuber 2012, arXiv:1202.2745. The model has no weights
    and uses Keras operations only, so that saved networks load without this package.

    Images are float32 [n, 28, 28, 1] in [0, 1]; of the result the centre of mass is in the middle column.
    """
    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), dtype="float32")
    positions = np.arange(IMAGE_SIZE, dtype=np.float32)
    columns, rows = positions[np.newaxis, np.newaxis, :, np.newaxis], positions[np.newaxis, :, np.newaxis, np.newaxis]

    def total(values: Any) -> Any:
        return ops.sum(values, axis=(1, 2, 3), keepdims=True)

    mass = ops.maximum(total(images), 1e-3)  # 0 for a blank image
    centre_x, centre_y = total(images * columns) / mass, total(images * rows) / mass
    x, y = ops.subtract(columns, centre_x), ops.subtract(rows, centre_y)
    covariance = total(images * x * y) / mass
    slant = ops.clip(covariance / ops.maximum(total(images * y**2) / mass, 1), -1.5, 1.5)  # columns per row
    variance = total(images * x**2) / mass - slant * covariance  # of the upright digit's columns
    stretch = ops.clip(ops.sqrt(ops.maximum(variance, 0.1)) / UPRIGHT_DEVIATION, *STRETCH)
    # Source of each output pixel: column = stretch * x + slant * y + shift, row = y.
    shift = centre_x - stretch * (IMAGE_SIZE - 1) / 2 - slant * centre_y
    zero, one = ops.zeros_like(slant), ops.ones_like(slant)
    transform = ops.concatenate([stretch, slant, shift, zero, one, zero, zero, zero], axis=-1)
    moved = ops.image.affine_transform(images, ops.reshape(transform, (-1, 8)))  # bilinear, zero padding
    return keras.Model(images, moved, name="upright")


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
