"""The folder of a run, models/<run>/: its record and the files of its members."""

import csv
import datetime
import hashlib
import importlib.metadata
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
from digit_recognizer.files import read_json, write_json
from digit_recognizer.training.devices import CPUINFO, count_cores

PACKAGE = Path(__file__).parents[1]
SOURCES = (  # the code that a member's weights depend on
    *("config.py", "data/augmentation.py", "data/csv_files.py", "data/folds.py", "model/layers.py"),
    *("model/networks.py", "model/prediction.py", "training/ensemble.py", "training/member.py"),
)
PACKAGES = (
    *("albumentations", "keras", "matplotlib", "numpy", "opencv-python-headless", "pandas", "scikit-learn"),
    *("tensorflow", "tensorflow-cpu"),  # TensorFlow is installed under one of two names
)


class Predictions(NamedTuple):
    """Predictions for rows of train.csv by networks that were not trained on them."""

    rows: np.ndarray  # int64 [n], sorted
    labels: np.ndarray  # uint8 [n]
    probabilities: np.ndarray  # float32 [n, 10]


def run_name(config: Config, train_sha256: str) -> str:
    """Return a run's name, made of its settings, its data and the training code: the same name is the same run."""
    digest = hashlib.sha256(repr(config).encode() + train_sha256.encode())
    for source in SOURCES:
        digest.update((PACKAGE / source).read_bytes())
    return f"{config.preset}-seed{config.seed}-{digest.hexdigest()[:6]}"


def find_run(models_dir: Path, name: str | None) -> Path:
    """Return the folder of a run.

    Args:
        models_dir: Folder of all runs.
        name: Name of the run; None for the one trained last.

    Raises:
        UserError: There is no such run, or none at all.
    """
    if name is None:
        latest = models_dir / "latest.json"
        if not latest.exists():
            raise UserError(f"expected a trained run in {models_dir}, found none; run `make train`")
        name = str(read_json(latest))
    if not (models_dir / name / "run.json").exists():
        runs = ", ".join(sorted(path.parent.name for path in models_dir.glob("*/run.json"))) or "none"
        raise UserError(
            f"expected the run {name!r} in {models_dir}, found {runs}; run `make train`, or pass another RUN="
        )
    return models_dir / name


def read_finished_record(run_dir: Path) -> dict[str, Any]:
    """Return the record of a run whose members are all trained.

    Raises:
        UserError: The run is not finished.
    """
    record = read_json(run_dir / "run.json")
    if record["scores"] is None:
        raise UserError(f"expected a finished run in {run_dir}, found an interrupted one; run `make train` again")
    return record


def require_data(record: dict[str, Any], hashes: dict[str, str], data_dir: Path) -> None:
    """Check that files are those of a run.

    Args:
        record: Record of the run.
        hashes: SHA-256 of each file, by name.
        data_dir: Their folder, for the message.

    Raises:
        UserError: A file differs.
    """
    for name, digest in hashes.items():
        if record["data"].get(name) not in (None, digest):
            raise UserError(
                f"expected the {name} of the run {record['run']}, found another in {data_dir}; pass the run's DATA_DIR="
            )


def new_record(config: Config, *, run: str, competition: str, data: dict[str, str | None]) -> dict[str, Any]:
    """Return the record of a run that starts now.

    Args:
        config: Its settings.
        run: Its name.
        competition: "digit-recognizer", or "demo".
        data: SHA-256 of train.csv, and of test.csv or None.
    """
    return {
        "run": run,
        "competition": competition,
        "config": config.to_dict(),
        "data": data,
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "processors": count_cores(),
            "threads": count_cores(),
        },
        "started_at": now(),
        "finished_at": None,
        "training_seconds": 0.0,  # wall time of all sessions
        "processor_seconds": 0.0,  # CPU time of all processes, all sessions
        "first_step_seconds": None,  # wall time from the loaded data to the end of the first step, last session
        "precision": None,  # Keras dtype policy, chosen when training starts
        "peak_memory_bytes": None,  # of the largest process of the last session
        "left_out": [],  # members that a Kaggle session had no time for
        "scores": None,
    }


def now() -> str:
    """Return the time in UTC as ISO 8601 with seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def member_dir(run_dir: Path, index: int) -> Path:
    """Return the folder of a member, which exists only if the member is complete."""
    return run_dir / f"member-{index}"


def member_dirs(run_dir: Path) -> list[Path]:
    """Return the folders of the complete members in order."""
    folders = [path for path in run_dir.glob("member-*") if re.fullmatch(r"member-\d+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("member-")))


def write_member(folder: Path, member: Any, rows: np.ndarray, labels: np.ndarray) -> None:
    """Write a member's files atomically: model.keras, history.csv, validation.npz.

    Args:
        folder: Folder to create.
        member: A `training.member.Member`.
        rows: int64 [n], validation rows of train.csv.
        labels: uint8 [n].
    """
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        member.model.save(temporary / "model.keras")
        with (temporary / "history.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["epoch", *member.history])
            columns = zip(*member.history.values(), strict=True)
            writer.writerows([epoch, *values] for epoch, values in enumerate(columns, start=1))
        np.savez(temporary / "validation.npz", rows=rows, labels=labels, probabilities=member.probabilities)
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return a member's history: column name to float64 [epochs]."""
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True, ndmin=1)
    return {name: table[name] for name in table.dtype.names}


def read_member_predictions(folder: Path) -> Predictions:
    """Return the predictions of one member for its validation rows."""
    with np.load(folder / "validation.npz", allow_pickle=False) as file:
        return Predictions(file["rows"], file["labels"], file["probabilities"])


def read_predictions(run_dir: Path) -> Predictions:
    """Return the out-of-fold predictions of a run, sorted by row; members that held out the same row are averaged."""
    parts = [read_member_predictions(folder) for folder in member_dirs(run_dir)]
    rows, first, position, counts = np.unique(
        np.concatenate([part.rows for part in parts]), return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(rows), CLASSES))
    np.add.at(total, position, np.concatenate([part.probabilities for part in parts]))
    labels = np.concatenate([part.labels for part in parts])[first]
    return Predictions(rows, labels, (total / counts[:, np.newaxis]).astype(np.float32))


def require_held_out(predictions: Predictions, run_dir: Path) -> Predictions:
    """Return the predictions.

    Raises:
        UserError: There are none, because the run was trained on all rows.
    """
    if not len(predictions.rows):
        raise UserError(
            f"expected a run with validation rows, found that {run_dir.name} was trained on all rows; for scores train "
            "with FOLDS=5, for example"
        )
    return predictions


def write_finished(run_dir: Path, record: dict[str, Any]) -> None:
    """Write a run's record and make the run the latest one."""
    write_json(run_dir / "run.json", record)
    write_json(run_dir.parent / "latest.json", run_dir.name)


def _git_commit() -> str | None:
    """Return the commit of this code, with "-dirty" appended if files differ; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _processor() -> str:
    """Return the name of the processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
