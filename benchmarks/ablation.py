"""Compare settings of the preset `single` by 2-fold cross-validation: `python -m benchmarks.ablation --data-dir data`.

Each variation trains one network on each half of train.csv; together they predict all rows. Trained networks are kept
in the working folder and not trained again.
"""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from unittest import mock

import numpy as np
import typer
from rich.console import Console

from benchmarks import tables
from benchmarks.benchmark import FOLDS, compare_paired, describe_machine
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
BASIS = {"dropout": 0.2}  # of the first rows; 0.4 was chosen from them
DROPOUT = {"dropout": 0.4}
SEED_1, SEED_2 = DROPOUT | {"seed": 1}, DROPOUT | {"seed": 2}
PRESENT, PRESENT_1, PRESENT_2 = "`single`", "`single`, seed 1", "`single`, seed 2"
Patch = Callable[[], AbstractContextManager[Any]]


class Variation(NamedTuple):
    """Difference to the preset `single` with `BASIS`, and the setting that it is compared with."""

    changes: dict[str, Any]  # fields of `Config`
    patch: Patch = contextlib.nullcontext  # replaces a part of the code during the training
    basis: str = "basis: `single` with dropout 0.2"

    def make_config(self) -> Config:
        """Return the settings to train with."""
        return replace(PRESETS["single"], folds=FOLDS, split_seed=SPLIT_SEED, **BASIS | self.changes)


def use_adamw() -> AbstractContextManager[Any]:
    """Train all weights with AdamW."""
    import keras

    from digit_recognizer.training.optimizer import Muon

    return mock.patch.object(Muon, "update_step", keras.optimizers.AdamW.update_step)


def use_lion() -> AbstractContextManager[Any]:
    """Train all weights with Lion (Chen et al. 2023, arXiv:2302.06675), its decay rates 0.9 and 0.99."""
    from keras import ops

    from digit_recognizer.training.optimizer import Muon

    def update_step(optimizer: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        momentum = optimizer._momentums[optimizer._get_variable_index(variable)]
        optimizer.assign_sub(variable, learning_rate * ops.sign(0.9 * momentum + 0.1 * gradient))
        optimizer.assign(momentum, 0.99 * momentum + 0.01 * gradient)

    return mock.patch.object(Muon, "update_step", update_step)


def keep_last_weights() -> AbstractContextManager[Any]:
    """Do not average the weights."""
    from digit_recognizer.training.optimizer import Muon

    return mock.patch.object(Muon, "finish", lambda *_: None)


def use_head(name: str) -> AbstractContextManager[Any]:
    """Replace the global average pooling by another layer of Keras."""
    from keras import layers

    return mock.patch.object(layers, "GlobalAveragePooling2D", getattr(layers, name))


def unpad_first() -> AbstractContextManager[Any]:
    """Do not pad the first convolution, the only one of 5x5."""
    from keras import layers

    make = layers.Conv2D.__init__

    def make_without_padding(layer: Any, filters: int, kernel_size: int, **options: Any) -> None:
        make(layer, filters, kernel_size, **options | ({"padding": "valid"} if kernel_size == 5 else {}))

    return mock.patch.object(layers.Conv2D, "__init__", make_without_padding)


def smooth_loss(targets: Any, probabilities: Any) -> Any:
    """Return the cross-entropy with labels smoothed by 0.1."""
    from keras import ops

    return ops.sum(-(0.9 * targets + 0.01) * ops.log(probabilities), axis=-1)


def focal_loss(targets: Any, probabilities: Any) -> Any:
    """Return the focal loss with gamma 1 (Lin et al. 2017, arXiv:1708.02002)."""
    from keras import ops

    return ops.sum(-targets * (1 - probabilities) * ops.log(probabilities), axis=-1)


def squared_error(targets: Any, probabilities: Any) -> Any:
    """Return the squared error of the probabilities p: the squared hinge loss of the outputs 2 p - 1, divided by 4."""
    from keras import ops

    return ops.sum(ops.square(targets - probabilities), axis=-1)


def use_loss(function: Callable[[Any, Any], Any]) -> AbstractContextManager[Any]:
    """Train with another loss of one-hot labels and probabilities."""
    import keras
    from keras import ops

    compile_model = keras.Model.compile

    def loss(labels: Any, probabilities: Any) -> Any:
        return function(ops.one_hot(ops.reshape(labels, (-1,)), 10), ops.clip(probabilities, 1e-7, 1))

    def compile_with(model: Any, optimizer: Any, **options: Any) -> None:
        compile_model(model, optimizer, **options | {"loss": loss})

    return mock.patch.object(keras.Model, "compile", compile_with)


VARIATIONS = {
    "basis: `single` with dropout 0.2": Variation({}),
    "AdamW for all weights": Variation({}, use_adamw),
    "weights not averaged": Variation({}, keep_last_weights),
    "label smoothing 0.1": Variation({}, functools.partial(use_loss, smooth_loss)),
    "all 3x3 positions to the dense layer": Variation({}, functools.partial(use_head, "Flatten")),
    "batches of 64": Variation({"batch_size": 64}),
    "dropout 0.4, now in `single`": Variation({"dropout": 0.4}),
    "1.5 times the channels": Variation({"channels": (48, 96, 192)}),
    PRESENT: Variation(DROPOUT, basis="dropout 0.4, now in `single`"),
    "batches of 256, learning rate 7e-3": Variation(
        DROPOUT | {"batch_size": 256, "learning_rate": 7e-3}, basis=PRESENT
    ),
    "weight decay 5e-2": Variation(DROPOUT | {"weight_decay": 5e-2}, basis=PRESENT),
    "focal loss, gamma 1": Variation(DROPOUT, functools.partial(use_loss, focal_loss), PRESENT),
    "weight decay 5e-2, unpadded, 19 epochs": Variation(
        DROPOUT | {"epochs": 19, "weight_decay": 5e-2}, unpad_first, PRESENT
    ),
    "two networks of channels 24, 48, 96": Variation(DROPOUT | {"channels": (24, 48, 96), "members": 2}, basis=PRESENT),
    "first convolution unpadded, 19 epochs": Variation(DROPOUT | {"epochs": 19}, unpad_first, PRESENT),
    "30 epochs": Variation(DROPOUT | {"epochs": 30}, basis=PRESENT),
    "Lion, learning rate 5e-4, weight decay 1e-1": Variation(
        DROPOUT | {"learning_rate": 5e-4, "weight_decay": 1e-1}, use_lion, PRESENT
    ),
    "squared error of the probabilities": Variation(DROPOUT, functools.partial(use_loss, squared_error), PRESENT),
    PRESENT_1: Variation(SEED_1, basis=PRESENT_1),
    "first convolution unpadded, 19 epochs, seed 1": Variation(SEED_1 | {"epochs": 19}, unpad_first, PRESENT_1),
    "first convolution unpadded, 24 epochs, seed 1": Variation(SEED_1 | {"epochs": 24}, unpad_first, PRESENT_1),
    "unpadded, 19 epochs, all but the first augmented, seed 1": Variation(
        SEED_1 | {"epochs": 19, "plain_epochs": 0}, unpad_first, PRESENT_1
    ),
    PRESENT_2: Variation(SEED_2, basis=PRESENT_2),
    "first convolution unpadded, 19 epochs, seed 2": Variation(SEED_2 | {"epochs": 19}, unpad_first, PRESENT_2),
}


class Job(NamedTuple):
    """What the networks of all variations have in common."""

    data: Dataset
    work_dir: Path
    precision: str


def measure(data_dir: Path, work_dir: Path, console: Console, basis: str | None = None) -> dict[str, Any]:
    """Train the networks that the working folder lacks, and compare each variation with its basis.

    Args:
        data_dir: Folder of train.csv.
        work_dir: Folder of the trained networks' results.
        console: For the progress.
        basis: Measure only this variation and those that are compared with it.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    job = Job(load_train(data_dir), work_dir, choose_precision(find_gpus()))
    chosen = {name: one for name, one in VARIATIONS.items() if basis in (None, name, one.basis)}
    names = [(name, fold) for name in chosen for fold in range(FOLDS)]
    missing = [index for index, (name, fold) in enumerate(names) if not _path(work_dir, name, fold).exists()]
    for seed in {one.make_config().seed for one in chosen.values()}:
        _augment(job, seed, console)
    trained = run_tasks(
        functools.partial(_train, job, names), missing, split_devices(len(names), find_gpus()), report=lambda _: None
    )
    for _ in track(trained, "training", len(missing), console):
        pass
    results: dict[str, Any] = {}
    correct: dict[str, np.ndarray] = {}
    for name, variation in chosen.items():
        networks = [files.load_arrays(_path(work_dir, name, fold)) for fold in range(FOLDS)]
        right = np.concatenate([network["right"] for network in networks])[
            np.argsort(np.concatenate([network["rows"] for network in networks]))
        ].astype(bool)
        correct[name] = right
        compared = name if name == basis else variation.basis
        results[name] = {
            "changes": variation.changes,
            "accuracy": float(right.mean()),
            "basis": compared,
            "difference": compare_paired(correct[compared], right),
            "processor_seconds": sum(float(network["seconds"]) for network in networks),
        }
    return {"machine": describe_machine(), "split_seed": SPLIT_SEED, "rows": len(right), "variations": results}


def _path(work_dir: Path, name: str, fold: int) -> Path:
    safe = "".join(letter if letter.isalnum() else "-" for letter in name)
    return work_dir / f"ablation-{safe}-{fold}.npz"


def _augmented_path(work_dir: Path, seed: int) -> Path:
    return work_dir / f"augmented-{seed}.npy"


def _augment(job: Job, seed: int, console: Console) -> None:
    """Write the augmented epochs, which all variations of a seed share, as many as the longest training needs."""
    path = _augmented_path(job.work_dir, seed)
    if path.exists():
        return
    configs = [variation.make_config() for variation in VARIATIONS.values()]
    count = max(config.augmented_epochs for config in configs if config.seed == seed)
    with worker_pool(count_cores()) as pool:
        epochs = augmented_epochs(job.data.images, epochs=count, seed=seed, executor=pool)
        images = np.array(list(track(epochs, "augmenting", count, console)), np.uint8)
    with files.replacing(path) as temporary:
        np.save(temporary, images)


def _train(job: Job, names: Sequence[tuple[str, int]], index: int, _report: Report) -> None:
    """Train the networks of a variation for a fold, and write which rows their mean predicts correctly."""
    with hide_native_messages():
        from digit_recognizer.training.member import train_member

    name, fold = names[index]
    variation = VARIATIONS[name]
    config = variation.make_config()
    folds = make_folds(job.data.labels, folds=FOLDS, validation=config.validation, seed=SPLIT_SEED)
    augmented = np.load(_augmented_path(job.work_dir, config.seed), mmap_mode="r")
    train = functools.partial(train_member, config, job.data, folds, precision=job.precision, report=lambda *_: None)
    started = time.process_time()
    with variation.patch():
        members = [
            train(member, augmented=iter(augmented)).predictions
            for member in range(fold * config.members, (fold + 1) * config.members)
        ]
    rows, labels, _ = members[0]
    right = np.mean([one.probabilities for one in members], axis=0).argmax(axis=1) == labels
    files.cache_arrays(_path(job.work_dir, name, fold), rows=rows, right=right, seconds=time.process_time() - started)


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv.")] = Path("data"),
    work_dir: Annotated[Path, typer.Option(help="Folder for results; trained networks are kept.")] = Path("bench"),
    basis: Annotated[str | None, typer.Option(help="Only what is compared with it.", show_default="all")] = None,
) -> None:
    """Compare settings of the preset single; takes over an hour."""
    bases = dict.fromkeys(variation.basis for variation in VARIATIONS.values())
    if basis not in (None, *bases):
        raise UserError(
            f"expected a setting that others are compared with, {' or '.join(map(repr, bases))}, got {basis!r}"
        )
    result = measure(data_dir, work_dir, Console(stderr=True), basis)
    files.write_json(work_dir / "ablation.json", result)
    typer.echo(tables.ablation_tables([result]))


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"ablation: {error}")
