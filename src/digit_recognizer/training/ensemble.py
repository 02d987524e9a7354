"""Train the members of a run: one alone on the whole machine, several in parallel worker processes."""

import resource
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import PRESETS, Config, count_members
from digit_recognizer.console import hide_native_messages, track
from digit_recognizer.data.augmentation import augmented_epochs
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training import records, runs
from digit_recognizer.training.checkpoint import count_begun_epochs, read_checkpoint
from digit_recognizer.training.devices import choose_precision, count_cores, query_gpus, split_devices
from digit_recognizer.training.estimate import describe_seconds, estimate_seconds, measure_once
from digit_recognizer.training.progress import TrainingDisplay
from digit_recognizer.training.workers import Report, run_tasks, worker_pool

REPORTED_STEPS = 10  # a worker reports each tenth step, and the last of an epoch
AUGMENTATION_WORKERS = 8  # at most; they augment an epoch in about a second
WORK = ".work"  # in the run's folder until all members are trained: checkpoints and augmented epochs
ESTIMATED_STEPS = 500  # fewer take less time than the measurement for an estimate
LONG = 600  # seconds; before a training that takes longer, a faster preset is named
MEMBER_BYTES = 20_000_000  # disk space for a member's files and its checkpoint, with room to spare


class Job(NamedTuple):
    """What the members of a run have in common."""

    config: Config
    data: Dataset  # train.csv, and the extra images after its rows
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

    A training that was killed is resumed with the same result. `record` is used if the folder has none; with `log`,
    TensorBoard logs are written, too. The returned record has times, memory and precision; its scores are None if a
    member was trained.

    Raises:
        UserError: The folder holds a run with other settings, data or code, another process is training this run, there
            is not enough disk space, or a worker process was killed.
    """
    with files.locked(run_dir, wait=False):
        versions, record = record["versions"], _open_record(run_dir, record)
        extra = record["data"].get("extra", {}).get("images", 0)
        split = partial(make_folds, folds=config.folds, validation=config.validation, seed=config.split_seed)
        folds = split(data.labels, extra=extra)
        record["precision"] = record["precision"] or config.precision or choose_precision(gpus)
        members = count_members(record["config"])
        missing = [index for index in range(members) if not records.member_dir(run_dir, index).is_dir()]
        different = [
            f"{name} {version}" for name, version in record["versions"].items() if versions.get(name) != version
        ]
        if different and missing:
            raise UserError(
                f"expected the versions of the members in {run_dir} ({', '.join(different)}), found others; install "
                "these, choose another RUN=, or delete the folder"
            )
        if not missing:
            shutil.rmtree(run_dir / WORK, ignore_errors=True)  # of a run that was killed at its very end
            if different:
                console.print(f"{run_dir.name} was trained with {', '.join(different)}", soft_wrap=True)
            return record
        job = Job(config, data, folds, members, run_dir, record["precision"], log)
        console.print(_announce(job, len(missing), gpus, record), soft_wrap=True)
        started = time.monotonic()
        _prepare(job, len(missing))
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
        shutil.rmtree(run_dir / WORK)
        record["machine"]["gpus"] = query_gpus("name", gpus) if gpus else []
        return record


def _open_record(run_dir: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record in the folder if it has the same settings, data and code; write the new one if it has none."""
    path = run_dir / "run.json"
    if not path.exists():
        files.write_json(path, record)
        return record
    found = runs.read_record(run_dir)
    different = [name for name, value in record["config"].items() if found["config"].get(name) != value]
    different += [name for name in ("train.csv", "extra") if found["data"].get(name) != record["data"].get(name)]
    different += [name for name in ("code", "onednn") if found.get(name, record[name]) != record[name]]
    if different:
        raise UserError(
            f"expected {run_dir} to hold a run with these settings, found one that differs in {', '.join(different)}; "
            "choose another RUN=, or delete the folder"
        )
    return found


def _announce(job: Job, missing: int, gpus: Sequence[str], record: dict[str, Any]) -> str:
    """Return a line about what is trained and how long that takes here; a training of a few steps is not estimated."""
    config, rows = job.config, len(job.folds[0].train)
    networks = f"{missing} network{'s' if missing > 1 else ''}"
    what = f"{config.preset}: {networks}, {config.epochs} epochs on {rows:,} images"
    if missing * config.epochs * config.steps_per_epoch(rows) < ESTIMATED_STEPS:
        return what
    machine = {name: record[name] for name in ("machine", "versions", "onednn", "code")}
    cost = measure_once(config, job.precision, gpus, job.run_dir.parent / ".speed.json", machine=machine)
    seconds = estimate_seconds(config, len(job.data.images), cost, cores=count_cores(), gpus=len(gpus), members=missing)
    presets = list(PRESETS)
    faster = presets[max(presets.index(config.preset) - 1, 0)] if config.preset in presets else presets[0]
    hint = f"; PRESET={faster} is faster" if seconds > LONG else ""
    return f"{what}, {describe_seconds(seconds)} on this machine{hint}"


def _prepare(job: Job, missing: int) -> None:
    """Delete leftovers of killed processes, make the working folder, and check that the disk has space."""
    for leftover in job.run_dir.glob(".member-*"):
        shutil.rmtree(leftover)
    (job.run_dir / WORK).mkdir(exist_ok=True)
    epochs = job.config.augmented_epochs if job.members > 1 else 0
    needed = missing * MEMBER_BYTES + (epochs - _count_epochs(job)) * job.data.images.nbytes
    free = shutil.disk_usage(job.run_dir).free
    if free < needed:
        raise UserError(
            f"expected {needed / 1e6:,.0f} MB of free disk space for {job.run_dir}, found {free / 1e6:,.0f} MB; free "
            "some, or train fewer EPOCHS"
        )


def _epoch_path(job: Job, epoch: int) -> Path:
    return job.run_dir / WORK / f"epoch-{epoch}.npy"


def _count_epochs(job: Job) -> int:
    """Return the number of augmented epochs on disk, which are written in their order."""
    return len(list((job.run_dir / WORK).glob("epoch-*.npy")))


def _checkpoint_path(job: Job, index: int) -> Path:
    return job.run_dir / WORK / f"member-{index}.npz"


def _train_missing(job: Job, missing: list[int], gpus: Sequence[str], console: Console) -> float | None:
    """Train members and write their folders; return the time of the first step on the monotonic clock."""
    config, states = job.config, {index: read_checkpoint(_checkpoint_path(job, index)) for index in missing}
    positions = {index: (state.epoch, state.step) for index, state in states.items()}
    display = TrainingDisplay(config, positions, len(job.folds[0].train), console)

    def report(step: tuple[Any, ...]) -> None:
        display.update(*step)

    with worker_pool(min(count_cores(), AUGMENTATION_WORKERS)) as pool:
        augment = partial(
            augmented_epochs, job.data.images, epochs=config.augmented_epochs, seed=config.seed, executor=pool
        )
        if job.members == 1:  # the first epoch is augmented during the import of TensorFlow
            epochs = augment(first=count_begun_epochs(config, _checkpoint_path(job, 0)))
            with display:
                _train(job, epochs, 0, report)
            return display.first_step
        # Several members share the augmented images: all epochs are made first, which costs the same time.
        first, total = _count_epochs(job), config.augmented_epochs
        for epoch, images in enumerate(track(augment(first=first), "augmenting", total - first, console), start=first):
            with files.replacing(_epoch_path(job, epoch)) as temporary:
                np.save(temporary, images)
    with display:
        for _ in run_tasks(partial(_train_in_worker, job), missing, split_devices(job.members, gpus), report=report):
            pass
    return display.first_step


def _train_in_worker(job: Job, index: int, report: Report) -> None:
    """Train one member in a worker process; report some of its steps, because each report costs time."""

    def report_some(step: tuple[Any, ...]) -> None:
        if step[-1] or step[2] % REPORTED_STEPS == 0:
            report(step)

    first = count_begun_epochs(job.config, _checkpoint_path(job, index))
    paths = (_epoch_path(job, epoch) for epoch in range(first, job.config.augmented_epochs))
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
        checkpoint=_checkpoint_path(job, index),
        log_dir=job.run_dir / "tensorboard" / f"member-{index}" if job.log else None,
    )
    records.write_member(records.member_dir(job.run_dir, index), member)
    _checkpoint_path(job, index).unlink()


def _measure_usage() -> tuple[float, int]:
    """Return the CPU time of this process and its ended children, and the peak memory in bytes of the largest one."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return sum(usage.ru_utime + usage.ru_stime for usage in used), max(usage.ru_maxrss for usage in used) * unit
