"""Train the digit detector on synthetic lines: `python -m benchmarks.train_detector` (about twenty minutes)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.synthetic_lines import make_line, make_pool
from digit_recognizer.config import make_config
from digit_recognizer.console import hide_native_messages, show_steps
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing
from digit_recognizer.handwriting.detector import WEIGHTS, build_detector
from digit_recognizer.training.devices import choose_precision, find_gpus

POOL_SIZE, LINES, BATCH_SIZE = 120_000, 400_000, 64


def split_rows(labels: np.ndarray) -> Fold:
    """Return the rows of train.csv to train the detector on, and the others: the split of a run with one hold-out."""
    config = make_config("single")
    (fold,) = make_folds(labels, folds=1, validation=config.validation, seed=config.split_seed)
    return fold


def train_detector(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    precision: str = "float32",
    pool_size: int = POOL_SIZE,
    lines: int = LINES,
    report: Callable[[int, int, float], None] = lambda *_: None,
) -> Any:
    """Train the detector; every synthetic line is used once.

    Args:
        images: uint8 [n, 28, 28].
        labels: uint8 [n].
        precision: a Keras dtype policy.
        pool_size: shapes to compose lines of.
        lines: training lines.
        report: called after each step with its number (from 1), the number of steps and the mean loss so far.

    Returns:
        The trained network, see `build_detector`.
    """
    with hide_native_messages():
        import keras

        from digit_recognizer.training.optimizer import Muon

    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    pool = make_pool(images, labels, pool_size, random)
    steps = lines // BATCH_SIZE

    def make_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(steps):
            batch = [make_line(pool, random) for _ in range(BATCH_SIZE)]
            inputs, targets = map(np.stack, zip(*batch, strict=True))
            yield inputs[..., np.newaxis] / np.float32(255), targets

    model = build_detector(precision)
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps * 9 // 10, warmup_target=5e-3, warmup_steps=steps // 10)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(Muon(rate, weight_decay=0.01), loss=loss, jit_compile=False)
    progress = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: report(step + 1, steps, logs["loss"])
    )
    model.fit(make_batches(), steps_per_epoch=steps, shuffle=False, callbacks=[progress], verbose=0)
    return model


def write_weights(model: Any, path: Path = WEIGHTS) -> None:
    """Write the weights: kernels as int8, each followed by a scale per output channel, everything else as float32."""
    arrays = []
    for weights in model.get_weights():
        if weights.ndim == 4:
            scale = np.abs(weights).max(axis=(0, 1, 2)) / 127 + 1e-12
            arrays.append(np.round(weights / scale).astype(np.int8))
            weights = scale
        arrays.append(weights.astype(np.float32))
    with replacing(path) as temporary:
        np.savez_compressed(temporary, *arrays)


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of the competition's train.csv."
)
def main(data_dir: Path) -> None:
    """Train the digit detector on the training rows of a run with one hold-out, and replace the kit's weights."""
    train = load_train(data_dir)
    labels = np.asarray(train.labels)
    rows = split_rows(labels).train
    with show_steps(Console(stderr=True)) as step:
        step("making shapes", 0)
        model = train_detector(
            train.images[rows],
            labels[rows],
            precision=choose_precision(find_gpus()),
            report=lambda number, steps, loss: step(f"loss {loss:.3f}", number / steps),
        )
    write_weights(model)
    click.echo(f"Weights: {WEIGHTS}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"train_detector: {error}")
