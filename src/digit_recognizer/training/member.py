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

MONITORED = 1000  # validation rows, at most, scored after each epoch; all of them are predicted at the end
WARMUP = 0.2  # fraction of the steps in which the learning rate rises
AVERAGED = 0.25  # fraction of the steps over which the weights are averaged, with exponential decay
REPORT_SECONDS = 0.5  # between two reports, because each costs time; the last step of an epoch is always reported
HARDEST = 0.2  # fraction of the training rows that every epoch has, if it does not have all
STATISTICS = 10_000  # training rows, at most, for the statistics of batch normalisation
# Progress callback of a step: epoch and step from 0, the means of loss and accuracy in the epoch so far, in the last
# step also those of the validation, and whether it is the epoch's last step.
ReportStep = Callable[[int, int, Mapping[str, float], bool], None]


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
) -> Member:
    """Train one network.

    `Muon` with a one-cycle learning rate (`one_cycle`), on the rows of `choose_rows`. The first epoch and the last ones
    use images without augmentation. The final weights are an average over the last steps (Polyak and Juditsky 1992,
    doi:10.1137/0330046); the history is that of the weights themselves. The same arguments give the same weights on the
    same machine, also if the training was interrupted and is resumed from its checkpoint.

    Args:
        config: The settings.
        data: Rows of train.csv.
        folds: Splits of the rows. Members are ordered by fold; validation rows are only predicted.
        index: Index of the member, which determines its fold, architecture and seed.
        precision: Keras dtype policy, from `choose_precision`.
        augmented: Augmented copies of all rows, uint8 [len(data.images), 28, 28], one for each augmented epoch that is
            still to be trained.
        report: Called twice a second and after each epoch.
        checkpoint: File that the state is saved to after each epoch; None for no file.
        resumed: State to go on from; None for a new training.
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
    optimizer = Muon(weight_decay=config.weight_decay, use_ema=True, ema_momentum=momentum)
    if precision == "mixed_float16":  # in which small gradients would become 0
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    train_step, predict = make_train_step(model, optimizer), make_predictor([model])

    history: dict[str, list[float]] = resumed.history if resumed else {}
    losses = resumed.losses if resumed else np.full(len(data.labels), np.inf, np.float32)
    if resumed:
        for variable, value in zip(get_variables(model, optimizer), resumed.variables, strict=True):
            variable.assign(value)
    monitored = np.random.default_rng(seed).permutation(fold.validation)[:MONITORED]
    for epoch in range(resumed.epoch if resumed else 0, config.epochs):
        order = choose_rows(fold.train, losses, config.rows_per_epoch, np.random.default_rng([seed, epoch]))
        images = next(augmented) if 0 < epoch <= config.augmented_epochs else data.images
        started = reported = time.monotonic()
        sums = np.zeros(2)
        for step in range(steps):
            rows = order[step * config.batch_size : (step + 1) * config.batch_size]
            optimizer.learning_rate.assign(learning_rates[epoch * steps + step])
            losses[rows], right = train_step(normalise(images[rows]), data.labels[rows])
            sums += losses[rows].mean(), right.mean()
            values = dict(zip(("loss", "accuracy"), (sums / (step + 1)).tolist(), strict=True))
            if step < steps - 1 and time.monotonic() - reported >= REPORT_SECONDS:
                reported = time.monotonic()
                report(epoch, step, values, False)
        if epoch == 0:
            _correct_statistics(model, steps)
        if len(monitored):
            probabilities, labels = predict(data.images[monitored]), data.labels[monitored]
            values["val_loss"] = float(-np.log(probabilities[np.arange(len(labels)), labels].clip(1e-7)).mean())
            values["val_accuracy"] = float((probabilities.argmax(axis=1) == labels).mean())
        report(epoch, steps - 1, values, True)
        values |= {"learning_rate": float(learning_rates[(epoch + 1) * steps]), "seconds": time.monotonic() - started}
        for name, number in values.items():
            history.setdefault(name, []).append(number)
        if checkpoint:
            write_checkpoint(checkpoint, history, losses, get_variables(model, optimizer))

    optimizer.finalize_variable_values(model.trainable_variables)  # sets the weights to their moving average
    _set_statistics(model, data.images[fold.train[:STATISTICS]])
    for network in (exported, predicting):
        network.set_weights(fold_normalisation(model))
    held_out = fold.validation
    probabilities = make_predictor([predicting], shifts=config.shifts)(data.images[held_out])
    return Member(exported, history, Predictions(held_out, data.labels[held_out], probabilities))


def make_train_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable[..., np.ndarray]:
    """Compile a training step.

    Returns:
        Function from images, float32 [n, 28, 28, 1] in [0, 1], and labels, uint8 [n], to two rows of float32 [2, n]:
        the loss of each image before the step, and 1 for those predicted correctly.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, IMAGE_SIZE, IMAGE_SIZE, 1)), tf.TensorSpec((None,), tf.uint8)])
    def train_step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = model(images, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
            scaled = optimizer.scale_loss(tf.reduce_mean(losses))
        optimizer.apply(tape.gradient(scaled, model.trainable_variables), model.trainable_variables)
        right = keras.metrics.sparse_categorical_accuracy(labels, probabilities)
        return tf.stack([losses, tf.cast(right, losses.dtype)])

    return lambda images, labels: train_step(images, labels).numpy()


def choose_rows(rows: np.ndarray, losses: np.ndarray, fraction: float, random: np.random.Generator) -> np.ndarray:
    """Return a fraction of the training rows in random order: the hardest ones, and a random choice of the others.

    Most images are learned in the first epochs, and have gradients near 0 from then on. InfoBatch (Qin et al. 2023,
    arXiv:2303.04947) ranks by the losses of the training, too, but weights the rows that it keeps; airbench96
    (github.com/KellerJordan/cifar10-airbench) ranks by a small network.

    Args:
        rows: int64 [m] of the training rows.
        losses: float32 [n], the loss of each row when it was trained on last; infinite for rows that never were.
        fraction: Of the rows, from `HARDEST` to 1.
        random: Generator of this epoch.
    """
    shuffled = random.permutation(rows)
    count = int(fraction * len(rows))
    if count == len(rows):
        return shuffled
    ranked = shuffled[np.argsort(-losses[shuffled], kind="stable")]
    hardest, others = np.split(ranked, [int(HARDEST * len(rows))])
    return random.permutation(np.concatenate([hardest, random.choice(others, count - len(hardest), replace=False)]))


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


def _correct_statistics(model: keras.Model, steps: int) -> None:
    """Take the initial values out of the moving statistics, so that a few steps suffice for the first validation.

    The correction is that of Adam (Kingma and Ba 2014, arXiv:1412.6980).
    """
    initial = MOMENTUM**steps
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean / (1 - initial))
            layer.moving_variance.assign((layer.moving_variance - initial) / (1 - initial))


def _set_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Set the statistics of batch normalisation, which are not those of averaged weights, to means over images."""
    for count, batch in enumerate(np.array_split(images, -(-len(images) // PREDICTION_BATCH))):
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = count / (count + 1)
        model(normalise(batch), training=True)
