"""Find and read runs: models/<run>/ with the record and the members' files."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.data.folds import Predictions, average_predictions
from digit_recognizer.errors import UserError
from digit_recognizer.files import read_json, write_json

PACKAGE = Path(__file__).parents[1]
SOURCES = (  # the code that a member's weights depend on
    *("config.py", "data/augmentation.py", "data/csv_files.py", "data/folds.py", "model/layers.py"),
    *("model/networks.py", "model/prediction.py", "training/checkpoint.py", "training/ensemble.py"),
    "training/member.py",
)


def find_run(models_dir: Path, name: str | None) -> Path:
    """Return the folder of a run, of the one trained last if the name is None; raise a `UserError` if there is none."""
    if name is None:
        latest = models_dir / "latest.json"
        if not latest.exists():
            raise UserError(f"expected a trained run in {models_dir}, found none; run `make train`")
        name = str(read_json(latest))
    if not (models_dir / name / "run.json").exists():
        runs = ", ".join(sorted(path.parent.name for path in models_dir.glob("*/run.json"))) or "none"
        message = f"expected the run {name!r} in {models_dir}, found {runs}; run `make train`, or pass another RUN="
        raise UserError(message)
    return models_dir / name


def read_finished_record(run_dir: Path) -> dict[str, Any]:
    """Return the record of a run whose members are all trained; raise a `UserError` if some are not."""
    record = read_json(run_dir / "run.json")
    if record["scores"] is None:
        raise UserError(f"expected a finished run in {run_dir}, found an interrupted one; run `make train` again")
    return record


def require_data(record: dict[str, Any], hashes: dict[str, str], data_dir: Path) -> None:
    """Check that files, given as SHA-256 by name, are those of a run; raise a `UserError` if one differs."""
    for name, digest in hashes.items():
        if record["data"].get(name) not in (None, digest):
            raise UserError(
                f"expected the {name} of the run {record['run']}, found another in {data_dir}; pass the run's DATA_DIR="
            )


def member_dirs(run_dir: Path) -> list[Path]:
    """Return the folders of the complete members in order."""
    folders = [path for path in run_dir.glob("member-*") if re.fullmatch(r"member-\d+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("member-")))


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return a member's history: column name to float64 [epochs]."""
    table = np.genfromtxt(folder / "history.csv", delimiter=",", names=True, ndmin=1)
    return {name: table[name] for name in table.dtype.names or ()}


def read_member_predictions(folder: Path) -> Predictions:
    """Return the predictions of one member for its validation rows."""
    with np.load(folder / "validation.npz", allow_pickle=False) as file:
        return Predictions(file["rows"], file["labels"], file["probabilities"])


def read_predictions(run_dir: Path) -> Predictions:
    """Return the out-of-fold predictions of a run (`average_predictions`)."""
    return average_predictions([read_member_predictions(folder) for folder in member_dirs(run_dir)])


def require_held_out(predictions: Predictions, run_dir: Path) -> Predictions:
    """Return the out-of-fold predictions of a run; raise a `UserError` if it was trained on all rows."""
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


def code_sha256() -> str:
    """Return the SHA-256 of the code that the weights of a run depend on."""
    return hashlib.sha256(b"".join((PACKAGE / source).read_bytes() for source in SOURCES)).hexdigest()


def git_commit() -> str | None:
    """Return the commit of this code, with "-dirty" appended if files differ; None outside of git."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
