"""Batch normalisation by TensorFlow's fused operator."""

from functools import partial
from typing import Any

import keras
from keras import layers

MOMENTUM = 0.9  # of the moving statistics; Keras' default 0.99 averages over more steps than a short training has


class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' batch normalisation over the channels, computed by TensorFlow's fused operator.

    Keras computes mean, variance and result in separate passes over the tensor; the fused operator needs two passes and
    accepts half precision with float32 statistics. Outputs, gradients, moving statistics and weights are those of
    `keras.layers.BatchNormalization`, which computes them on Keras' other backends.
    """

    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        """Add a weight that stays float32 when the layer computes in half precision."""
        return super().add_weight(*args, **kwargs | {"autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise float [n, height, width, channels]."""
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

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
