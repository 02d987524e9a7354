"""Train one member of a run: one network on the training rows of one fold."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from digit_recognizer.training.checkpoint import (
    Checkpoint,
    get_variables,
    read_checkpoint,
    set_variables,
    write_checkpoint,
)
from digit_recognizer.training.optimizer import Muon

MONITORED = 5000  # validation rows, at most, scored after each epoch; all of them are predicted at the end
SAVE_SECONDS = 60  # between two checkpoints in an epoch
WARMUP = 0.2  # fraction of the steps in which the learning rate rises
AVERAGED = 0.25  # fraction of the steps over which the weights are averaged, with exponential decay
STATISTICS = 10_000  # training rows, at most, for the statistics of batch normalisation
# Progress callback of a step: epoch and step from 0, Keras' running means of the epoch (with validation in the last
# step), and whether it is the epoch's last step.
ReportStep = Callable[[int, int, Mapping[str, float], bool], None]


class Member(NamedTuple):
    """A trained network with its history and its predictions for the validation rows."""

    model: keras.Model  # stock layers in float32: float32 [n, 28, 28, 1] in [0, 1] -> probabilities float32 [n, 10]
    history: dict[str, list[float]]  # per epoch: accuracy, loss, val_accuracy, val_loss, learning_rate, seconds
    predictions: Predictions


class _TrainingCallback(keras.callbacks.Callback):
    """Set the learning rate of each step, which is faster to trace than a Keras schedule; report and save the state."""

    def __init__(
        self, report: ReportStep, learning_rates: np.ndarray, steps: int, path: Path | None, resumed: Checkpoint
    ) -> None:
        super().__init__()
        self._report, self._learning_rates, self._steps, self._path = report, learning_rates, steps, path
        self._resumed, self._saved_at = resumed, time.monotonic()
        self.history: dict[str, list[float]] = {name: list(values) for name, values in resumed.history.items()}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if epoch != self._resumed.epoch:
            self._resumed = Checkpoint()
        self._epoch, self._step = epoch, self._resumed.step
        self._started = time.monotonic() - self._resumed.seconds

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.model.optimizer.learning_rate.assign(self._learning_rates[self._epoch * self._steps + self._step])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._step += 1
        if self._step < self._steps:
            means = self._means(logs)
            self._report(self._epoch, self._step - 1, means, False)
            if time.monotonic() - self._saved_at > SAVE_SECONDS:
                means = {name: float(value) for name, value in means.items()}
                self._save(Checkpoint(self._epoch, self._step, time.monotonic() - self._started, means, self.history))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = self._means(logs)
        self._report(epoch, self._steps - 1, dict(values), True)
        values["learning_rate"] = float(self._learning_rates[(epoch + 1) * self._steps])
        values["seconds"] = time.monotonic() - self._started
        for name, value in values.items():
            self.history.setdefault(name, []).append(float(value))
        self._save(Checkpoint(epoch + 1, history=self.history))

    def _means(self, logs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the means over all steps of the epoch; those of Keras begin where the training was resumed."""
        means, share = dict(logs or {}), self._resumed.step / self._step
        for name, value in self._resumed.means.items():
            means[name] = share * value + (1 - share) * float(means[name])
        return means

    def _save(self, checkpoint: Checkpoint) -> None:
        if self._path:
            write_checkpoint(self._path, replace(checkpoint, variables=get_variables(self.model)))
            self._saved_at = time.monotonic()


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
    checkpoint: Path | None = None,
    log_dir: Path | None = None,
) -> Member:
    """Train one network.

    `Muon` with a one-cycle learning rate (`one_cycle`). The first epoch and the last ones use images without
    augmentation. The final weights are an average over the last steps (Polyak and Juditsky 1992, doi:10.1137/0330046);
    the history is that of the weights themselves. The same arguments give the same weights on the same machine, also if
    the training was interrupted and is resumed from its checkpoint.

    Args:
        config: The settings.
        data: Rows of train.csv.
        folds: Splits of the rows. Members are ordered by fold; validation rows are only predicted.
        index: Index of the member, which determines its fold, architecture and seed.
        precision: Keras dtype policy, from `choose_precision`.
        augmented: Augmented copies of all rows, uint8 [len(data.images), 28, 28], one for each augmented epoch, from
            that of the checkpoint (`count_begun_epochs`) on.
        report: Called after every step.
        checkpoint: File that the state is saved to after each epoch and once a minute; None for no file.
        log_dir: Folder for TensorBoard logs; None for no logs.
    """
    fold = folds[index // config.members]
    seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    keras.utils.set_random_seed(seed)
    if tf.config.list_physical_devices("GPU"):  # on processors these operators are deterministic anyway
        tf.config.experimental.enable_op_determinism()
    architecture = config.architectures[index % len(config.architectures)]
    build = partial(build_model, architecture=architecture, channels=config.channels, dropout=config.dropout)
    steps = config.steps_per_epoch(len(fold.train))
    model = build(precision=precision)
    learning_rates = one_cycle(config.learning_rate, steps * config.epochs)
    momentum = max(0.0, 1 - 1 / (AVERAGED * steps * config.epochs))
    muon = Muon(weight_decay=config.weight_decay, use_ema=True, ema_momentum=momentum)
    # In float16 small gradients would become 0.
    optimizer = keras.optimizers.LossScaleOptimizer(muon) if precision == "mixed_float16" else muon
    optimizer.build(model.trainable_variables)  # otherwise the first step is traced twice
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    monitored = np.random.default_rng(seed).permutation(fold.validation)[:MONITORED]
    validation = tf.data.Dataset.from_tensor_slices((normalise(data.images[monitored]), data.labels[monitored]))
    resumed = read_checkpoint(checkpoint)
    if resumed.variables:
        set_variables(model, resumed.variables)
    training = _TrainingCallback(report, learning_rates, steps, checkpoint, resumed)
    callbacks = [training, *([keras.callbacks.TensorBoard(log_dir)] if log_dir else [])]
    _fit(model, config, data, fold, augmented, resumed, callbacks=callbacks, validation=validation, seed=seed)
    muon.finish(model)
    _set_statistics(model, data.images[fold.train[:STATISTICS]])
    weights = fold_normalisation(model)
    exported, fast = (build(precision=chosen, folded=True) for chosen in ("float32", precision))
    for folded in (exported, fast):
        folded.set_weights(weights)
    rows = fold.validation
    probabilities = make_predictor([fast])(data.images[rows])
    return Member(exported, training.history, Predictions(rows, data.labels[rows], probabilities))


def _set_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Set the statistics of batch normalisation, which are not those of averaged weights, to means over images."""
    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for count, batch in enumerate(np.array_split(images, -(-len(images) // PREDICTION_BATCH))):
        for layer in normalisations:
            layer.momentum = count / (count + 1)
        model(normalise(batch), training=True)


def _fit(
    model: keras.Model,
    config: Config,
    data: Dataset,
    fold: Fold,
    augmented: Iterator[np.ndarray],
    resumed: Checkpoint,
    *,
    callbacks: list[keras.callbacks.Callback],
    validation: tf.data.Dataset,
    seed: int,
) -> None:
    """Train a compiled model from a checkpoint on, whose variables it has, to the end.

    `fit` begins at the first step of an epoch: the rest of an epoch is an epoch with fewer steps.
    """
    failed: list[Exception] = []
    augmented = _record_failure(augmented, failed)
    whole, steps = resumed.epoch + (resumed.step > 0), config.steps_per_epoch(len(fold.train))
    for first, last, skipped in ((resumed.epoch, whole, resumed.step), (whole, config.epochs, 0)):
        if first == last:
            continue
        try:
            model.fit(
                make_dataset(_batches(config, data, fold, augmented, range(first, last), skipped, seed=seed)),
                initial_epoch=first,
                epochs=last,
                steps_per_epoch=steps - skipped,
                shuffle=False,  # the batches are shuffled already
                validation_data=_without_autotuning(validation.batch(PREDICTION_BATCH)) if len(validation) else None,
                callbacks=callbacks,
                verbose=0,
            )
        except tf.errors.OpError:
            if failed:
                raise failed[0] from None
            raise


def _record_failure(augmented: Iterator[np.ndarray], failed: list[Exception]) -> Iterator[np.ndarray]:
    """Yield the epochs; append an exception to a list before TensorFlow makes another of it."""
    try:
        yield from augmented
    except Exception as error:
        failed.append(error)
        raise


def _batches(
    config: Config,
    data: Dataset,
    fold: Fold,
    augmented: Iterator[np.ndarray],
    epochs: range,
    skipped: int,
    *,
    seed: int,
) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Return a generator function for the batches of epochs: the training rows, shuffled anew in each epoch.

    The first `skipped` batches of the first epoch are left out.
    """

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(seed)
        steps = config.steps_per_epoch(len(fold.train))
        for epoch in range(epochs.stop):
            order = random.permutation(fold.train)
            if epoch not in epochs:
                continue
            images = next(augmented) if 0 < epoch <= config.augmented_epochs else data.images
            for step in range(skipped if epoch == epochs.start else 0, steps):
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
