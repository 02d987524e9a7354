"""Layers of Keras that TensorFlow computes faster in another way."""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf
from keras import layers

MOMENTUM = 0.9  # of the moving statistics; Keras' default 0.99 averages over more steps than a short training has


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation over the channels, with equal results, computed by TensorFlow's fused operator.

    Keras computes mean, variance and result in separate passes over the tensor; the fused operator needs two passes and
    accepts half precision with float32 statistics.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Add a weight that stays float32 when the layer computes in half precision."""
        return super().add_weight(*args, **kwargs | {"autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG002
        """Normalise float [n, height, width, channels]."""
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
        values = tf.cast(tf.size(inputs) / tf.shape(inputs)[-1], tf.float32)  # per channel
        batch_variance = normalised.batch_variance * (values - 1) / values  # Keras applies no Bessel correction
        for moving, batch in ((self.moving_mean, normalised.batch_mean), (self.moving_variance, batch_variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return normalised.y


class FastConv2D(layers.Conv2D):
    """Keras' convolution, for stride 1 and padding "same", with a faster gradient on images no larger than the kernel.

    The kernel's gradient is a sum over the batch and the positions of the outputs. oneDNN's operator for it is slow if
    the positions are few: with AMX, on 3x3 pixels, a fifth as fast as the convolution that computes the same sum.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve float [n, height, width, channels] to [n, height, width, filters]."""
        if self.padding != "same" or max(inputs.shape[1:3]) > 2 * min(self.kernel_size):
            return super().convolution_op(inputs, kernel)
        return tf.custom_gradient(_convolve_small)(inputs, tf.convert_to_tensor(kernel))


def _convolve_small(images: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    """Convolve float [n, height, width, channels] with [*kernel size, channels, filters]; return also the gradients."""

    def differentiate(gradient: Any) -> tuple[Any, Any]:
        images_gradient = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(images), filter=kernel, out_backprop=gradient, strides=[1] * 4, padding="SAME"
        )
        padding = [[0, 0], *([(size - 1) // 2, size // 2] for size in kernel.shape[:2]), [0, 0]]
        # The batch becomes channels: [channels, height, width, n] * [height, width, n, filters]
        turned = tf.transpose(images, (3, 1, 2, 0)), tf.transpose(gradient, (1, 2, 0, 3))
        kernel_gradient = tf.nn.conv2d(*turned, 1, padding)
        return images_gradient, tf.transpose(kernel_gradient, (1, 2, 0, 3))

    return tf.nn.conv2d(images, kernel, strides=1, padding="SAME"), differentiate
