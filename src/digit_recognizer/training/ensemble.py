"""Train the members of a run: one alone on the whole machine, several in parallel worker processes."""

import contextlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import Config, count_members
from digit_recognizer.console import hide_native_messages, track
from digit_recognizer.data.augmentation import augmented_epochs
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training import records
from digit_recognizer.training.devices import choose_precision, count_cores, query_gpus, split_devices
from digit_recognizer.training.progress import TrainingDisplay
from digit_recognizer.training.workers import Report, run_tasks, worker_pool

REPORTED_STEPS = 10  # a worker reports each tenth step, and the last of an epoch


class Job(NamedTuple):
    """What the members of a run have in common."""

    config: Config
    data: Dataset  # train.csv
    folds: list[Fold]
    members: int
    run_dir: Path  # models/<run>
    precision: str
    log: bool  # for TensorBoard


def train_members(
    config: Config,
    data: Dataset,
    run_dir: Path,
    record: dict[str, Any],
    console: Console,
    *,
    gpus: Sequence[str] = (),
    log: bool = False,
) -> dict[str, Any]:
    """Train the members of a run that do not exist yet in its folder, several in parallel on cores or GPUs.

    `record` is used if the folder has none; with `log`, TensorBoard logs are written, too. The returned record has
    times, memory and precision; its scores are None if a member was trained.

    Raises:
        UserError: The folder holds a run with other settings or data, or another process is training this run.
    """
    started = time.monotonic()
    run_dir.mkdir(parents=True, exist_ok=True)
    with _lock(run_dir):
        record = _open_record(run_dir, record)
        folds = make_folds(data.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
        record["precision"] = record["precision"] or choose_precision(gpus)
        members = count_members(record["config"])
        job = Job(config, data, folds, members, run_dir, record["precision"], log)
        missing = [index for index in range(members) if not records.member_dir(run_dir, index).exists()]
        if not missing:
            return record
        record |= {"scores": None, "left_out": []}
        cpu_seconds, first_step = _measure_usage()[0], None
        try:
            first_step = _train_missing(job, missing, gpus, console)
        finally:  # of an interrupted run too
            record["training_seconds"] += round(time.monotonic() - started, 1)
            used_seconds, record["peak_memory_bytes"] = _measure_usage()
            record["processor_seconds"] += round(used_seconds - cpu_seconds, 1)
            if first_step:
                record["first_step_seconds"] = round(first_step - started, 1)
            files.write_json(run_dir / "run.json", record)
        record["machine"]["gpus"] = query_gpus("name", gpus) if gpus else []
        return record


def _lock(run_dir: Path) -> contextlib.AbstractContextManager[Any]:
    """Return the lock of a run's folder; a dead process's lock is free."""
    try:
        return FileLock(run_dir / ".lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f"expected no other training of {run_dir.name}, found one; wait until it ends") from None


def _open_record(run_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record in the folder if it has the same settings and data; write the new one if there is none."""
    path = run_dir / "run.json"
    if not path.exists():
        files.write_json(path, record)
        return record
    found = files.read_json(path)
    different = [name for name, value in record["config"].items() if found["config"].get(name) != value]
    different += ["train.csv"] if found["data"]["train.csv"] != record["data"]["train.csv"] else []
    if different:
        raise UserError(
            f"expected {run_dir} to hold a run with these settings, found one that differs in {', '.join(different)}; "
            "choose another RUN=, or delete the folder"
        )
    return found


def _train_missing(job: Job, missing: list[int], gpus: Sequence[str], console: Console) -> float | None:
    """Train members and write their folders; return the time of the first step on the monotonic clock."""
    config, display = job.config, TrainingDisplay(job.config, missing, len(job.folds[0].train), console)

    def report(step: tuple[Any, ...]) -> None:
        display.update(*step)

    for leftover in job.run_dir.glob(".epochs.*"):  # of a killed run
        shutil.rmtree(leftover)
    with worker_pool(count_cores()) as pool:
        epochs = augmented_epochs(job.data.images, epochs=config.augmented_epochs, seed=config.seed, executor=pool)
        if job.members == 1:  # the first epoch is augmented during the import of TensorFlow
            with display:
                _train(job, epochs, 0, report)
            return display.first_step
        # Several members share the augmented images: all epochs are made first, which costs the same time.
        with tempfile.TemporaryDirectory(dir=job.run_dir, prefix=".epochs.") as folder:
            for epoch, images in enumerate(track(epochs, "augmenting", config.augmented_epochs, console)):
                np.save(Path(folder) / f"{epoch}.npy", images)
            function = partial(_train_in_worker, job, Path(folder))
            with display:
                for _ in run_tasks(function, missing, split_devices(job.members, gpus), report=report):
                    pass
    return display.first_step


def _train_in_worker(job: Job, folder: Path, index: int, report: Report) -> None:
    """Train one member in a worker process; report some of its steps, because each report costs time."""

    def report_some(step: tuple[Any, ...]) -> None:
        if step[-1] or step[2] % REPORTED_STEPS == 0:
            report(step)

    paths = (folder / f"{epoch}.npy" for epoch in range(job.config.augmented_epochs))
    _train(job, (np.load(path, mmap_mode="r") for path in paths), index, report_some)


def _train(job: Job, epochs: Iterator[np.ndarray], index: int, report: Report) -> None:
    """Train a member and write its folder; report the arguments of `TrainingDisplay.update`."""
    with hide_native_messages():
        from digit_recognizer.training.member import train_member

    member = train_member(
        job.config,
        job.data,
        job.folds,
        index,
        precision=job.precision,
        augmented=epochs,
        report=lambda *step: report((index, *step)),
        log_dir=job.run_dir / "tensorboard" / f"member-{index}" if job.log else None,
    )
    records.write_member(records.member_dir(job.run_dir, index), member)


def _measure_usage() -> tuple[float, int]:
    """Return the CPU time of this process and its ended children, and the peak memory in bytes of the largest one."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return sum(usage.ru_utime + usage.ru_stime for usage in used), max(usage.ru_maxrss for usage in used) * unit
