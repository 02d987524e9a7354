"""Training of one member: a network on the rows of one fold."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from digit_recognizer.config import IMAGE_SIZE, Config
from digit_recognizer.data.csv_files import Dataset, normalise
from digit_recognizer.data.folds import Fold
from digit_recognizer.model.networks import PREDICTION_BATCH, build_model, fold_normalisation, make_predictor

WATCHED = 5000  # held out rows, at most, that are looked at after each epoch; at the end it is all of them
WARMUP = 0.2  # share of the steps in which the learning rate goes up


class Member(NamedTuple):
    """A trained network, how it got there, and its answers to images that it has never seen."""

    model: keras.Model  # stock layers in float32: float32 [n, 28, 28, 1] in [0, 1] -> probabilities float32 [n, 10]
    history: dict[str, list[float]]  # a value an epoch: accuracy, loss, learning_rate, seconds; val_ of held out rows
    validation: np.ndarray  # float32 [len(fold.validation), 10]
    test: np.ndarray  # float32 [len(test), 10]


class Step(NamedTuple):
    """What is told of a step that is done."""

    epoch: int  # from 0
    step: int  # of the epoch, from 0
    logs: Mapping[str, float]  # Keras' running means of the epoch
    last: bool  # of the epoch, whose validation is in the logs then


class _Report(keras.callbacks.Callback):
    """Sets the learning rate of each step, tells of the steps, times the epochs and notes the rate after each.

    A schedule of Keras would be part of the graph, once for the update and once for the weight decay of each variable,
    and take as much longer to trace.
    """

    def __init__(self, tell: Callable[[Step], None], learning_rates: np.ndarray, steps: int) -> None:
        super().__init__()
        self._tell, self._learning_rates, self._steps = tell, learning_rates, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch = epoch
        self._started = time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.model.optimizer.learning_rate.assign(self._learning_rates[self._epoch * self._steps + batch])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch < self._steps - 1:
            self._tell(Step(self._epoch, batch, logs or {}, last=False))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._tell(Step(epoch, self._steps - 1, dict(logs), last=True))
        logs["learning_rate"] = float(self._learning_rates[(epoch + 1) * self._steps])
        logs["seconds"] = time.monotonic() - self._started


def one_cycle(peak: float, steps: int) -> np.ndarray:
    """Returns the learning rate of each step and the 0 that it ends with: float32 [steps + 1].

    Up to the peak in a straight line and down again as a cosine: after L. N. Smith and N. Topin 2017, Super-convergence
    (arXiv:1708.07120).

    Args:
        peak: the highest rate, after `WARMUP` of the steps.
        steps: of the whole training.
    """
    warmup = int(WARMUP * steps)
    rising = np.linspace(peak / 20, peak, warmup, endpoint=False)
    falling = peak * (1 + np.cos(np.linspace(0, np.pi, steps - warmup + 1))) / 2
    return np.concatenate([rising, falling]).astype(np.float32)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Returns the batches of an epoch; the rest of the rows, others each epoch, is left out so that shapes stay."""
    return max(1, rows // batch_size)


def train_member(
    config: Config,
    data: Dataset,
    fold: Fold,
    test_images: np.ndarray,
    *,
    architecture: str,
    seed: int,
    precision: str,
    augmented: Iterator[np.ndarray],
    tell: Callable[[Step], None],
    log_dir: Path | None = None,
) -> Member:
    """Trains one network.

    AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) with one cycle of the learning rate: up linearly over a fifth
    of the steps, down as a cosine (Smith and Topin 2017, arXiv:1708.07120). The first epoch and the last ones
    see the images as they are.
    The same arguments give the same weights on the same machine.

    Args:
        config: the settings.
        data: the rows of train.csv.
        fold: which of them to train on and which to hold out; the held out ones are only looked at.
        test_images: uint8 [n, 28, 28], of test.csv, to answer.
        architecture: of this member, a key of `model.ARCHITECTURES`.
        seed: of this member.
        precision: a dtype policy of Keras, out of `precision.choose_precision`.
        augmented: distorted copies of all rows, uint8 [len(data.images), 28, 28], an epoch each, for the second epoch
            and those after it; the first, which need not wait for them then, and those beyond them train on the rows as
            they are.
        tell: is told of every step.
        log_dir: where to write the epochs' values for TensorBoard, which has to be installed then.

    Returns:
        The network, its history and its probabilities.
    """
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):  # on processors the operators used here are deterministic as they are
        tf.config.experimental.enable_op_determinism()
    network = {"architecture": architecture, "channels": config.channels, "dropout": config.dropout}
    model = build_model(**network, precision=precision)
    steps = steps_per_epoch(len(fold.train), config.batch_size)
    learning_rates = one_cycle(config.learning_rate, steps * config.epochs)
    optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay)
    optimizer.build(model.trainable_variables)  # else the first step makes them, and its graph is made twice
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    watched = np.random.default_rng(seed).permutation(fold.validation)[:WATCHED]
    held_out = tf.data.Dataset.from_tensor_slices((normalise(data.images[watched]), data.labels[watched]))
    history = model.fit(
        make_dataset(_batches(config, data, fold, augmented, seed=seed)),
        epochs=config.epochs,
        steps_per_epoch=steps,
        shuffle=False,  # the batches are
        validation_data=_not_tuned(held_out.batch(PREDICTION_BATCH)) if len(fold.validation) else None,
        callbacks=[_Report(tell, learning_rates, steps), *([keras.callbacks.TensorBoard(log_dir)] if log_dir else [])],
        verbose=0,
    ).history
    exported, fast = (build_model(**network, precision=chosen, folded=True) for chosen in ("float32", precision))
    weights = fold_normalisation(model)
    for folded in (exported, fast):
        folded.set_weights(weights)
    predict = make_predictor([fast], views=config.views)  # in the precision of training: twice as fast as float32
    return Member(exported, history, predict(data.images[fold.validation]), predict(test_images))


def _batches(
    config: Config, data: Dataset, fold: Fold, augmented: Iterator[np.ndarray], *, seed: int
) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Returns what yields the batches of all epochs: the training rows in a new order in each, augmented or not."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(seed)
        steps = steps_per_epoch(len(fold.train), config.batch_size)
        for epoch in range(config.epochs):
            images = next(augmented, data.images) if epoch else data.images
            order = random.permutation(fold.train)
            for step in range(steps):
                rows = order[step * config.batch_size : (step + 1) * config.batch_size]
                yield normalise(images[rows]), data.labels[rows]

    return batches


def make_dataset(batches: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> tf.data.Dataset:
    """Makes batches a dataset, one of them ahead."""
    signature = (
        tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 1), tf.float32),
        tf.TensorSpec((None,), tf.uint8),
    )
    return _not_tuned(tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(1))


def _not_tuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns the autotuning of a dataset off.

    The thread that does it sleeps twice as long each time, up to a minute, and an iterator that ends waits for it.
    Measured on one core: 84 s with it for what takes 43 s without.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
