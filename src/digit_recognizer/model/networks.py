"""The network."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.data.augmentation import make_views
from digit_recognizer.data.csv_files import normalise

PREDICTION_BATCH = 500  # images; larger ones leave the processor's cache
UPRIGHT_DEVIATION = 3.6  # pixels: of an upright digit's mass from its middle column, about the mean of train.csv
STRETCH = 1 / 2.2, 1 / 0.6  # columns of an image to one of its upright copy, at least and at most
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
            scale=tf.convert_to_tensor(self.gamma if self.scale else tf.ones_like(self.beta)),
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
    """Makes the layers of one precision, for training or for answers alone."""

    convolution: Callable[..., layers.Layer]  # with a bias
    normalised: Callable[..., layers.Layer]  # convolution that `activation` comes behind
    activation: Callable[[Any], Any]  # normalises, unless that is folded into the convolution; then ReLU
    rectifier: Callable[[], layers.Layer]
    pooling: Callable[[], layers.Layer]
    addition: Callable[[], layers.Layer]


def residual_features(make: Layers, x: Any, channels: Sequence[int]) -> Any:
    """A 5x5 convolution, then a stage for each entry of `channels`: x + ReLU(Conv3x3(x)), and a 3x3 convolution.

    Every stage but the last ends in a 2x2 max-pooling. Residual blocks: He et al. 2015, arXiv:1512.03385; the
    arrangement follows github.com/ttdoucet/mnist at a part of its width.
    """
    x = make.activation(make.pooling()(make.normalised(channels[0], 5)(x)))
    for stage, width in enumerate(channels):
        x = make.addition()([x, make.rectifier()(make.convolution(width, 3)(x))])
        last = stage == len(channels) - 1
        x = make.normalised(width if last else channels[stage + 1], 3)(x)
        x = make.activation(x if last else make.pooling()(x))
    return x


def plain_features(make: Layers, x: Any, channels: Sequence[int]) -> Any:
    """A stage for each entry of `channels`: two 3x3 convolutions, with a 2x2 max-pooling behind the first."""
    for width in channels:
        x = make.activation(make.pooling()(make.normalised(width, 3)(x)))
        x = make.activation(make.normalised(width, 3)(x))
    return x


def upright_features(make: Layers, x: Any, channels: Sequence[int]) -> Any:
    """Those of `plain_features`, of an image whose digit stands upright and is of one width."""
    return plain_features(make, build_upright()(x), channels)


def build_upright() -> keras.Model:
    """Builds what shears each image until its digit stands upright, and stretches it to one width.

    A network that sees every digit so should err on others than one that sees them as they are. The slant is that of
    the second moments; digits of one width: Ciresan, Meier and Schmidhuber 2012, arXiv:1202.2745. There are no weights,
    and all operations are Keras' own, so that a network with it loads without this package.

    Returns:
        A model from float32 [n, 28, 28, 1] in [0, 1] to the same, with the digit's mass in the middle column.
    """
    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), dtype="float32")
    places = np.arange(IMAGE_SIZE, dtype=np.float32)
    across, down = places[np.newaxis, np.newaxis, :, np.newaxis], places[np.newaxis, :, np.newaxis, np.newaxis]

    def total(values: Any) -> Any:
        return ops.sum(values, axis=(1, 2, 3), keepdims=True)

    mass = ops.maximum(total(images), 1e-3)  # of a blank image it would be 0
    middle, height = total(images * across) / mass, total(images * down) / mass
    right, below = ops.subtract(across, middle), ops.subtract(down, height)
    covariance = total(images * right * below) / mass
    slant = ops.clip(covariance / ops.maximum(total(images * below**2) / mass, 1), -1.5, 1.5)  # pixels a row
    variance = total(images * right**2) / mass - slant * covariance  # of an upright digit's columns
    stretch = ops.clip(ops.sqrt(ops.maximum(variance, 0.1)) / UPRIGHT_DEVIATION, *STRETCH)
    # Where a pixel of the result comes from: column = stretch * x + slant * y + shift, row = y.
    shift = middle - stretch * (IMAGE_SIZE - 1) / 2 - slant * height
    none, one = ops.zeros_like(slant), ops.ones_like(slant)
    transform = ops.concatenate([stretch, slant, shift, none, one, none, none, none], axis=-1)
    moved = ops.image.affine_transform(images, ops.reshape(transform, (-1, 8)))  # bilinear, 0 from outside
    return keras.Model(images, moved, name="upright")


ARCHITECTURES = {"residual": residual_features, "plain": plain_features, "upright": upright_features}


def build_model(
    *, architecture: str, channels: Sequence[int], dropout: float, precision: str = "float32", folded: bool = False
) -> keras.Model:
    """Builds a small convolutional network: features, their mean over all places, one dense layer.

    The maps are 28, 14, 7 and 3 pixels a side for three stages. Batch normalisation (Ioffe and Szegedy 2015,
    arXiv:1502.03167) and activation come behind the pooling, where they cost a quarter. It has no scale of its own:
    the ReLU and the linear layer behind it leave that to the layer's kernel.

    Args:
        architecture: a key of `ARCHITECTURES`.
        channels: of the convolutions of each stage; multiples of 16 are fast.
        dropout: share of the features that is dropped before the last layer in training.
        precision: a dtype policy of Keras.
        folded: for answers alone: without batch normalisation, which `fold_normalisation` puts into the weights.

    Returns:
        A model from float32 [n, 28, 28, 1] in [0, 1] to probabilities, float32 [n, 10].
    """
    convolution = partial(layers.Conv2D, padding="same", dtype=precision)
    rectifier = partial(layers.ReLU, dtype=precision)

    def activation(x: Any) -> Any:
        if not folded:
            x = FusedBatchNormalization(momentum=MOMENTUM, scale=False, dtype=precision)(x)
        return rectifier()(x)

    make = Layers(
        convolution=convolution,
        normalised=partial(convolution, use_bias=folded),
        activation=activation,
        rectifier=rectifier,
        pooling=partial(layers.MaxPooling2D, dtype=precision),
        addition=partial(layers.Add, dtype=precision),
    )
    images = layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    x = ARCHITECTURES[architecture](make, images, channels)
    x = layers.GlobalAveragePooling2D(dtype=precision)(x)
    x = layers.Dropout(dropout, dtype=precision)(x)
    probabilities = layers.Dense(CLASSES, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(images, probabilities, name="digit_recognizer")


def fold_normalisation(trained: keras.Model) -> list[np.ndarray]:
    """Returns the weights with which the same network, built `folded`, gives the same answers.

    Batch normalisation multiplies each channel by 1 / deviation, which can be done to the kernel before it: that is
    more than 0, so that a max-pooling in between makes no difference. What it adds becomes the convolution's bias.

    Args:
        trained: of `build_model`, not folded.

    Returns:
        Arrays in the order of `keras.Model.get_weights`.
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
