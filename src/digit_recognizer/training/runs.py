"""A run's folder: models/<run>/ with its record, its members' files and its figures."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, Config
from digit_recognizer.errors import UserError
from digit_recognizer.files import read_json, write_json, write_text

# What a member's weights depend on, beside the settings and the data.
SOURCES = (
    "config.py",
    "data/augmentation.py",
    "data/csv_files.py",
    "data/folds.py",
    "model/networks.py",
    "training/ensemble.py",
    "training/member.py",
)
PACKAGES = (
    "albumentations",
    "keras",
    "matplotlib",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "scikit-learn",
    "tensorflow",
    "tensorflow-cpu",
)


class Predictions(NamedTuple):
    """What networks said of rows of train.csv that they were not trained on."""

    rows: np.ndarray  # int64 [n], sorted
    labels: np.ndarray  # uint8 [n]
    probabilities: np.ndarray  # float32 [n, 10]


def run_name(config: Config, train_sha256: str) -> str:
    """Names a run after its settings, its data and the code that trains it, so that the same name is the same run."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(repr(config).encode() + train_sha256.encode())
    for source in SOURCES:
        digest.update((package / source).read_bytes())
    return f"{config.preset}-seed{config.seed}-{digest.hexdigest()[:6]}"


def find_run(models_dir: Path, name: str | None) -> Path:
    """Returns the folder of a run.

    Args:
        models_dir: the folder of all runs.
        name: of the run; None for the one that was trained last.

    Raises:
        UserError: there is no such run, or none at all.
    """
    if name is None:
        latest = models_dir / "latest.json"
        if not latest.exists():
            raise UserError(f"expected a trained run in {models_dir}, found none; run `make train`")
        name = read_json(latest)
    if not (models_dir / name / "run.json").exists():
        runs = ", ".join(sorted(path.parent.name for path in models_dir.glob("*/run.json"))) or "none"
        raise UserError(
            f"expected the run {name!r} in {models_dir}, found {runs}; run `make train`, or name another RUN="
        )
    return models_dir / name


def read_finished_record(run_dir: Path) -> dict[str, Any]:
    """Returns the record of a run whose members are all trained.

    Raises:
        UserError: the run is not finished.
    """
    record = read_json(run_dir / "run.json")
    if record["scores"] is None:
        raise UserError(f"expected a finished run in {run_dir}, found one that was interrupted; run `make train` again")
    return record


def require_data(record: dict[str, Any], hashes: dict[str, str], data_dir: Path) -> None:
    """Compares the hashes of files with those of a run's.

    Args:
        record: of the run.
        hashes: SHA-256 of each file to compare, by its name.
        data_dir: where they lie, for the message.

    Raises:
        UserError: one of them is another file.
    """
    for name, digest in hashes.items():
        if record["data"][name] != digest:
            raise UserError(
                f"expected the {name} of the run {record['run']}, found another in {data_dir}; name the run's DATA_DIR="
            )


def new_record(config: Config, *, run: str, competition: str, data: dict[str, str]) -> dict[str, Any]:
    """Returns the record of a run that begins now.

    Args:
        config: its settings.
        run: its name.
        competition: whose data these are: "digit-recognizer", or "demo".
        data: SHA-256 of each of its files.
    """
    return {
        "run": run,
        "competition": competition,
        "config": config.to_dict(),
        "data": data,
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "started_at": now(),
        "finished_at": None,
        "training_seconds": 0.0,  # of a clock, in all sittings
        "processor_seconds": 0.0,  # of all processes and cores, the same
        "first_step_seconds": None,  # of a clock, from the loaded data to the end of the first step, last time
        "precision": None,  # a dtype policy of Keras, chosen when the training begins
        "peak_memory_bytes": None,  # of the largest of the processes that trained last
        "scores": None,
    }


def now() -> str:
    """Returns the time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_commit() -> str | None:
    """Returns the commit that this code stands at, with "-dirty" behind it when files differ; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def member_dir(run_dir: Path, index: int) -> Path:
    """Returns the folder of a member; it is there only when the member is complete."""
    return run_dir / f"member-{index}"


def write_member(folder: Path, member: Any, rows: np.ndarray, labels: np.ndarray) -> None:
    """Writes a member's files: model.keras, history.csv, validation.npz, test.npz.

    The folder appears with all of them or not at all.

    Args:
        folder: to make.
        member: a `training.Member`.
        rows: int64 [n], the held out rows of train.csv.
        labels: uint8 [n], what is on them.
    """
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        member.model.save(temporary / "model.keras")
        columns = list(member.history)
        lines = [
            ",".join(["epoch", *columns]),
            *(
                ",".join([str(epoch), *(repr(value) for value in values)])
                for epoch, values in enumerate(zip(*member.history.values(), strict=True), start=1)
            ),
        ]
        write_text(temporary / "history.csv", "\n".join(lines) + "\n")
        np.savez(temporary / "validation.npz", rows=rows, labels=labels, probabilities=member.validation)
        np.savez(temporary / "test.npz", probabilities=member.test)
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Returns a member's history: a column name to float64 [epochs]."""
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True, ndmin=1)
    return {name: table[name] for name in table.dtype.names}


def read_member_predictions(folder: Path) -> Predictions:
    """Returns the answers of one member to the rows that it had held out."""
    with np.load(folder / "validation.npz", allow_pickle=False) as file:
        return Predictions(file["rows"], file["labels"], file["probabilities"])


def read_predictions(run_dir: Path) -> Predictions:
    """Returns the answers of all members to the rows that each had held out, in the order of the rows.

    Where several members held out a row, the answer is the mean of theirs.
    """
    parts = [read_member_predictions(folder) for folder in member_dirs(run_dir)]
    rows, first, position, counts = np.unique(
        np.concatenate([part.rows for part in parts]), return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(rows), CLASSES))
    np.add.at(total, position, np.concatenate([part.probabilities for part in parts]))
    labels = np.concatenate([part.labels for part in parts])[first]
    return Predictions(rows, labels, (total / counts[:, np.newaxis]).astype(np.float32))


def require_held_out(answers: Predictions, run_dir: Path) -> Predictions:
    """Returns the answers.

    Raises:
        UserError: there are none, because the run was trained on all rows.
    """
    if not len(answers.rows):
        raise UserError(
            f"expected rows that {run_dir.name} had held out, found that it was trained on all of them; train with "
            "FOLDS=5, say, for scores"
        )
    return answers


def read_members_test_answers(run_dir: Path) -> np.ndarray:
    """Returns the members' probabilities for test.csv, float32 [members, n, 10]."""
    members = []
    for folder in member_dirs(run_dir):
        with np.load(folder / "test.npz", allow_pickle=False) as file:
            members.append(file["probabilities"])
    return np.array(members)


def read_test_answers(run_dir: Path) -> np.ndarray:
    """Returns the mean of the members' probabilities for test.csv, float32 [n, 10]."""
    return read_members_test_answers(run_dir).mean(axis=0, dtype=np.float64).astype(np.float32)


def member_dirs(run_dir: Path) -> list[Path]:
    """Returns the folders of the complete members, in their order."""
    return sorted(run_dir.glob("member-*"), key=lambda path: int(path.name.removeprefix("member-")))


def write_finished(run_dir: Path, record: dict[str, Any]) -> None:
    """Writes a run's record and makes the run the latest one."""
    write_json(run_dir / "run.json", record)
    write_json(run_dir.parent / "latest.json", run_dir.name)


def _processor() -> str:
    """Returns the name of the processor; Linux tells it in one place, other systems in another."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # TensorFlow comes under one of two names
            continue
    return versions
