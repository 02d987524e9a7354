"""The members of a run: trained one after the other, each complete or absent."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from digit_recognizer import evaluation, files, runs
from digit_recognizer.augmentation import augmented_epochs
from digit_recognizer.config import Config
from digit_recognizer.data import Dataset, Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.progress import TrainingDisplay
from digit_recognizer.quiet import native_messages_hidden


def train_run(config: Config, data: Dataset, run_dir: Path, record: dict[str, Any], console: Console) -> dict[str, Any]:
    """Trains the members of a run that are not there yet.

    Args:
        config: the settings.
        data: train.csv.
        run_dir: models/<run>; what is complete in it is kept.
        record: of the run (`runs.new_record`), taken when there is no run.json yet.
        console: where to show the progress.

    Returns:
        The finished record, which is in run.json too.

    Raises:
        UserError: the folder holds a run of other settings or data.
    """
    record = _begin(run_dir, record)
    folds = make_folds(data.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    missing = [index for index in range(len(folds)) if not runs.member_dir(run_dir, index).exists()]
    if missing:
        _train_members(config, data, folds, missing, run_dir, console)
    if missing or record["scores"] is None:
        answers = runs.read_answers(run_dir)
        record["scores"] = {
            "validation_accuracy": evaluation.accuracy(answers.labels, answers.probabilities).value,
            "validation_loss": evaluation.log_loss(answers.labels, answers.probabilities),
            "validation_rows": len(answers.rows),
        }
        seconds = [runs.read_history(folder)["seconds"].sum() for folder in runs.member_dirs(run_dir)]
        record["training_seconds"] = round(float(sum(seconds)), 1)
        record["finished_at"] = runs.now()
    runs.write_finished(run_dir, record)
    return record


def _begin(run_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of the run in the folder, or writes and returns the new one."""
    path = run_dir / "run.json"
    if not path.exists():
        files.write_json(path, record)
        return record
    found = files.read_json(path)
    for key in ("config", "data"):
        if found[key] != record[key]:
            different = [name for name, value in record[key].items() if found[key].get(name) != value]
            raise UserError(
                f"expected {run_dir} to hold a run of these settings, found one that differs in "
                f"{', '.join(different)}; choose another RUN=, or delete the folder"
            )
    return found


def _train_members(
    config: Config, data: Dataset, folds: list[Fold], missing: list[int], run_dir: Path, console: Console
) -> None:
    """Trains members and writes their folders."""
    # Augmentation starts before TensorFlow is imported, which takes as long as the first epoch's images.
    epochs_ahead = _augmentation(config, data, folds[missing[0]], missing[0])
    with native_messages_hidden():
        from digit_recognizer.training import steps_per_epoch, train_member

    steps = steps_per_epoch(len(folds[0].train), config.batch_size)
    with TrainingDisplay(
        members=len(missing), epochs=config.epochs, steps=steps, batch_size=config.batch_size, console=console
    ) as display:
        for position, index in enumerate(missing):
            augmented = epochs_ahead if position == 0 else _augmentation(config, data, folds[index], index)
            member = train_member(
                config, data, folds[index], seed=_seed(config, index), augmented=augmented, display=display
            )
            fold = folds[index]
            runs.write_member(runs.member_dir(run_dir, index), member, fold.validation, data.labels[fold.validation])
            display.member_done()


def _seed(config: Config, index: int) -> int:
    """Returns the seed of a member, another for each member and each seed of the run."""
    return int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])


def _augmentation(config: Config, data: Dataset, fold: Fold, index: int) -> Iterator[np.ndarray]:
    epochs = max(0, config.epochs - config.plain_epochs)
    if not config.augment or not epochs:
        return iter(())
    return augmented_epochs(data.images[fold.train], epochs=epochs, seed=_seed(config, index))
