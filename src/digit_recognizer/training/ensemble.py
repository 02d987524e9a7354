"""Train the members of a run: one alone on the whole machine, several in parallel worker processes or on a cluster."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import PRESETS, Config
from digit_recognizer.console import hide_native_messages, track
from digit_recognizer.data.augmentation import augment_epoch, augmented_epochs
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.errors import UserError
from digit_recognizer.training import records
from digit_recognizer.training.checkpoint import count_begun_epochs, read_checkpoint
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices
from digit_recognizer.training.estimate import describe_seconds, estimate_seconds, measure_apart
from digit_recognizer.training.progress import TrainingDisplay
from digit_recognizer.training.session import (
    WORK,
    Job,
    Run,
    checkpoint_path,
    count_epochs,
    describe_origin,
    epoch_path,
    measure_usage,
    note_origin,
    open_run,
)
from digit_recognizer.training.workers import Report, run_tasks, worker_pool

REPORT_SECONDS = 0.5  # between two reports of a worker, which also reports the last step of an epoch
AUGMENTATION_WORKERS = 8  # at most; they augment an epoch in about a second
ESTIMATED_STEPS = 500  # fewer take less time than the measurement for an estimate
LONG = 600  # seconds; before a training that takes longer, a faster preset is named


def train_runs(
    wanted: Sequence[Run],
    data: Dataset,
    console: Console,
    *,
    gpus: Sequence[str] = (),
    log: bool = False,
    cluster: str | None = None,
    cores: int | None = None,
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train runs that differ in their seeds, one after another on this machine or all at once on a Ray cluster.

    Args:
        wanted: The runs.
        data: Rows of train.csv.
        console: For the progress.
        gpus: GPUs of this machine, not used with a cluster.
        log: Whether to write TensorBoard logs, on this machine only.
        cluster: Address of a Ray cluster (`cluster.connected`).
        cores: Processor cores of the cluster for each member; None for what one of its machines would give it.

    Yields:
        Each run with its record (`train_members`) when it is complete.

    Raises:
        UserError: See `train_members` and `cluster`.
    """
    if cluster is not None:
        yield from _train_on_cluster(wanted, data, console, cluster, cores)
    else:
        for run in wanted:
            yield run, train_members(run.config, data, run.run_dir, run.record, console, gpus=gpus, log=log)


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
    with open_run(Run(config, run_dir, record), data, console, log=log) as (job, missing, record):
        if missing:
            opened = time.monotonic()
            job = job._replace(precision=record["precision"] or config.precision or choose_precision(gpus))
            console.print(_announce(job, len(missing), gpus), soft_wrap=True)
            origin, started = describe_origin(job.precision, gpus), time.monotonic()
            record["training_seconds"] -= started - opened  # the measurement for the estimate does not count
            first_step = _train_missing(job, missing, gpus, console, lambda index: note_origin(record, index, origin))
            record["first_step_seconds"] = round(first_step - started, 1) if first_step else None
    return record


def _announce(job: Job, missing: int, gpus: Sequence[str]) -> str:
    """Return a line about what is trained and how long that takes here; a training of a few steps is not estimated."""
    config, rows = job.config, len(job.folds[0].train)
    networks = f"{missing} network{'s' if missing > 1 else ''}"
    what = f"{config.preset}: {networks}, {config.epochs} epochs on {rows:,} images"
    if missing * config.epochs * config.steps_per_epoch(rows) < ESTIMATED_STEPS:
        return what
    cost = measure_apart(replace(config, seed=0), job.precision, tuple(gpus))
    seconds = estimate_seconds(config, len(job.data.images), cost, cores=count_cores(), gpus=len(gpus), members=missing)
    presets = list(PRESETS)
    faster = presets[max(presets.index(config.preset) - 1, 0)] if config.preset in presets else presets[0]
    hint = f"; PRESET={faster} is faster" if seconds > LONG else ""
    return f"{what}, {describe_seconds(seconds)} on this machine{hint}"


def _train_missing(
    job: Job, missing: list[int], gpus: Sequence[str], console: Console, note: Callable[[int], None]
) -> float | None:
    """Train members and write their folders; return the time of the first step on the monotonic clock."""
    config, states = job.config, {index: read_checkpoint(checkpoint_path(job, index)) for index in missing}
    positions = {f"member {index}": (state.epoch, state.step) for index, state in states.items()}
    display = TrainingDisplay(config, positions, len(job.folds[0].train), console)

    def report(step: tuple[Any, ...]) -> None:
        display.update(f"member {step[0]}", *step[1:])

    with worker_pool(min(count_cores(), AUGMENTATION_WORKERS)) as pool:
        augment = partial(
            augmented_epochs, job.data.images, epochs=config.augmented_epochs, seed=config.seed, executor=pool
        )
        if job.members == 1:  # the first epoch is augmented during the import of TensorFlow
            epochs = augment(first=count_begun_epochs(config, checkpoint_path(job, 0)))
            with display:
                _train(job, epochs, 0, report)
            note(0)
            return display.first_step
        # Several members share the augmented images: all epochs are made first, which costs the same time.
        first, total = count_epochs(job), config.augmented_epochs
        for epoch, images in enumerate(track(augment(first=first), "augmenting", total - first, console), start=first):
            with files.replacing(epoch_path(job, epoch)) as temporary:
                np.save(temporary, images)
    with display:
        for index in run_tasks(
            partial(_train_in_worker, job), missing, split_devices(job.members, gpus), report=report
        ):
            note(index)
    return display.first_step


def _train_in_worker(job: Job, index: int, report: Report) -> int:
    """Train one member in a worker process; return its index."""
    first = count_begun_epochs(job.config, checkpoint_path(job, index))
    paths = (epoch_path(job, epoch) for epoch in range(first, job.config.augmented_epochs))
    _train(job, (np.load(path, mmap_mode="r") for path in paths), index, _report_some(report))
    return index


def _report_some(report: Report) -> Report:
    """Return a callback that reports some of the steps, because each report costs time."""
    reported = -REPORT_SECONDS

    def report_some(step: tuple[Any, ...]) -> None:
        nonlocal reported
        if step[-1] or time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            report(step)

    return report_some


def _train_on_cluster(
    wanted: Sequence[Run], data: Dataset, console: Console, address: str, cores: int | None
) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Train the missing members of runs as tasks of a Ray cluster, and write their folders."""
    with contextlib.ExitStack() as stack:
        closings = [stack.enter_context(contextlib.ExitStack()) for _ in wanted]
        opened = [one.enter_context(open_run(run, data, console)) for one, run in zip(closings, wanted, strict=True)]
        left = {number: set(missing) for number, (_, missing, _) in enumerate(opened) if missing}
        yield from ((wanted[number], record) for number, (_, missing, record) in enumerate(opened) if not missing)
        if not left:
            return
        try:
            from digit_recognizer.training import cluster
        except ModuleNotFoundError as error:
            raise UserError(
                f"expected the packages of a cluster, found no {error.name}; run `make train CLUSTER={address}`, or "
                "pip install '.[cluster]'"
            ) from None
        stack.enter_context(cluster.connected(address))
        resources = cluster.choose_resources(opened[0][0].members, cores)
        several = len(wanted) > 1
        names = {
            f"{wanted[number].run_dir.name} member {index}" if several else f"member {index}": (number, index)
            for number, indices in left.items()
            for index in sorted(indices)
        }
        console.print(f"{len(names)} networks, {cluster.describe(resources)}", soft_wrap=True)
        rows = cluster.share(data)

        def make_inputs() -> Iterator[tuple[str, tuple[Any, ...]]]:
            made, epochs, shared = None, list[Any](), None
            for name, (number, index) in names.items():
                job = opened[number][0]
                if number != made:  # the members of a run share the augmented images
                    count, seed = job.config.augmented_epochs, job.config.seed
                    epochs = [cluster.submit(_augment_rows, rows, seed, epoch) for epoch in range(count)]
                    made, shared = number, cluster.share(job._replace(data=data._replace(images=data.images[:0])))
                yield name, (index, shared, rows, *epochs)

        display = TrainingDisplay(
            wanted[0].config, dict.fromkeys(names, (0, 0)), len(opened[0][0].folds[0].train), console
        )
        with display:
            trained = cluster.run_tasks(
                _train_on_node,
                make_inputs(),
                resources,
                report=lambda name, step: display.update(name, *step[1:]),
                notice=lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False),
                watch=lambda count: setattr(display, "nodes", count),
            )
            for name, (contents, origin, seconds, memory) in trained:
                number, index = names[name]
                record = opened[number][2]
                records.write_files(records.member_dir(wanted[number].run_dir, index), contents)
                note_origin(record, index, origin)
                record["processor_seconds"] += seconds
                record["peak_memory_bytes"] = max(record["peak_memory_bytes"], memory)
                left[number].remove(index)
                if not left[number]:
                    closings[number].close()
                    yield wanted[number], record


def _augment_rows(data: Dataset, seed: int, epoch: int) -> np.ndarray:
    return augment_epoch(data.images, seed, epoch)


def _train_on_node(
    report: Report, index: int, job: Job, data: Dataset, *epochs: np.ndarray
) -> tuple[dict[str, bytes], dict[str, Any], float, int]:
    """Train one member on a node of a cluster; return its files, its origin, CPU seconds and peak memory."""
    gpus = find_gpus()
    precision = job.config.precision or choose_precision(gpus)
    with tempfile.TemporaryDirectory(prefix="digit-recognizer-") as folder:
        job = job._replace(data=data, run_dir=Path(folder), precision=precision)
        (job.run_dir / WORK).mkdir()
        _train(job, iter(epochs), index, _report_some(report))
        contents = {path.name: path.read_bytes() for path in records.member_dir(job.run_dir, index).iterdir()}
    return contents, describe_origin(precision, gpus), *measure_usage()


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
        checkpoint=checkpoint_path(job, index),
        log_dir=job.run_dir / "tensorboard" / f"member-{index}" if job.log else None,
    )
    records.write_member(records.member_dir(job.run_dir, index), member)
    checkpoint_path(job, index).unlink()
