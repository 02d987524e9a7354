"""Write the files of a run: its record and the folders of its members."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import Config
from digit_recognizer.training.devices import CPUINFO, count_cores, find_features, uses_onednn

PACKAGES = (
    *("albumentations", "keras", "matplotlib", "numpy", "opencv-python-headless", "pandas", "scikit-learn"),
    *("tensorflow", "tensorflow-cpu"),  # TensorFlow is installed under one of two names
)


def run_name(config: Config, *, data: str, code: str) -> str:
    """Return the name of a run, made of its settings, data (SHA-256 of train.csv) and code (`runs.code_sha256`)."""
    digest = hashlib.sha256(f"{config!r} {data} {code}".encode()).hexdigest()
    return f"{config.preset}-seed{config.seed}-{digest[:6]}"


def new_record(
    config: Config,
    *,
    run: str,
    competition: str,
    data: dict[str, str | None],
    code: str | None = None,
    git_commit: str | None = None,
) -> dict[str, Any]:
    """Return the record of a run that starts now.

    `data` has the SHA-256 of train.csv, and of test.csv or None; `code` is that of the training code.
    """
    return {
        "run": run,
        "competition": competition,
        "config": config.to_dict(),
        "data": data,
        "code": code,
        "git_commit": git_commit,
        "versions": find_versions(),
        "machine": find_machine(),
        "started_at": now(),
        "finished_at": None,
        "training_seconds": 0.0,  # wall time of all sessions but those that were killed
        "processor_seconds": 0.0,  # CPU time of all processes in these sessions
        "first_step_seconds": None,  # wall time from the loaded data to the end of the first step, last session
        "precision": None,  # Keras dtype policy, chosen when training starts
        "onednn": uses_onednn(),
        "peak_memory_bytes": None,  # of the largest process of the last session
        "left_out": [],  # members that a Kaggle session had no time for
        "scores": None,
        "warnings": [],  # what is implausible about the result
    }


def now() -> str:
    """Return the time in UTC as ISO 8601 with seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def member_dir(run_dir: Path, index: int) -> Path:
    """Return the folder of a member, which exists only if the member is complete."""
    return run_dir / f"member-{index}"


def write_member(folder: Path, member: Any) -> None:
    """Write the files of a `training.member.Member` atomically: model.keras, history.csv, validation.npz."""
    import pandas as pd

    with _new_folder(folder) as temporary:
        member.model.save(temporary / "model.keras")
        history = pd.DataFrame(member.history)
        history.set_index(history.index + 1).to_csv(temporary / "history.csv", index_label="epoch")
        np.savez(temporary / "validation.npz", **member.predictions._asdict())


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a new folder atomically: the contents of its files by name."""
    with _new_folder(folder) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder and rename it to `folder` if the block succeeds."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_machine() -> dict[str, Any]:
    """Return the operating system, the processor, its features and its cores."""
    found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE) if CPUINFO.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    machine = {"system": platform.platform(), "processor": processor, "features": find_features()}
    return machine | {"processors": os.cpu_count(), "threads": count_cores()}


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a run depends on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
