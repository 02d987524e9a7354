"""Other people's networks in stock Keras, each by its own recipe: a small CNN, and Chris Deotte's network.

Each function takes images, float32 [n, 28, 28, 1] in [0, 1], and labels, uint8 [n], to train on, and held-out images;
it returns the probabilities for these, float32 [m, 10], and the number of parameters.
"""

import keras
import tensorflow as tf
from keras import layers
from numpy import ndarray

from digit_recognizer.config import CLASSES, IMAGE_SIZE

Trained = tuple[ndarray, int]


def train_small_cnn(images: ndarray, labels: ndarray, held_out: ndarray, *, seed: int, epochs: int = 5) -> Trained:
    """Train a small CNN as found in introductions to Keras."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1))])
    for channels in (32, 64):
        model.add(layers.Conv2D(channels, 3, activation="relu"))
        model.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(CLASSES, activation="softmax")):
        model.add(layer)
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=128, epochs=epochs, verbose=0)
    return model.predict(held_out, verbose=0), model.count_params()


def train_deotte(images: ndarray, labels: ndarray, held_out: ndarray, *, seed: int, epochs: int = 45) -> Trained:
    """Train Deotte's network as he does (kaggle.com/code/cdeotte/25-million-images-0-99757-mnist).

    The held-out images take the place of the tenth that he holds out for each network.
    """
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1))])
    for channels in (32, 64):
        for kernel, options in ((3, {}), (3, {}), (5, {"strides": 2, "padding": "same"})):
            model.add(layers.Conv2D(channels, kernel, activation="relu", **options))
            model.add(layers.BatchNormalization())
        model.add(layers.Dropout(0.4))
    model.add(layers.Conv2D(128, 4, activation="relu"))
    model.add(layers.BatchNormalization())
    for layer in (layers.Flatten(), layers.Dropout(0.4), layers.Dense(CLASSES, activation="softmax")):
        model.add(layer)
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    generator = tf.keras.preprocessing.image.ImageDataGenerator(  # Keras 3 has it under this name only
        rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1
    )
    rate = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-3 * 0.95**epoch)
    # Not with his `steps_per_epoch`: if that is less than the batches, Keras 3 trains every second epoch on one batch.
    model.fit(generator.flow(images, labels, batch_size=64), epochs=epochs, callbacks=[rate], verbose=0)
    return model.predict(held_out, verbose=0), model.count_params()
