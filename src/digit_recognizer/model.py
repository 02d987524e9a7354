"""The network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from digit_recognizer.augmentation import make_views
from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.data import normalise

PREDICTION_BATCH = 500  # images; larger ones leave the processor's cache
MOMENTUM = 0.9  # of the moving statistics; Keras' default of 0.99 averages over more steps than a short training has


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation over the channels, by TensorFlow's fused operator.

    Keras computes mean, variance and result by operations of their own, each of which passes over the whole tensor;
    the fused operator passes twice and takes half precision with float32 statistics. Outputs, gradients and moving
    statistics are those of `keras.layers.BatchNormalization`, and so are the weights.
    """

    def add_weight(self, *arguments: Any, **options: Any) -> Any:
        """Adds a weight that stays float32 where the layer computes in half precision."""
        return super().add_weight(*arguments, **options | {"autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002
        """Normalises float [n, height, width, channels]."""
        operator = partial(
            tf.raw_ops.FusedBatchNormV3,
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
        )
        if not training:
            mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
            return operator(mean=mean, variance=variance, is_training=False).y
        normalised = operator(mean=[], variance=[], is_training=True)
        values = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)  # of each channel
        batch_variance = normalised.batch_variance * (values - 1) / values  # Keras' has no Bessel correction
        for moving, batch in ((self.moving_mean, normalised.batch_mean), (self.moving_variance, batch_variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return normalised.y


class Layers(NamedTuple):
    """Makes the layers of one precision."""

    convolution: Callable[..., layers.Layer]
    normalisation: Callable[[], layers.Layer]
    activation: Callable[[], layers.Layer]
    pooling: Callable[[], layers.Layer]
    addition: Callable[[], layers.Layer]


def residual_features(make: Layers, x: Any, channels: Sequence[int]) -> Any:
    """A 5x5 convolution, then a stage for each entry of `channels`: x + ReLU(Conv3x3(BN(x))), and a 3x3 convolution.

    Every stage but the last ends in a 2x2 max-pooling. Residual blocks: He et al. 2015, arXiv:1512.03385; the
    arrangement follows github.com/ttdoucet/mnist at a part of its width.
    """
    x = make.convolution(channels[0], 5, use_bias=False)(x)
    x = make.pooling()(x)
    x = make.activation()(make.normalisation()(x))
    for stage, width in enumerate(channels):
        last = stage == len(channels) - 1
        residual = make.convolution(width, 3)(make.normalisation()(x))
        x = make.addition()([x, make.activation()(residual)])
        x = make.convolution(width if last else channels[stage + 1], 3, use_bias=False)(x)
        if not last:
            x = make.pooling()(x)
        x = make.activation()(make.normalisation()(x))
    return x


def plain_features(make: Layers, x: Any, channels: Sequence[int]) -> Any:
    """A stage for each entry of `channels`: two 3x3 convolutions, with a 2x2 max-pooling behind the first."""
    for width in channels:
        for pooled in (True, False):
            x = make.convolution(width, 3, use_bias=False)(x)
            if pooled:
                x = make.pooling()(x)
            x = make.activation()(make.normalisation()(x))
    return x


ARCHITECTURES = {"residual": residual_features, "plain": plain_features}


def build_model(
    *, architecture: str, channels: Sequence[int], dropout: float, precision: str = "float32", fused: bool = False
) -> keras.Model:
    """Builds a small convolutional network: features, their mean over all places, one dense layer.

    The maps are 28, 14, 7 and 3 pixels a side for three stages. Batch normalisation (Ioffe and Szegedy 2015,
    arXiv:1502.03167) and activation come behind the pooling, where they cost a quarter.

    Args:
        architecture: a key of `ARCHITECTURES`.
        channels: of the convolutions of each stage; multiples of 16 are fast.
        dropout: share of the features that is dropped before the last layer in training.
        precision: a dtype policy of Keras.
        fused: whether batch normalisation is `FusedBatchNormalization`, for training. The weights are the same.

    Returns:
        A model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    normalisation = FusedBatchNormalization if fused else layers.BatchNormalization
    make = Layers(
        convolution=partial(layers.Conv2D, padding="same", dtype=precision),
        normalisation=partial(normalisation, momentum=MOMENTUM, dtype=precision),
        activation=partial(layers.ReLU, dtype=precision),
        pooling=partial(layers.MaxPooling2D, dtype=precision),
        addition=partial(layers.Add, dtype=precision),
    )
    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    x = ARCHITECTURES[architecture](make, images, channels)
    x = layers.GlobalAveragePooling2D(dtype=precision)(x)
    x = layers.Dropout(dropout, dtype=precision)(x)
    probabilities = layers.Dense(CLASSES, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(images, probabilities, name="digit_recognizer")


def make_predictor(members: Sequence[keras.Model], *, views: int = 1) -> Callable[[np.ndarray], np.ndarray]:
    """Compiles the mean of several networks' answers to several views of an image.

    `keras.Model.predict` would build a tf.data pipeline for each call, whose end can wait for seconds
    (`training` says why).

    Args:
        members: each from float32 [n, 28, 28, 1] to probabilities, float32 [n, 10].
        views: of `augmentation.VIEWS`; 1 for the images as they are.

    Returns:
        A function from uint8 [n, 28, 28] to probabilities, float32 [n, 10].
    """

    @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 1], tf.float32)])
    def answer(images: Any) -> Any:
        return tf.reduce_mean(tf.stack([member(images, training=False) for member in members]), axis=0)

    def predict(images: np.ndarray) -> np.ndarray:
        total = np.zeros((len(images), CLASSES), np.float32)
        for view in make_views(images, views):
            for start in range(0, len(images), PREDICTION_BATCH):
                rows = slice(start, start + PREDICTION_BATCH)
                total[rows] += answer(normalise(view[rows])).numpy()
        return total / views

    return predict
