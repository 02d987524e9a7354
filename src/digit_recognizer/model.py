"""The network."""

from collections.abc import Sequence

import keras
from keras import layers

from digit_recognizer.config import CLASSES, IMAGE_SIZE


def build_model(*, channels: Sequence[int], dropout: float) -> keras.Model:
    """Builds a small residual convolutional network with stock Keras layers.

    A 5x5 convolution, then a stage for each entry of `channels`: a residual block x + ReLU(Conv3x3(BN(x))) and a 3x3
    convolution to the next stage's channels. Every stage but the last begins behind a 2x2 max-pooling (28, 14, 7 and 3
    pixels a side for three stages). Batch normalisation: Ioffe and Szegedy 2015, arXiv:1502.03167; residual blocks:
    He et al. 2015, arXiv:1512.03385; the arrangement follows github.com/ttdoucet/mnist at a part of its width. Pooling
    comes before normalisation and activation, where these cost a quarter.

    Args:
        channels: of the convolutions of each stage.
        dropout: share of the features that is dropped before the last layer in training.

    Returns:
        A model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    x = layers.Conv2D(channels[0], 5, padding="same", use_bias=False)(images)
    x = layers.MaxPooling2D()(x)
    x = layers.ReLU()(_batch_normalisation()(x))
    for stage, width in enumerate(channels):
        last = stage == len(channels) - 1
        residual = layers.Conv2D(width, 3, padding="same")(_batch_normalisation()(x))
        x = layers.Add()([x, layers.ReLU()(residual)])
        x = layers.Conv2D(width if last else channels[stage + 1], 3, padding="same", use_bias=False)(x)
        if not last:
            x = layers.MaxPooling2D()(x)
        x = layers.ReLU()(_batch_normalisation()(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    probabilities = layers.Dense(CLASSES, activation="softmax", name="probabilities")(x)
    return keras.Model(images, probabilities, name="digit_recognizer")


def _batch_normalisation() -> layers.Layer:
    # Keras' default momentum of 0.99 averages over more steps than a short training has.
    return layers.BatchNormalization(momentum=0.9)
