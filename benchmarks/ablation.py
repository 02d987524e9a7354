"""Compare settings of the preset `single` by 2-fold cross-validation: `python -m benchmarks.ablation --data-dir data`.

Each variation trains its networks on each half of train.csv, which together predict all rows, once for each seed. The
predictions are kept in the working folder and not made again.
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from digit_recognizer.data import augmentation
from digit_recognizer.data.augmentation import augmented_epochs
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training.devices import choose_precision, find_gpus, split_devices
from digit_recognizer.training.workers import Report, run_tasks

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


@contextlib.contextmanager
def pad_first_convolution() -> Iterator[None]:
    """Let the network work on 28, 14, 7 and 3 pixels per side."""
    from digit_recognizer.model import networks

    class Padded(networks.FastConv2D):
        def __init__(self, filters: int, kernel_size: int, **options: Any) -> None:
            super().__init__(filters, kernel_size, **options | {"padding": "same"})

    with mock.patch.object(networks, "FastConv2D", Padded), mock.patch.object(networks.layers, "Conv2D", Padded):
        yield


@contextlib.contextmanager
def use_former_recipe() -> Iterator[None]:
    """Train as the commit ca0d74e did, with a distortion for each image."""
    with pad_first_convolution(), mock.patch.object(augmentation, "GROUP", 1):
        yield


VARIATIONS = {
    BASIS: Variation({}),
    "`single` of ca0d74e": Variation({"epochs": 15, "rows_per_epoch": 1.0, "shifts": False}, use_former_recipe),
    "first convolution padded": Variation({}, pad_first_convolution),
    "all rows in each of 9 epochs": Variation({"epochs": 9, "rows_per_epoch": 1.0}),
    "predictions of unshifted images alone": Variation({"shifts": False}),
    "twice the channels": Variation({"channels": (64, 128, 256)}),
}


class Trainings(NamedTuple):
    """What the networks of all variations have in common."""

    data: Dataset
    work_dir: Path
    precision: str

    def path(self, name: str, seed: int, fold: int) -> Path:
        """Return the file of the predictions of a variation for a fold."""
        safe = "".join(letter if letter.isalnum() else "-" for letter in name)
        return self.work_dir / f"ablation-{safe}-seed{seed}-{fold}.npz"


def measure(
    data_dir: Path, work_dir: Path, console: Console, names: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """Train the networks that the working folder lacks, and compare variations with the first one.

    Args:
        data_dir: Folder of train.csv.
        work_dir: Folder of the predictions.
        console: For the progress.
        names: Some of `VARIATIONS`.
        seeds: Of the networks.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    trainings = Trainings(load_train(data_dir), work_dir, choose_precision(find_gpus()))
    tasks = [(name, seed, fold) for name in names for seed in seeds for fold in range(FOLDS)]
    missing = [index for index, task in enumerate(tasks) if not trainings.path(*task).exists()]
    function, devices = functools.partial(_train, trainings, tasks), split_devices(len(tasks), find_gpus())
    trained = run_tasks(function, iter(missing), devices=devices, report=lambda _: None)
    for _ in track(trained, "training", len(missing), console):
        pass
    results: dict[str, Any] = {}
    correct: dict[str, np.ndarray] = {}
    for name in names:
        networks = [files.load_arrays(trainings.path(name, seed, fold)) for seed in seeds for fold in range(FOLDS)]
        correct[name] = np.zeros(len(trainings.data.labels))  # the share of the seeds
        for network in networks:
            correct[name][network["rows"]] += network["right"] / len(seeds)
        results[name] = {
            "changes": VARIATIONS[name].changes,
            "accuracy": float(correct[name].mean()),
            "basis": names[0],
            "difference": compare_paired(correct[names[0]], correct[name]),
            "processor_seconds": sum(float(network["seconds"]) for network in networks) / len(seeds),
            "arithmetic": count_operations(VARIATIONS[name]) / count_operations(VARIATIONS[names[0]]),
        }
    return {"machine": describe_machine(), "split_seed": SPLIT_SEED, "seeds": list(seeds), "variations": results}


def count_operations(variation: Variation) -> float:
    """Return the multiplications of the convolutions, forward, for one row of the training data in all epochs."""
    with hide_native_messages():
        import keras

        from digit_recognizer.model.networks import build_model

    config = variation.make_config(seed=0)
    with variation.patch():
        model = build_model(architecture=config.architectures[0], channels=config.channels, dropout=config.dropout)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    multiplications = sum(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in convolutions)
    return float(multiplications * config.epochs * config.rows_per_epoch * config.members)


def _train(trainings: Trainings, tasks: Sequence[tuple[str, int, int]], index: int, _report: Report) -> None:
    """Train the networks of a variation for a fold, and write which rows their mean predicts correctly."""
    with hide_native_messages():
        from digit_recognizer.training.member import train_member

    name, seed, fold = tasks[index]
    data, config = trainings.data, VARIATIONS[name].make_config(seed)
    folds = make_folds(data.labels, folds=FOLDS, validation=config.validation, seed=SPLIT_SEED)
    started, predictions = time.process_time(), []
    with VARIATIONS[name].patch(), ThreadPoolExecutor(1) as thread:
        for member in range(fold * config.members, (fold + 1) * config.members):
            epochs = augmented_epochs(data.images, epochs=config.augmented_epochs, seed=seed, executor=thread)
            train = functools.partial(train_member, config, data, folds, member, report=lambda *_: None)
            predictions.append(train(precision=trainings.precision, augmented=epochs).predictions)
    rows, labels, _ = predictions[0]
    right = np.mean([prediction.probabilities for prediction in predictions], axis=0).argmax(axis=1) == labels
    with files.replacing(trainings.path(*tasks[index])) as temporary:
        np.savez(temporary, rows=rows, right=right, seconds=time.process_time() - started)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of train.csv.")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default="bench", help="Folder for results; predictions are kept."
)
@click.option("--only", type=click.Choice(list(VARIATIONS)), help="A setting to measure; by default all of them.")
@click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, default=[0], help="Of networks; repeatable.")
def main(data_dir: Path, work_dir: Path, only: str | None, seeds: tuple[int, ...]) -> None:
    """Compare settings of the preset single; takes over an hour for each seed."""
    names = list(dict.fromkeys([BASIS, only])) if only else list(VARIATIONS)
    result = measure(data_dir, work_dir, Console(stderr=True), names, seeds)
    files.write_json(work_dir / "ablation.json", result)
    tables.draw_ablation([result]).savefig(work_dir / "ablation.png", dpi=100)
    click.echo(tables.make_ablation_table([result]))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"ablation: {error}")
