"""Compare settings of the preset `single` by 2-fold cross-validation: `python -m benchmarks.ablation --data-dir data`.

Each variation trains its networks on each half of train.csv, which together predict all rows. The predictions are kept
in the working folder and not made again.
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import click
import numpy as np
from rich.console import Console

from benchmarks import tables
from benchmarks.benchmark import compare_paired, describe_machine
from digit_recognizer import files
from digit_recognizer.config import PRESETS, Config
from digit_recognizer.console import hide_native_messages, track
from digit_recognizer.data.augmentation import augmented_epochs
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices
from digit_recognizer.training.workers import Report, run_tasks, worker_pool

SPLIT_SEED = 1  # settings are chosen on this split, and reported on another (benchmark.SPLIT_SEED)
FOLDS = 2  # all rows count, and few networks have to be trained
BASIS = "`single`"


class Variation(NamedTuple):
    """A difference to the preset `single`."""

    changes: dict[str, Any]  # fields of `Config`
    patch: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext  # of the code, during the training

    def make_config(self, seed: int) -> Config:
        """Return the settings to train with."""
        return replace(PRESETS["single"], folds=FOLDS, split_seed=SPLIT_SEED, seed=seed, **self.changes)


def use_adamw() -> AbstractContextManager[Any]:
    """Train all weights with AdamW."""
    import keras

    from digit_recognizer.training.optimizer import Muon

    return mock.patch.object(Muon, "update_step", keras.optimizers.AdamW.update_step)


def keep_last_weights() -> AbstractContextManager[Any]:
    """Do not average the weights."""
    from digit_recognizer.training.optimizer import Muon

    return mock.patch.object(Muon, "finalize_variable_values", lambda *_: None)


def flatten_head() -> AbstractContextManager[Any]:
    """Replace the global average pooling: the dense layer sees all positions."""
    from keras import layers

    return mock.patch.object(layers, "GlobalAveragePooling2D", layers.Flatten)


def smooth_labels() -> AbstractContextManager[Any]:
    """Train with the cross-entropy of labels smoothed by 0.1."""
    import keras
    from keras import ops

    compile_model = keras.Model.compile

    def loss(labels: Any, probabilities: Any) -> Any:
        targets = 0.9 * ops.one_hot(ops.reshape(labels, (-1,)), 10) + 0.01
        return ops.sum(-targets * ops.log(ops.clip(probabilities, 1e-7, 1)), axis=-1)

    def compile_with_loss(model: Any, optimizer: Any, **options: Any) -> None:
        compile_model(model, optimizer, **options | {"loss": loss})

    return mock.patch.object(keras.Model, "compile", compile_with_loss)


VARIATIONS = {
    BASIS: Variation({}),
    "AdamW for all weights": Variation({}, use_adamw),
    "weights not averaged": Variation({}, keep_last_weights),
    "label smoothing 0.1": Variation({}, smooth_labels),
    "all 3x3 positions to the dense layer": Variation({}, flatten_head),
    "batches of 64": Variation({"batch_size": 64}),
    "batches of 256, learning rate 7e-3": Variation({"batch_size": 256, "learning_rate": 7e-3}),
    "dropout 0.2": Variation({"dropout": 0.2}),
    "weight decay 5e-2": Variation({"weight_decay": 5e-2}),
    "30 epochs": Variation({"epochs": 30}),
    "1.5 times the channels": Variation({"channels": (48, 96, 192)}),
    "two networks of channels 24, 48, 96": Variation({"channels": (24, 48, 96), "members": 2}),
}


class Trainings(NamedTuple):
    """What the networks of all variations have in common."""

    data: Dataset
    work_dir: Path
    seed: int
    precision: str

    def path(self, name: str, fold: int) -> Path:
        """Return the file of the predictions of a variation for a fold."""
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.work_dir / f"ablation-{safe}-seed{self.seed}-{fold}.npz"

    def augmented(self) -> Path:
        """Return the file of the augmented epochs."""
        return self.work_dir / f"augmented-{self.seed}.npy"


def measure(data_dir: Path, work_dir: Path, console: Console, names: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Train the networks that the working folder lacks, and compare variations with the first one.

    Args:
        data_dir: Folder of train.csv.
        work_dir: Folder of the augmented images and the predictions.
        console: For the progress.
        names: Some of `VARIATIONS`.
        seed: Of the networks.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    trainings = Trainings(load_train(data_dir), work_dir, seed, choose_precision(find_gpus()))
    tasks = [(name, fold) for name in names for fold in range(FOLDS)]
    missing = [index for index, task in enumerate(tasks) if not trainings.path(*task).exists()]
    if missing and not trainings.augmented().exists():
        _augment(trainings, console)
    function, devices = functools.partial(_train, trainings, tasks), split_devices(len(tasks), find_gpus())
    trained = run_tasks(function, iter(missing), devices=devices, report=lambda _: None)
    for _ in track(trained, "training", len(missing), console):
        pass
    results: dict[str, Any] = {}
    correct: dict[str, np.ndarray] = {}
    for name in names:
        folds = [files.load_arrays(trainings.path(name, fold)) for fold in range(FOLDS)]
        rows, right = (np.concatenate([fold[array] for fold in folds]) for array in ("rows", "right"))
        correct[name] = right[np.argsort(rows)]
        results[name] = {
            "changes": VARIATIONS[name].changes,
            "accuracy": float(right.mean()),
            "basis": names[0],
            "difference": compare_paired(correct[names[0]], correct[name]),
            "processor_seconds": sum(float(fold["seconds"]) for fold in folds),
        }
    return {"machine": describe_machine(), "split_seed": SPLIT_SEED, "seed": seed, "variations": results}


def _augment(trainings: Trainings, console: Console) -> None:
    """Write the augmented epochs, which all variations share, as many as the longest training needs."""
    seed = trainings.seed
    count = max(variation.make_config(seed).augmented_epochs for variation in VARIATIONS.values())
    with worker_pool(count_cores()) as pool:
        epochs = augmented_epochs(trainings.data.images, epochs=count, seed=seed, executor=pool)
        images = np.array(list(track(epochs, "augmenting", count, console)), np.uint8)
    with files.replacing(trainings.augmented()) as temporary:
        np.save(temporary, images)


def _train(trainings: Trainings, tasks: Sequence[tuple[str, int]], index: int, _report: Report) -> None:
    """Train the networks of a variation for a fold, and write which rows their mean predicts correctly."""
    with hide_native_messages():
        from digit_recognizer.training.member import train_member

    name, fold = tasks[index]
    data, config = trainings.data, VARIATIONS[name].make_config(trainings.seed)
    folds = make_folds(data.labels, folds=FOLDS, validation=config.validation, seed=SPLIT_SEED)
    augmented = np.load(trainings.augmented(), mmap_mode="r")
    train = functools.partial(train_member, config, data, folds, precision=trainings.precision, report=lambda *_: None)
    started = time.process_time()
    with VARIATIONS[name].patch():
        members = range(fold * config.members, (fold + 1) * config.members)
        predictions = [train(member, augmented=iter(augmented)).predictions for member in members]
    rows, labels, _ = predictions[0]
    right = np.mean([prediction.probabilities for prediction in predictions], axis=0).argmax(axis=1) == labels
    with files.replacing(trainings.path(name, fold)) as temporary:
        np.savez(temporary, rows=rows, right=right, seconds=time.process_time() - started)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of train.csv.")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default="bench", help="Folder for results; predictions are kept."
)
@click.option("--only", help="Measure this setting alone.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the networks.")
def main(data_dir: Path, work_dir: Path, only: str | None, seed: int) -> None:
    """Compare settings of the preset single; takes over an hour."""
    if only not in (None, *VARIATIONS):
        raise UserError(f"expected a setting out of {', '.join(map(repr, VARIATIONS))}, got {only!r}")
    names = list(dict.fromkeys([BASIS, only])) if only else list(VARIATIONS)
    result = measure(data_dir, work_dir, Console(stderr=True), names, seed)
    files.write_json(work_dir / "ablation.json", result)
    click.echo(tables.make_ablation_table([result]))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ablation: {error}")
