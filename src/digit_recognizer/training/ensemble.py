"""The members of a run, each complete or absent: one alone with all of the machine, several side by side."""

import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import Config
from digit_recognizer.console import TrainingDisplay, hide_native_messages
from digit_recognizer.data.augmentation import augmented_epochs, read_epochs, write_epochs
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import metrics
from digit_recognizer.training import devices, runs, workers
from digit_recognizer.training.precision import choose_precision
from digit_recognizer.training.time_budget import OutOfTimeError, TimeBudget

TELL_SECONDS = 0.2  # between two steps that a worker tells of; each costs both processes time

Epochs = Callable[[], Iterator[np.ndarray]]  # the distorted copies of all rows, uint8 [n, 28, 28] an epoch


class Job(NamedTuple):
    """What a run's members have in common."""

    config: Config
    data: Dataset  # train.csv
    test_images: np.ndarray  # uint8 [n, 28, 28], test.csv
    folds: list[Fold]
    run_dir: Path  # models/<run>
    precision: str
    budget: TimeBudget
    log: bool  # for TensorBoard


def train_run(
    config: Config,
    data: Dataset,
    test_images: np.ndarray,
    run_dir: Path,
    record: dict[str, Any],
    console: Console,
    *,
    gpus: Sequence[str] = (),
    budget: TimeBudget | None = None,
    log: bool = False,
) -> dict[str, Any]:
    """Trains the members of a run that are not there yet.

    Args:
        config: the settings.
        data: train.csv.
        test_images: uint8 [n, 28, 28], of test.csv, which each member answers.
        run_dir: models/<run>; what is complete in it is kept.
        record: of the run (`runs.new_record`), taken when there is no run.json yet.
        console: where to show the progress.
        gpus: out of `devices.find_gpus`; on two or more of them as many members are trained at once.
        budget: of time; members that would not fit into it are left out.
        log: whether to write models/<run>/tensorboard/.

    Returns:
        The finished record, which is in run.json too; `left_out` in it has the members that there was no time for.

    Raises:
        UserError: the folder holds a run of other settings or data, or there is no time for a single member.
    """
    started = time.monotonic()
    record = _begin(run_dir, record)
    folds = make_folds(data.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    members = len(folds) * config.members  # those of a fold follow each other
    missing = _missing(run_dir, members)
    if missing:
        epochs = _start_augmentation(config, data)  # takes as long as TensorFlow's import, which comes next
        record["precision"] = record["precision"] or choose_precision(gpus)
        budget = budget or TimeBudget()
        job = Job(config, data, test_images, folds, run_dir, record["precision"], budget, log)
        processor_seconds = _processor_seconds()
        display = _display(job, missing, console)
        try:
            _train_members(job, missing, epochs, gpus, display)
        finally:  # of an interrupted run too
            record["training_seconds"] += round(time.monotonic() - started, 1)
            record["processor_seconds"] += round(_processor_seconds() - processor_seconds, 1)
            if display.first_step:
                record["first_step_seconds"] = round(display.first_step - started, 1)
            files.write_json(run_dir / "run.json", record)
    left_out = _missing(run_dir, members)
    if left_out:
        console.print(
            f"out of time: {len(left_out)} of {members} members are left out; the others make up the run",
            soft_wrap=True,
        )
    if missing or record["scores"] is None:
        record["scores"] = _scores(runs.read_predictions(run_dir))
        record["finished_at"] = runs.now()
        record["left_out"] = left_out
    if missing:
        record["peak_memory_bytes"] = _peak_memory()
        record["machine"]["gpus"] = _gpus()
    runs.write_finished(run_dir, record)
    return record


def _scores(answers: runs.Predictions) -> dict[str, Any]:
    held_out = len(answers.rows)
    return {
        "validation_accuracy": metrics.accuracy(*answers[1:]).value if held_out else None,
        "validation_loss": metrics.log_loss(*answers[1:]) if held_out else None,
        "validation_rows": held_out,
    }


def _missing(run_dir: Path, members: int) -> list[int]:
    return [index for index in range(members) if not runs.member_dir(run_dir, index).exists()]


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


def _display(job: Job, missing: list[int], console: Console) -> TrainingDisplay:
    with hide_native_messages():
        from digit_recognizer.training.member import steps_per_epoch

    return TrainingDisplay(
        members=missing,
        epochs=job.config.epochs,
        steps=steps_per_epoch(len(job.folds[0].train), job.config.batch_size),
        batch_size=job.config.batch_size,
        console=console,
    )


def _train_members(job: Job, missing: list[int], epochs: Epochs, gpus: Sequence[str], display: TrainingDisplay) -> None:
    """Trains members and writes their folders, as long as there is time."""
    members = len(job.folds) * job.config.members
    try:
        with display:
            if members == 1:
                _train(job, epochs(), 0, lambda told: display.show(*told[:-1], last=told[-1]))
            else:
                _train_side_by_side(job, missing, epochs, devices.machine_parts(members, gpus), display)
    except OutOfTimeError as error:
        if not runs.member_dirs(job.run_dir):
            raise UserError(
                f"expected time for one member at least, found that {error}; choose fewer epochs, the preset fast, or "
                "more hours"
            ) from None


def _train_side_by_side(
    job: Job, missing: list[int], epochs: Epochs, parts: list[dict[str, str]], display: TrainingDisplay
) -> None:
    """Trains members in processes of their own, which share the distorted copies of the images through files."""
    with (
        tempfile.TemporaryDirectory(dir=job.run_dir, prefix=".epochs.") as folder,
        ThreadPoolExecutor(1) as thread,
    ):
        stop = threading.Event()
        writing = thread.submit(write_epochs, epochs(), Path(folder), stop)
        times = workers.share_out(
            partial(_train_alone, job, Path(folder)),
            missing,
            parts,
            may_begin=lambda: _still(writing) and job.budget.has_room(),
            tell=lambda told: display.show(*told[:-1], last=told[-1]),
        )
        try:
            for seconds in times:
                job.budget.member_ended(seconds)
        finally:
            stop.set()


def _still(writing: Future[None]) -> bool:
    """Returns True; raises what has ended the writing of epochs, which the members would wait for."""
    if writing.done():
        writing.result()
    return True


def _train_alone(job: Job, folder: Path, index: int, tell: workers.Tell) -> float:
    """Trains one member in a process of its own and returns the seconds that it took."""
    told = 0.0

    def tell_now_and_then(step: tuple[Any, ...]) -> None:
        nonlocal told
        if step[-1] or time.monotonic() > told + TELL_SECONDS:
            told = time.monotonic()
            tell(step)

    return _train(job, read_epochs(folder, epochs=_augmented(job.config)), index, tell_now_and_then)


def _train(job: Job, epochs: Iterator[np.ndarray], index: int, tell: workers.Tell) -> float:
    """Trains and writes a member, tells of it by the arguments of `TrainingDisplay.show`, and returns the seconds."""
    with hide_native_messages():
        from digit_recognizer.training.member import Step, train_member

    def tell_step(step: Step) -> None:
        tell((index, *step))
        if step.last:
            job.budget.epoch_ended(step.epoch, job.config.epochs)

    started, fold = job.budget.now(), job.folds[index // job.config.members]
    member = train_member(
        job.config,
        job.data,
        fold,
        job.test_images,
        architecture=job.config.architectures[index % len(job.config.architectures)],
        seed=_seed(job.config, index),
        precision=job.precision,
        augmented=epochs,
        tell=tell_step,
        log_dir=job.run_dir / "tensorboard" / f"member-{index}" if job.log else None,
    )
    runs.write_member(runs.member_dir(job.run_dir, index), member, fold.validation, job.data.labels[fold.validation])
    return job.budget.now() - started


def _start_augmentation(config: Config, data: Dataset) -> Epochs:
    """Starts to make the first epoch's distorted copies, and returns what yields those of all epochs."""
    if not _augmented(config):
        return lambda: iter(())
    epochs = augmented_epochs(data.images, epochs=_augmented(config), seed=config.seed)
    return lambda: epochs


def _augmented(config: Config) -> int:
    """Returns the number of augmented epochs."""
    return max(0, config.epochs - 1 - config.plain_epochs) if config.augment else 0


def _seed(config: Config, index: int) -> int:
    """Returns the seed of a member, another for each member and each seed of the run."""
    return int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])


def _processor_seconds() -> float:
    """Returns the time that processors have spent on this process and on those of its workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak_memory() -> int:
    """Returns the most bytes that this process or one of its workers has held in memory."""
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return used if sys.platform == "darwin" else used * 1024


def _gpus() -> list[str]:
    with hide_native_messages():
        import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [device.get("device_name", "GPU") for device in details]
