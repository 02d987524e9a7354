"""The members of a run: trained one after the other, or one a GPU at a time; each complete or absent."""

import resource
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from digit_recognizer import evaluation, files, runs, workers
from digit_recognizer.augmentation import augmented_epochs
from digit_recognizer.budget import OutOfTimeError, TimeBudget
from digit_recognizer.config import Config
from digit_recognizer.data import Dataset, Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.progress import TrainingDisplay
from digit_recognizer.quiet import native_messages_hidden


class Job(NamedTuple):
    """What a run's members have in common."""

    config: Config
    data: Dataset  # train.csv
    folds: list[Fold]
    run_dir: Path  # models/<run>
    budget: TimeBudget


def train_run(
    config: Config,
    data: Dataset,
    run_dir: Path,
    record: dict[str, Any],
    console: Console,
    *,
    gpus: Sequence[str] = (),
    budget: TimeBudget | None = None,
) -> dict[str, Any]:
    """Trains the members of a run that are not there yet.

    Args:
        config: the settings.
        data: train.csv.
        run_dir: models/<run>; what is complete in it is kept.
        record: of the run (`runs.new_record`), taken when there is no run.json yet.
        console: where to show the progress.
        gpus: out of `session.find_gpus`; on two or more of them as many members are trained at once.
        budget: of time; members that would not fit into it are left out.

    Returns:
        The finished record, which is in run.json too; `left_out` in it has the members that there was no time for.

    Raises:
        UserError: the folder holds a run of other settings or data, or there is no time for a single member.
    """
    record = _begin(run_dir, record)
    folds = make_folds(data.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    missing = _missing(run_dir, folds)
    if missing:
        _train_members(Job(config, data, folds, run_dir, budget or TimeBudget()), missing, gpus, console)
    left_out = _missing(run_dir, folds)
    if left_out:
        console.print(
            f"out of time: {len(left_out)} of {len(folds)} members are left out; the others make up the run",
            soft_wrap=True,
        )
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
        record["left_out"] = left_out
    if missing:
        record["peak_memory_bytes"] = _peak_memory()
        record["machine"]["gpus"] = _gpus()
    runs.write_finished(run_dir, record)
    return record


def _missing(run_dir: Path, folds: list[Fold]) -> list[int]:
    return [index for index in range(len(folds)) if not runs.member_dir(run_dir, index).exists()]


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


def _train_members(job: Job, missing: list[int], gpus: Sequence[str], console: Console) -> None:
    """Trains members and writes their folders, as long as there is time."""
    if min(len(gpus), len(missing)) > 1:
        train = partial(_train_alone, job)
        times = workers.share_out(train, missing, gpus, may_begin=job.budget.has_room, console=console)
    else:
        times = _train_in_turn(job, missing, console)
    try:
        for seconds in times:
            job.budget.member_ended(seconds)
    except OutOfTimeError as error:
        if not runs.member_dirs(job.run_dir):
            raise UserError(
                f"expected time for one member at least, found that {error}; choose fewer epochs, the preset fast, or "
                "more hours"
            ) from None


def _train_in_turn(job: Job, missing: list[int], console: Console) -> Iterator[float]:
    """Trains members in this process and yields the seconds that each took."""
    # Augmentation starts before TensorFlow is imported, which takes as long as the first epoch's images.
    epochs_ahead = _augmentation(job, missing[0])
    with _display(job, len(missing), console) as display:
        for index in missing:
            if not job.budget.has_room():
                return
            yield _train(job, index, epochs_ahead if index == missing[0] else _augmentation(job, index), display)
            display.member_done()


def _train_alone(job: Job, index: int, console: Console) -> float:
    """Trains one member in a process of its own and returns the seconds that it took."""
    epochs_ahead = _augmentation(job, index)
    with _display(job, 1, console) as display:
        return _train(job, index, epochs_ahead, display)


def _train(job: Job, index: int, augmented: Iterator[np.ndarray], display: TrainingDisplay) -> float:
    with native_messages_hidden():
        from digit_recognizer.training import train_member

    started, fold = job.budget.now(), job.folds[index]
    member = train_member(
        job.config, job.data, fold, seed=_seed(job.config, index), augmented=augmented, display=display
    )
    runs.write_member(runs.member_dir(job.run_dir, index), member, fold.validation, job.data.labels[fold.validation])
    return job.budget.now() - started


def _display(job: Job, members: int, console: Console) -> TrainingDisplay:
    with native_messages_hidden():
        from digit_recognizer.training import steps_per_epoch

    return TrainingDisplay(
        members=members,
        epochs=job.config.epochs,
        steps=steps_per_epoch(len(job.folds[0].train), job.config.batch_size),
        batch_size=job.config.batch_size,
        console=console,
        after_epoch=lambda epoch: job.budget.epoch_ended(epoch, job.config.epochs),
    )


def _peak_memory() -> int:
    """Returns the most bytes that this process or one of its workers has held in memory."""
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return used if sys.platform == "darwin" else used * 1024


def _gpus() -> list[str]:
    with native_messages_hidden():
        import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [device.get("device_name", "GPU") for device in details]


def _seed(config: Config, index: int) -> int:
    """Returns the seed of a member, another for each member and each seed of the run."""
    return int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])


def _augmentation(job: Job, index: int) -> Iterator[np.ndarray]:
    epochs = max(0, job.config.epochs - job.config.plain_epochs)
    if not job.config.augment or not epochs:
        return iter(())
    return augmented_epochs(job.data.images[job.folds[index].train], epochs=epochs, seed=_seed(job.config, index))
