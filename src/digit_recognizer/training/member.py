"""Train one member of a run: one network on the training rows of one fold."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from digit_recognizer.config import IMAGE_SIZE, Config
from digit_recognizer.data.csv_files import Dataset, normalise
from digit_recognizer.data.folds import Fold, Predictions
from digit_recognizer.model.networks import build_model, fold_normalisation
from digit_recognizer.model.prediction import PREDICTION_BATCH, make_predictor

MONITORED = 5000  # validation rows, at most, scored after each epoch; all of them are predicted at the end
WARMUP = 0.2  # fraction of the steps in which the learning rate rises
# Progress callback of a step: epoch and step from 0, Keras' running means of the epoch (with validation in the last
# step), and whether it is the epoch's last step.
ReportStep = Callable[[int, int, Mapping[str, float], bool], None]


class Member(NamedTuple):
    """A trained network with its history and its predictions for the validation rows."""

    model: keras.Model  # stock layers in float32: float32 [n, 28, 28, 1] in [0, 1] -> probabilities float32 [n, 10]
    history: dict[str, list[float]]  # per epoch: accuracy, loss, val_accuracy, val_loss, learning_rate, seconds
    predictions: Predictions


class _StepCallback(keras.callbacks.Callback):
    """Set the learning rate of each step, which is faster to trace than a Keras schedule; report steps; log epochs."""

    def __init__(self, report: ReportStep, learning_rates: np.ndarray, steps: int) -> None:
        super().__init__()
        self._report, self._learning_rates, self._steps = report, learning_rates, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch = epoch
        self._started = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.model.optimizer.learning_rate.assign(self._learning_rates[self._epoch * self._steps + batch])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch < self._steps - 1:
            self._report(self._epoch, batch, logs or {}, False)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        self._report(epoch, self._steps - 1, dict(logs), True)
        logs["learning_rate"] = float(self._learning_rates[(epoch + 1) * self._steps])
        logs["seconds"] = time.monotonic() - self._started


def one_cycle(peak: float, steps: int) -> np.ndarray:
    """Return the learning rate of each step, and the final 0: float32 [steps + 1].

    Linear warm-up to the peak during `WARMUP` of the steps, then cosine decay: after L. N. Smith and N. Topin 2017,
    Super-convergence (arXiv:1708.07120).
    """
    warmup = int(WARMUP * steps)
    rising = np.linspace(peak / 20, peak, warmup, endpoint=False)
    falling = peak * (1 + np.cos(np.linspace(0, np.pi, steps - warmup + 1))) / 2
    return np.concatenate([rising, falling]).astype(np.float32)


def train_member(
    config: Config,
    data: Dataset,
    folds: list[Fold],
    index: int,
    *,
    precision: str,
    augmented: Iterator[np.ndarray],
    report: ReportStep,
    log_dir: Path | None = None,
) -> Member:
    """Train one network.

    AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) with a one-cycle learning rate (`one_cycle`). The first epoch
    and the last ones use images without augmentation. The same arguments give the same weights on the same machine.

    Args:
        config: The settings.
        data: Rows of train.csv.
        folds: Splits of the rows. Members are ordered by fold; validation rows are only predicted.
        index: Index of the member, which determines its fold, architecture and seed.
        precision: Keras dtype policy, from `choose_precision`.
        augmented: Augmented copies of all rows, uint8 [len(data.images), 28, 28], one for each augmented epoch.
        report: Called after every step.
        log_dir: Folder for TensorBoard logs; None for no logs.
    """
    fold = folds[index // config.members]
    seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):  # on processors these operators are deterministic anyway
        tf.config.experimental.enable_op_determinism()
    architecture = config.architectures[index % len(config.architectures)]
    build = partial(build_model, architecture=architecture, channels=config.channels, dropout=config.dropout)
    model = build(precision=precision)
    steps = config.steps_per_epoch(len(fold.train))
    learning_rates = one_cycle(config.learning_rate, steps * config.epochs)
    optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay)
    optimizer.build(model.trainable_variables)  # otherwise the first step is traced twice
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    monitored = np.random.default_rng(seed).permutation(fold.validation)[:MONITORED]
    validation = tf.data.Dataset.from_tensor_slices((normalise(data.images[monitored]), data.labels[monitored]))
    callbacks: list[keras.callbacks.Callback] = [_StepCallback(report, learning_rates, steps)]
    if log_dir:
        callbacks.append(keras.callbacks.TensorBoard(log_dir))
    history = model.fit(
        make_dataset(_batches(config, data, fold, augmented, seed=seed)),
        epochs=config.epochs,
        steps_per_epoch=steps,
        shuffle=False,  # the batches are shuffled already
        validation_data=_without_autotuning(validation.batch(PREDICTION_BATCH)) if len(fold.validation) else None,
        callbacks=callbacks,
        verbose=0,
    ).history
    weights = fold_normalisation(model)
    exported, fast = (build(precision=chosen, folded=True) for chosen in ("float32", precision))
    for folded in (exported, fast):
        folded.set_weights(weights)
    rows = fold.validation
    probabilities = make_predictor([fast], views=config.views)(data.images[rows])
    return Member(exported, history, Predictions(rows, data.labels[rows], probabilities))


def _batches(
    config: Config, data: Dataset, fold: Fold, augmented: Iterator[np.ndarray], *, seed: int
) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Return a generator function for the batches of all epochs: the training rows, shuffled anew in each epoch."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(seed)
        steps = config.steps_per_epoch(len(fold.train))
        for epoch in range(config.epochs):
            images = next(augmented, data.images) if epoch else data.images
            order = random.permutation(fold.train)
            for step in range(steps):
                rows = order[step * config.batch_size : (step + 1) * config.batch_size]
                yield normalise(images[rows]), data.labels[rows]

    return batches


def make_dataset(batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
    """Return a dataset of the batches, float32 [n, 28, 28, 1] and uint8 [n], that prefetches one of them."""
    signature = tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 1), tf.float32), tf.TensorSpec((None,), tf.uint8)
    return _without_autotuning(tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(1))


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off autotuning: its thread sleeps for up to a minute, and the end of an iterator waits for it."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
