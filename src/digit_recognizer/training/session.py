"""A run in training: its lock, the checks of its folder, its working folder, and its record."""

import contextlib
import importlib.metadata
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import Config, count_members
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training import records, runs
from digit_recognizer.training.devices import query_gpus

WORK = ".work"  # in the run's folder until all members are trained: checkpoints and augmented epochs
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


class Run(NamedTuple):
    """A run to train."""

    config: Config
    run_dir: Path  # models/<run>
    record: dict[str, Any]  # that the folder gets if it has none


@contextlib.contextmanager
def open_run(
    run: Run, data: Dataset, console: Console, *, log: bool = False
) -> Iterator[tuple[Job, list[int], dict[str, Any]]]:
    """Be the only writer of a run during the block; yield what its members have in common, those missing, its record.

    At the end of the block, also of an interrupted one, the record is written with the time that it took.
    """
    config, run_dir, record = run
    with files.locked(run_dir, wait=False):
        versions, record = record["versions"], _open_record(run_dir, record)
        extra = record["data"].get("extra", {}).get("images", 0)
        options = {"folds": config.folds, "seed": config.split_seed, "extra": extra}
        folds = make_folds(data.labels, validation=config.validation, **options)
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
        job = Job(config, data, folds, members, run_dir, record["precision"] or "", log)
        if not missing:
            shutil.rmtree(run_dir / WORK, ignore_errors=True)  # of a run that was killed at its very end
            if different:
                console.print(f"{run_dir.name} was trained with {', '.join(different)}", soft_wrap=True)
            yield job, missing, record
            return
        _prepare(job, len(missing))
        record |= {"scores": None, "left_out": [], "peak_memory_bytes": 0}
        cpu_seconds, started = measure_usage()[0], time.monotonic()
        try:
            yield job, missing, record
        finally:
            used_seconds, peak = measure_usage()
            record["training_seconds"] = round(record["training_seconds"] + time.monotonic() - started, 1)
            record["processor_seconds"] = round(record["processor_seconds"] + used_seconds - cpu_seconds, 1)
            record["peak_memory_bytes"] = max(record["peak_memory_bytes"], peak)
            files.write_json(run_dir / "run.json", record)
        shutil.rmtree(run_dir / WORK)


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


def _prepare(job: Job, missing: int) -> None:
    """Delete leftovers of killed processes, make the working folder, and check that the disk has space."""
    for leftover in job.run_dir.glob(".member-*"):
        shutil.rmtree(leftover)
    (job.run_dir / WORK).mkdir(exist_ok=True)
    epochs = job.config.augmented_epochs if job.members > 1 else 0
    needed = missing * MEMBER_BYTES + (epochs - count_epochs(job)) * job.data.images.nbytes
    free = shutil.disk_usage(job.run_dir).free
    if free < needed:
        raise UserError(
            f"expected {needed / 1e6:,.0f} MB of free disk space for {job.run_dir}, found {free / 1e6:,.0f} MB; free "
            "some, or train fewer EPOCHS"
        )


def epoch_path(job: Job, epoch: int) -> Path:
    """Return the file of an augmented epoch."""
    return job.run_dir / WORK / f"epoch-{epoch}.npy"


def count_epochs(job: Job) -> int:
    """Return the number of augmented epochs on disk, which are written in their order."""
    return len(list((job.run_dir / WORK).glob("epoch-*.npy")))


def checkpoint_path(job: Job, index: int) -> Path:
    """Return the checkpoint of a member."""
    return job.run_dir / WORK / f"member-{index}.npz"


def describe_origin(precision: str, gpus: Sequence[str]) -> dict[str, Any]:
    """Return the machine, the precision and the versions with which a member is trained here."""
    machine = records.find_machine() | {"gpus": query_gpus("name", gpus) if gpus else []}
    return {"machine": machine, "precision": precision, "versions": records.find_versions()}


def note_origin(record: dict[str, Any], index: int, origin: dict[str, Any]) -> None:
    """Note where a member was trained: the first one for the run, others of unlike machines each for itself."""
    if record["precision"] is None:
        record |= {"machine": origin["machine"], "precision": origin["precision"]}
    record["machine"].setdefault("gpus", origin["machine"]["gpus"])
    run, member = (
        one["machine"] | {"gpus": set(one["machine"]["gpus"]), "precision": one["precision"]} | one["versions"]
        for one in (record, origin)
    )
    if run != member:
        record.setdefault("unlike_members", {})[str(index)] = origin


def measure_usage() -> tuple[float, int]:
    """Return the CPU time of this process and its ended children, and the peak memory in bytes of the largest one."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return sum(usage.ru_utime + usage.ru_stime for usage in used), max(usage.ru_maxrss for usage in used) * unit


def describe_code() -> dict[str, str]:
    """Return what all nodes must have in common: the versions of Python and of packages, and the hash of the code."""
    versions = {name.removesuffix("-cpu"): version for name, version in records.find_versions().items()}
    return versions | {
        "digit-recognizer": importlib.metadata.version("digit-recognizer"),
        "code": runs.code_sha256()[:12],
    }


def find_difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """Return the differences between two values of `describe_code` in words; "" if there are none."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    return ", ".join(f"{name} {found.get(name, 'missing')} instead of {expected.get(name, 'none')}" for name in names)
