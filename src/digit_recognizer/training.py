"""Training of one member: a network on the rows of one fold."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from digit_recognizer.config import Config
from digit_recognizer.data import Dataset, Fold, normalise
from digit_recognizer.model import build_model
from digit_recognizer.progress import TrainingDisplay

PREDICTION_BATCH = 512  # images; larger ones leave the processor's cache


class Member(NamedTuple):
    """A trained network, how it got there, and its answers to rows that it has never seen."""

    model: keras.Model  # float32 [n, 28, 28, 1] in [0, 1] -> probabilities float32 [n, 10]
    history: dict[str, list[float]]  # a value an epoch: loss, accuracy, val_loss, val_accuracy, learning_rate, seconds
    probabilities: np.ndarray  # float32 [len(fold.validation), 10]


class _Batches(keras.utils.PyDataset):
    """The training rows in a new order every epoch, augmented as long as there are augmented epochs."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, augmented: Iterator[np.ndarray], *, batch_size: int, seed: int
    ) -> None:
        super().__init__()
        self._plain, self._labels, self._augmented = images, labels, augmented
        self._batch_size = batch_size
        self._random = np.random.default_rng(seed)
        self._images, self._order = images, np.arange(len(images))  # Keras looks at batches before the first epoch

    def begin_epoch(self) -> None:
        """Goes on to the next epoch. Keras calls the methods it has for this more often than there are epochs."""
        self._images = next(self._augmented, self._plain)
        self._order = self._random.permutation(len(self._plain))

    def __len__(self) -> int:
        return steps_per_epoch(len(self._plain), self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return normalise(self._images[rows]), self._labels[rows]


class _Report(keras.callbacks.Callback):
    """Hands Keras' logs to the display and times the epochs."""

    def __init__(self, display: TrainingDisplay) -> None:
        super().__init__()
        self._display = display
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch = epoch
        self._started = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._display.step(self._epoch, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._display.epoch(epoch, logs)
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        logs["seconds"] = time.monotonic() - self._started


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Returns the batches of an epoch; the rest of the rows, others each epoch, is left out so that shapes stay."""
    return max(1, rows // batch_size)


def train_member(
    config: Config, data: Dataset, fold: Fold, *, seed: int, augmented: Iterator[np.ndarray], display: TrainingDisplay
) -> Member:
    """Trains one network.

    AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) with one cycle of the learning rate: up linearly over a fifth
    of the steps, down as a cosine (Smith and Topin 2017, arXiv:1708.07120). The last epochs see the images as they are.
    The same arguments give the same weights on the same machine.

    Args:
        config: the settings.
        data: the rows of train.csv.
        fold: which of them to train on and which to hold out; the held out ones are only looked at.
        seed: of this member.
        augmented: the distorted copies of the training rows, uint8 [len(fold.train), 28, 28], an epoch each; the
            epochs beyond them train on the rows as they are.
        display: is told of every step.

    Returns:
        The network, its history and its probabilities for the held out rows.
    """
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):  # on processors the operators used here are deterministic as they are
        tf.config.experimental.enable_op_determinism()
    model = build_model(channels=config.channels, dropout=config.dropout)
    steps = steps_per_epoch(len(fold.train), config.batch_size) * config.epochs
    warmup = steps // 5
    learning_rate = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / 20, steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup
    )
    model.compile(
        keras.optimizers.AdamW(learning_rate, weight_decay=config.weight_decay),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    batches = _Batches(
        data.images[fold.train], data.labels[fold.train], augmented, batch_size=config.batch_size, seed=seed
    )
    held_out = normalise(data.images[fold.validation])
    history = model.fit(
        batches,
        epochs=config.epochs,
        validation_data=(held_out, data.labels[fold.validation]),
        validation_batch_size=PREDICTION_BATCH,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda _epoch, _logs: batches.begin_epoch()),
            _Report(display),
        ],
        verbose=0,
    ).history
    probabilities = model.predict(held_out, batch_size=PREDICTION_BATCH, verbose=0)
    # Without the optimiser, whose state is twice the weights' size and of no use for predicting.
    return Member(keras.Model(model.inputs, model.outputs, name=model.name), history, probabilities)
