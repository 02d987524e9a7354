"""Train the members of a run: one alone on the whole machine, several in worker processes or on a Ray cluster."""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from digit_recognizer.config import Config, count_members
from digit_recognizer.console import hide_native_messages, track
from digit_recognizer.data.augmentation import augmented_epochs
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing
from digit_recognizer.training import devices, environment, run_folder, workers
from digit_recognizer.training.checkpoint import read_checkpoint
from digit_recognizer.training.progress import TrainingDisplay

AUGMENTATION_WORKERS = 8  # at most; they augment an epoch in about a second
MEMBER_BYTES = 20_000_000  # disk space for a member's files and its checkpoint, with room to spare
Contents = tuple[int, dict[str, bytes]]  # index of a member, and the contents of its files by name


class Training(NamedTuple):
    """What the members of a run have in common."""

    config: Config
    data: Dataset  # train.csv
    folds: list[Fold]
    precision: str  # Keras dtype policy
    work_dir: Path  # folder of checkpoints and augmented epochs, on this machine
    epochs: Sequence[Any] = ()  # augmented images, uint8 [n, 28, 28] or their .npy files, one for each augmented epoch

    def checkpoint(self, index: int) -> Path:
        """Return the checkpoint of a member."""
        return self.work_dir / f"member-{index}.npz"


def train_members(
    config: Config,
    data: Dataset,
    run_dir: Path,
    record: dict[str, Any],
    console: Console,
    *,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Train the members of a run that do not exist yet in its folder; return the record of the run.

    A training that was killed is resumed after its last finished epoch, with the same result. A new folder gets
    `record`. `cluster` is the address of a Ray cluster. The scores of the returned record are None if members were
    trained.

    Raises:
        UserError: See `run_folder.open_run`; there is not enough disk space, or a process was killed.
    """
    with run_folder.open_run(run_dir, record) as (record, missing):
        if missing:
            gpus = devices.find_gpus()
            precision = record["precision"] or config.precision or devices.choose_precision(gpus)
            record |= {"precision": precision, "machine": environment.find_machine(gpus)}
            folds = make_folds(data.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
            training = Training(config, data, folds, precision, run_dir / run_folder.WORK)
            for index, contents in _train_missing(training, missing, console, cluster):
                run_folder.write_member(run_dir / f"member-{index}", contents)
                training.checkpoint(index).unlink(missing_ok=True)
    return record


def _train_missing(training: Training, missing: list[int], console: Console, cluster: str | None) -> Iterator[Contents]:
    """Train members on this machine or on a cluster."""
    config, work_dir = training.config, training.work_dir
    members, rows = count_members(config.to_dict()), len(training.folds[0].train)
    finished = {index: _count_epochs(training.checkpoint(index), index, console) for index in missing}
    networks = f"{len(missing)} network{'s' if len(missing) > 1 else ''}"
    console.print(f"{config.preset}: {networks}, {config.epochs} epochs on {rows:,} images", soft_wrap=True)
    if cluster:
        from digit_recognizer.training.cluster import run_tasks_on_cluster

        execute = partial(run_tasks_on_cluster, address=cluster, members=members)
    else:
        execute = partial(workers.run_tasks, devices=devices.split_devices(members, devices.find_gpus()))
    alone = members == 1 and not cluster
    paths = [] if alone else [work_dir / f"epoch-{epoch}.npy" for epoch in range(config.augmented_epochs)]
    made = sum(path.exists() for path in paths)
    needed = len(missing) * MEMBER_BYTES + (len(paths) - made) * training.data.images.nbytes
    free = shutil.disk_usage(work_dir).free
    if free < needed:
        space = f"{work_dir.parent} needs {needed / 1e6:,.0f} MB of disk space, {free / 1e6:,.0f} MB are free"
        raise UserError(f"{space}; free some, or train fewer EPOCHS")
    make_display = partial(TrainingDisplay, config, finished, rows, console)
    with workers.worker_pool(min(devices.count_cores(), AUGMENTATION_WORKERS)) as pool:
        augment = partial(
            augmented_epochs, training.data.images, epochs=config.augmented_epochs, seed=config.seed, executor=pool
        )
        if alone:
            epochs = augment(first=max(finished[0] - 1, 0))  # each is made while the network trains on the one before
            with make_display() as display:
                yield train_to_files(training, 0, display.show, epochs)
            return
        epochs = track(augment(first=made), "augmenting", len(paths) - made, console)
        for path, images in zip(paths[made:], epochs, strict=True):  # they are shared by the members
            with replacing(path) as temporary:
                np.save(temporary, images)
    training = training._replace(epochs=[np.load(path) for path in paths] if cluster else paths)
    with make_display() as display:
        yield from execute(partial(train_to_files, training), iter(missing), report=display.show)


def train_to_files(
    training: Training, index: int, report: workers.Report, epochs: Iterator[np.ndarray] | None = None
) -> Contents:
    """Train a member and return its files; `report` is called with messages for `TrainingDisplay.show`.

    `epochs` are the augmented images that are still to be trained on, by default those of `training`.
    """
    with hide_native_messages():
        from digit_recognizer.training.member import save_member, train_member

    checkpoint = training.checkpoint(index) if training.work_dir.exists() else None  # not on another machine
    resumed = read_checkpoint(checkpoint) if checkpoint else None
    first = max(resumed.epoch - 1, 0) if resumed else 0  # the first epoch is not augmented
    stored = (np.load(epoch, mmap_mode="r") if isinstance(epoch, Path) else epoch for epoch in training.epochs[first:])
    member = train_member(
        training.config,
        training.data,
        training.folds,
        index,
        precision=training.precision,
        augmented=epochs or stored,
        report=lambda *step: report((index, *step)),
        checkpoint=checkpoint,
        resumed=resumed,
    )
    return index, save_member(member)


def _count_epochs(checkpoint: Path, index: int, console: Console) -> int:
    """Return the number of epochs that a member has finished, and say so; a damaged checkpoint is deleted."""
    try:
        state = read_checkpoint(checkpoint)
    except UserError:
        checkpoint.unlink()
        console.print(f"member {index}: its checkpoint is damaged and was deleted; it starts again", soft_wrap=True)
        return 0
    if state:
        console.print(f"member {index} goes on from its checkpoint after epoch {state.epoch}", soft_wrap=True)
    return state.epoch if state else 0
