"""Write the files of a run: its record and the folders of its members."""

import csv
import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, Config
from digit_recognizer.training.devices import CPUINFO, count_cores

PACKAGES = (
    *("albumentations", "keras", "matplotlib", "numpy", "opencv-python-headless", "pandas", "scikit-learn"),
    *("tensorflow", "tensorflow-cpu"),  # TensorFlow is installed under one of two names
)


class Predictions(NamedTuple):
    """Predictions for rows of train.csv by networks that were not trained on them."""

    rows: np.ndarray  # int64 [n], sorted
    labels: np.ndarray  # uint8 [n]
    probabilities: np.ndarray  # float32 [n, 10]


def average_predictions(parts: Sequence[Predictions]) -> Predictions:
    """Combine the predictions of members, sorted by row; several for the same row are averaged."""
    rows, first, position, counts = np.unique(
        np.concatenate([part.rows for part in parts]), return_index=True, return_inverse=True, return_counts=True
    )
    total = np.zeros((len(rows), CLASSES))
    np.add.at(total, position, np.concatenate([part.probabilities for part in parts]))
    labels = np.concatenate([part.labels for part in parts])[first]
    return Predictions(rows, labels, (total / counts[:, np.newaxis]).astype(np.float32))


def run_name(config: Config, *, data: str, code: str) -> str:
    """Return a run's name, made of its settings, its data and the training code: the same name is the same run.

    Args:
        config: The settings.
        data: SHA-256 of train.csv.
        code: SHA-256 of the code that the weights depend on (`runs.code_sha256`).
    """
    digest = hashlib.sha256(f"{config!r} {data} {code}".encode()).hexdigest()
    return f"{config.preset}-seed{config.seed}-{digest[:6]}"


def new_record(
    config: Config, *, run: str, competition: str, data: dict[str, str | None], git_commit: str | None = None
) -> dict[str, Any]:
    """Return the record of a run that starts now.

    Args:
        config: Its settings.
        run: Its name.
        competition: "digit-recognizer", or "demo".
        data: SHA-256 of train.csv, and of test.csv or None.
        git_commit: Commit of the code, if known.
    """
    return {
        "run": run,
        "competition": competition,
        "config": config.to_dict(),
        "data": data,
        "git_commit": git_commit,
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "processors": os.cpu_count(),
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
