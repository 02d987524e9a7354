"""Other people's networks: a small CNN in stock Keras, and Chris Deotte's recipe on the kit's training engine."""

import os
import time
from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

from digit_recognizer.config import CLASSES, IMAGE_SIZE
from digit_recognizer.data.csv_files import Dataset, normalise
from digit_recognizer.data.folds import Fold
from digit_recognizer.model.layers import FusedBatchNormalization
from digit_recognizer.model.prediction import make_predictor

# Chris Deotte, "25 Million Images! [0.99757] MNIST", kaggle.com/code/cdeotte/25-million-images-0-99757-mnist.
DEOTTE_EPOCHS = 45
DEOTTE_BATCH = 64
DEOTTE_FRACTION = 0.9  # of the rows, chosen anew for each network
DEOTTE_RATE, DEOTTE_DECAY = 1e-3, 0.95  # initial learning rate, and its factor per epoch

SMALL_CNN_EPOCHS, SMALL_CNN_BATCH = 5, 128


def build_small_cnn() -> keras.Model:
    """Build and compile a small CNN as found in introductions to Keras."""
    model = keras.Sequential(
        [
            layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train_small_cnn(data: Dataset, fold: Fold, *, seed: int) -> tuple[float, float]:
    """Train the small CNN; return its accuracy on the held-out rows, and the seconds of the training."""
    keras.utils.set_random_seed(seed)
    model = build_small_cnn()
    images, held_out = normalise(data.images[fold.train]), normalise(data.images[fold.validation])
    started = time.perf_counter()
    history = model.fit(
        images,
        data.labels[fold.train],
        batch_size=SMALL_CNN_BATCH,
        epochs=SMALL_CNN_EPOCHS,
        validation_data=(held_out, data.labels[fold.validation]),
        verbose=0,
    ).history
    return history["val_accuracy"][-1], time.perf_counter() - started


def build_deotte(*, fused: bool, precision: str = "float32") -> keras.Model:
    """Build Deotte's network.

    Args:
        fused: Use the kit's fused batch normalisation.
        precision: A dtype policy of Keras.
    """
    normalisation = FusedBatchNormalization if fused else layers.BatchNormalization
    model = keras.Sequential([layers.Input((IMAGE_SIZE, IMAGE_SIZE, 1))])
    for channels in (32, 64):
        for kernel, options in ((3, {}), (3, {}), (5, {"strides": 2, "padding": "same"})):
            model.add(layers.Conv2D(channels, kernel, activation="relu", dtype=precision, **options))
            model.add(normalisation(dtype=precision))
        model.add(layers.Dropout(0.4, dtype=precision))
    model.add(layers.Conv2D(128, 4, activation="relu", dtype=precision))
    model.add(normalisation(dtype=precision))
    model.add(layers.Flatten(dtype=precision))
    model.add(layers.Dropout(0.4, dtype=precision))
    model.add(layers.Dense(CLASSES, activation="softmax", dtype="float32"))
    return model


def train_deotte(data: Dataset, fold: Fold, *, seed: int, precision: str, epochs: int = DEOTTE_EPOCHS) -> np.ndarray:
    """Train Deotte's network by his recipe on the kit's training engine.

    The recipe is unchanged: network, Adam, learning rate, batches of 64, a random 90% of the rows, and rotations, zooms
    and shifts in his ranges (by albumentations instead of Keras' generator).

    Returns:
        Probabilities for the held-out rows, float32 [len(fold.validation), 10].
    """
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    rows = random.permutation(fold.train)[: int(DEOTTE_FRACTION * len(fold.train))]
    images, labels = data.images[rows], data.labels[rows]
    steps = len(rows) // DEOTTE_BATCH
    model = build_deotte(fused=True, precision=precision)
    rate = keras.optimizers.schedules.ExponentialDecay(DEOTTE_RATE, steps, DEOTTE_DECAY, staircase=True)
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy", jit_compile=False)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in range(epochs):
            distorted, order = _distort(images, seed=seed * DEOTTE_EPOCHS + epoch), random.permutation(len(rows))
            for step in range(steps):
                batch = order[step * DEOTTE_BATCH : (step + 1) * DEOTTE_BATCH]
                yield normalise(distorted[batch]), labels[batch]

    model.fit(batches(), epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
    stock = build_deotte(fused=False)
    stock.set_weights(model.get_weights())
    return make_predictor([stock])(data.images[fold.validation])


def _distort(images: np.ndarray, *, seed: int) -> np.ndarray:
    """Rotate, zoom and shift images in the ranges of Deotte's generator."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # on import it would look for its latest version on the internet
    import albumentations

    affine = albumentations.Affine(
        rotate=(-10, 10),
        scale={"x": (0.9, 1.1), "y": (0.9, 1.1)},
        translate_percent={"x": (-0.1, 0.1), "y": (-0.1, 0.1)},
        p=1,
    )
    compose = albumentations.Compose([affine], seed=seed)
    return np.stack([compose(image=image)["image"] for image in images])
