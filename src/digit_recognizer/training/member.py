"""Train one member of a run: one network on the training rows of one fold."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from digit_recognizer.config import IMAGE_SIZE, Config
from digit_recognizer.data.csv_files import Dataset, normalise
from digit_recognizer.data.folds import Fold, Predictions
from digit_recognizer.model.layers import MOMENTUM
from digit_recognizer.model.networks import build_model, fold_normalisation
from digit_recognizer.model.prediction import PREDICTION_BATCH, make_predictor
from digit_recognizer.training.checkpoint import Checkpoint, get_variables, write_checkpoint
from digit_recognizer.training.optimizer import Muon

MONITORED = 5000  # validation rows, at most, scored after each epoch; all of them are predicted at the end
WARMUP = 0.2  # fraction of the steps in which the learning rate rises
AVERAGED = 0.25  # fraction of the steps over which the weights are averaged, with exponential decay
STATISTICS = 10_000  # training rows, at most, for the statistics of batch normalisation
# Progress callback of a step: epoch and step from 0, Keras' running means of the epoch (with validation in the last
# step), and whether it is the epoch's last step.
ReportStep = Callable[[int, int, Mapping[str, float], bool], None]
Batches = Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]  # float32 [n, 28, 28, 1] in [0, 1] and uint8 [n]


class Member(NamedTuple):
    """A trained network with its history and its predictions for the validation rows."""

    model: keras.Model  # stock layers in float32: float32 [n, 28, 28, 1] in [0, 1] -> probabilities float32 [n, 10]
    history: dict[str, list[float]]  # per epoch: accuracy, loss, val_accuracy, val_loss, learning_rate, seconds
    predictions: Predictions


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
    resumed: Checkpoint | None = None,
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
        augmented: Augmented copies of all rows, uint8 [len(data.images), 28, 28], one for each augmented epoch that is
            still to be trained.
        report: Called after every step.
        checkpoint: File that the state is saved to after each epoch; None for no file.
        resumed: State to go on from; None for a new training.
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
    exported, predicting = (build(precision=policy, folded=True) for policy in ("float32", precision))
    exported.set_weights(fold_normalisation(model))  # a network that cannot be folded fails before it is trained

    steps = config.steps_per_epoch(len(fold.train))
    learning_rates = one_cycle(config.learning_rate, steps * config.epochs)
    momentum = max(0.0, 1 - 1 / (AVERAGED * steps * config.epochs))
    muon = Muon(weight_decay=config.weight_decay, use_ema=True, ema_momentum=momentum)
    # In float16 small gradients would become 0.
    optimizer = keras.optimizers.LossScaleOptimizer(muon) if precision == "mixed_float16" else muon
    optimizer.build(model.trainable_variables)  # otherwise the first step is traced twice
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)

    monitored = np.random.default_rng(seed).permutation(fold.validation)[:MONITORED]
    validation = tf.data.Dataset.from_tensor_slices((normalise(data.images[monitored]), data.labels[monitored]))
    failures: list[Exception] = []
    first = resumed.epoch if resumed else 0
    batches = make_batches(config, data, fold, _record_failure(augmented, failures), seed=seed, first=first)
    state = _StateCallback(report, learning_rates, steps, checkpoint, resumed)
    try:
        model.fit(  # and replaces the weights by their average in the end
            make_dataset(batches),
            initial_epoch=first,
            epochs=config.epochs,
            steps_per_epoch=steps,
            shuffle=False,  # the batches are shuffled already
            validation_data=_without_autotuning(validation.batch(PREDICTION_BATCH)) if len(monitored) else None,
            callbacks=[state, *([keras.callbacks.TensorBoard(log_dir)] if log_dir else [])],
            verbose=0,
        )
    except tf.errors.OpError:
        if failures:
            raise failures[0] from None
        raise

    _set_statistics(model, data.images[fold.train[:STATISTICS]])
    for network in (exported, predicting):
        network.set_weights(fold_normalisation(model))
    rows = fold.validation
    return Member(
        exported,
        state.history,
        Predictions(rows, data.labels[rows], make_predictor([predicting])(data.images[rows])),
    )


def save_member(member: Member) -> dict[str, bytes]:
    """Return the contents of a member's files by name: model.keras, history.csv, validation.npz."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        member.model.save(folder / "model.keras")
        history = pd.DataFrame(member.history)
        history.set_index(history.index + 1).to_csv(folder / "history.csv", index_label="epoch")
        np.savez(folder / "validation.npz", **member.predictions._asdict())
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_cycle(peak: float, steps: int) -> np.ndarray:
    """Return the learning rate of each step, and the final 0: float32 [steps + 1].

    Linear warm-up to the peak during `WARMUP` of the steps, then cosine decay: after L. N. Smith and N. Topin 2017,
    Super-convergence (arXiv:1708.07120).
    """
    warmup = int(WARMUP * steps)
    rising = np.linspace(peak / 20, peak, warmup, endpoint=False)
    falling = peak * (1 + np.cos(np.linspace(0, np.pi, steps - warmup + 1))) / 2
    return np.concatenate([rising, falling]).astype(np.float32)


def make_batches(
    config: Config, data: Dataset, fold: Fold, augmented: Iterator[np.ndarray], *, seed: int, first: int = 0
) -> Batches:
    """Return a generator function for the batches of all epochs from `first` on: rows, shuffled anew in each epoch."""

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        random = np.random.default_rng(seed)
        for epoch in range(config.epochs):
            order = random.permutation(fold.train)
            if epoch < first:
                continue
            images = next(augmented) if 0 < epoch <= config.augmented_epochs else data.images
            for step in range(config.steps_per_epoch(len(fold.train))):
                rows = order[step * config.batch_size : (step + 1) * config.batch_size]
                yield normalise(images[rows]), data.labels[rows]

    return batches


class _StateCallback(keras.callbacks.Callback):
    """Set the learning rate of each step, which is faster to trace than a Keras schedule; report and save the state."""

    def __init__(
        self,
        report: ReportStep,
        learning_rates: np.ndarray,
        steps: int,
        checkpoint: Path | None,
        resumed: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._report, self._learning_rates, self._steps = report, learning_rates, steps
        self._checkpoint, self._resumed = checkpoint, resumed
        self.history: dict[str, list[float]] = resumed.history if resumed else {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self._resumed:
            for variable, value in zip(get_variables(self.model), self._resumed.variables, strict=True):
                variable.assign(value)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._epoch, self._started = epoch, time.monotonic()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.model.optimizer.learning_rate.assign(self._learning_rates[self._epoch * self._steps + batch])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if batch + 1 < self._steps:
            self._report(self._epoch, batch, dict(logs or {}), False)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take the initial values out of the moving statistics, so that few steps suffice for the first validation.

        The correction is that of Adam (Kingma and Ba 2014, arXiv:1412.6980). The final network has other statistics.
        """
        if self._epoch == 0:
            initial = MOMENTUM**self._steps
            for layer in _find_normalisations(self.model):
                layer.moving_mean.assign(layer.moving_mean / (1 - initial))
                layer.moving_variance.assign((layer.moving_variance - initial) / (1 - initial))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._report(epoch, self._steps - 1, values, True)
        rate, seconds = float(self._learning_rates[(epoch + 1) * self._steps]), time.monotonic() - self._started
        for name, value in (values | {"learning_rate": rate, "seconds": seconds}).items():
            self.history.setdefault(name, []).append(value)
        if self._checkpoint:
            write_checkpoint(self._checkpoint, self.history, self.model)


def _find_normalisations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _set_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Set the statistics of batch normalisation, which are not those of averaged weights, to means over images."""
    for count, batch in enumerate(np.array_split(images, -(-len(images) // PREDICTION_BATCH))):
        for layer in _find_normalisations(model):
            layer.momentum = count / (count + 1)
        model(normalise(batch), training=True)


def _record_failure(augmented: Iterator[np.ndarray], failures: list[Exception]) -> Iterator[np.ndarray]:
    """Yield the epochs; append an exception to a list before TensorFlow makes another of it."""
    try:
        yield from augmented
    except Exception as error:
        failures.append(error)
        raise


def make_dataset(batches: Batches) -> tf.data.Dataset:
    """Return a dataset of the batches that prefetches one of them."""
    signature = tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 1), tf.float32), tf.TensorSpec((None,), tf.uint8)
    return _without_autotuning(tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(1))


def _without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turn off autotuning: its thread sleeps for up to a minute, and the end of an iterator waits for it."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
