"""Find and read runs: models/<run>/ with the record and the members' files."""

import csv
import fnmatch
import hashlib
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import CLASSES, count_members
from digit_recognizer.data.folds import Predictions, average_predictions
from digit_recognizer.errors import UserError
from digit_recognizer.files import load_arrays, read_json, reading, write_json

PACKAGE = Path(__file__).parents[1]
SOURCES = (  # the code that a member's weights depend on
    *("config.py", "data/augmentation.py", "data/csv_files.py", "data/folds.py", "model/layers.py"),
    *("model/networks.py", "model/prediction.py", "training/checkpoint.py", "training/ensemble.py"),
    *("training/member.py", "training/optimizer.py", "training/session.py"),
)
NUMBER = int | float
CONFIG = dict.fromkeys(("epochs", "folds", "members", "plain_epochs"), int) | dict.fromkeys(
    ("architectures", "channels"), list
)
RECORD: dict[str, Any] = (  # types in run.json
    dict.fromkeys(("run", "competition", "started_at"), str)
    | dict.fromkeys(("finished_at", "git_commit", "precision"), str | None)
    | dict.fromkeys(("training_seconds", "processor_seconds"), NUMBER)
    | {"config": CONFIG | {"augment": bool, "validation": NUMBER}, "data": {"train.csv": str}}
    | {"machine": {"system": str, "processor": str}, "versions": dict, "peak_memory_bytes": NUMBER | None}
    | {"left_out": list, "scores": dict | None}
)
SCORES = {"validation_accuracy": NUMBER | None}
COLUMNS = ["epoch", "accuracy", "learning_rate", "loss", "seconds"]  # of history.csv, in any order
VALIDATION_COLUMNS = ["val_accuracy", "val_loss"]


def find_run(models_dir: Path, name: str | None) -> Path:
    """Return the folder of a run, of the one trained last if the name is None; raise a `UserError` if there is none."""
    if name is None:
        latest = models_dir / "latest.json"
        if not latest.exists():
            raise UserError(f"expected a trained run in {models_dir}, found none; run `make train`")
        name = str(read_json(latest, "the name of the latest run", "delete it and pass RUN="))
    runs = sorted(path.parent.name for path in models_dir.glob("*/run.json"))
    if name not in runs:  # names only, not paths that lead elsewhere
        found = ", ".join(runs) or "none"
        message = (
            f"expected the run {name[:100]!r} in {models_dir}, found {found}; run `make train`, or pass another RUN="
        )
        raise UserError(message)
    return models_dir / name


def find_runs(models_dir: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders of runs, each once, given by name or by patterns such as "single-*", as `find_run` does."""
    found: dict[Path, None] = {}
    for name in names:
        matching = [
            path.parent for path in models_dir.glob("*/run.json") if fnmatch.fnmatchcase(path.parent.name, name)
        ]
        found |= dict.fromkeys(sorted(matching) or [find_run(models_dir, name)])
    return list(found)


def read_record(run_dir: Path) -> dict[str, Any]:
    """Return the record of a run; raise a `UserError` if it is missing or damaged."""
    path, content = run_dir / "run.json", "the record of a run"
    remedy = "delete it and run `make train` with the same settings again; trained members are kept"
    record = read_json(path, content, remedy)
    with reading(path, content, remedy):
        wrong = [name for name, form in RECORD.items() if not _has_form(record.get(name), form)]
        if wrong or not _has_form(record["scores"] or dict.fromkeys(SCORES), SCORES):
            raise ValueError(f"invalid {', '.join(wrong or ['scores'])}")
    return record


def _has_form(value: Any, form: Any) -> bool:
    """Return whether a JSON value has a type, or is a dictionary with members of given types; numbers are finite."""
    if isinstance(form, dict):
        return isinstance(value, dict) and all(_has_form(value.get(name), part) for name, part in form.items())
    return isinstance(value, form) and (not isinstance(value, NUMBER) or math.isfinite(value))


def read_finished_record(run_dir: Path) -> dict[str, Any]:
    """Return the record of a run whose members are all trained; raise a `UserError` if some are not."""
    record = read_record(run_dir)
    if record["scores"] is None:
        raise UserError(f"expected a finished run in {run_dir}, found an interrupted one; run `make train` again")
    return record


def require_members(record: dict[str, Any], run_dir: Path) -> list[Path]:
    """Return the folders of a run's members in order; raise a `UserError` if some are missing."""
    folders, expected = member_dirs(run_dir), count_members(record["config"]) - len(record["left_out"])
    if not folders or len(folders) != expected:
        found = f"expected {expected} members in {run_dir}, found {len(folders)}"
        raise UserError(f"{found}; run `make train` with the same settings again")
    return folders


def require_data(record: dict[str, Any], hashes: dict[str, str], data_dir: Path) -> None:
    """Check that files, given as SHA-256 by name, are those of a run; raise a `UserError` if one differs."""
    for name, digest in hashes.items():
        if record["data"].get(name) not in (None, digest):
            raise UserError(
                f"expected the {name} of the run {record['run']}, found another in {data_dir}; pass the run's DATA_DIR="
            )


def member_dirs(run_dir: Path) -> list[Path]:
    """Return the folders of the complete members in order."""
    folders = [path for path in run_dir.glob("member-*/") if re.fullmatch(r"member-\d+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("member-")))


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return a member's history: column name to float64 [epochs]; raise a `UserError` if it is damaged."""
    path, config = folder / "history.csv", read_record(folder.parent)["config"]
    with reading(path, "the history of a member", f"delete {folder} and run `make train` again"):
        columns, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        if sorted(columns) != sorted(COLUMNS + VALIDATION_COLUMNS * bool(config["folds"])):
            raise ValueError(f"the columns {', '.join(columns)}")
        table = np.array([[float(value or "nan") for value in row] for row in rows])  # pandas writes nan as ""
        if table.shape != (config["epochs"], len(columns)) or np.isinf(table).any():
            raise ValueError(f"{len(rows)} rows, not {config['epochs']} of finite numbers")
        accuracies = table[:, ["accuracy" in column for column in columns]]
        if not ((accuracies >= 0) & (accuracies <= 1)).all():
            raise ValueError("an accuracy outside 0..1")
        return dict(zip(columns, table.T, strict=True))


def read_member_predictions(folder: Path) -> Predictions:
    """Return the predictions of one member for its validation rows; raise a `UserError` if they are damaged."""
    path = folder / "validation.npz"
    with reading(path, "the predictions of a member", f"delete {folder} and run `make train` again"):
        arrays = load_arrays(path)
        found = Predictions(*(arrays[name] for name in Predictions._fields))
        count, kinds = len(found.rows), "".join(array.dtype.kind for array in found)
        if [array.shape for array in found] != [(count,), (count,), (count, CLASSES)] or kinds not in ("iif", "iuf"):
            raise ValueError("arrays of another shape or type")
        if len(np.unique(found.rows)) != count or ((found.labels < 0) | (found.labels >= CLASSES)).any():
            raise ValueError("other rows or labels")
        if ((found.probabilities < 0) | (found.probabilities > 1.01)).any():  # nan: the training diverged
            raise ValueError("numbers that are no probabilities")
        return found


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


def require_labels(predictions: Predictions, labels: np.ndarray, run_dir: Path) -> None:
    """Check that predictions are for rows of train.csv with the given labels; raise a `UserError` if they are not."""
    rows = predictions.rows
    if not (np.isin(rows, np.arange(len(labels))).all() and (labels[rows] == predictions.labels).all()):
        raise UserError(
            f"expected predictions for rows of the run's train.csv in {run_dir}, found some for other rows; delete the "
            "validation.npz of another run with its folder, and run `make train` again"
        )


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
