"""The folder of a run, models/<run>/: its name, its record, its members, and its lock."""

import contextlib
import csv
import fnmatch
import hashlib
import math
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.config import CLASSES, Config, count_members
from digit_recognizer.data.folds import Predictions, average_predictions
from digit_recognizer.errors import UserError
from digit_recognizer.files import load_arrays, locked, read_json, reading, write_json
from digit_recognizer.training import devices, environment

WORK = ".work"  # in the folder until all members are trained: checkpoints and augmented epochs
NUMBER = int | float
CONFIG = dict.fromkeys(("epochs", "folds", "members"), int) | dict.fromkeys(("architectures", "channels"), list)
RECORD: dict[str, Any] = (  # types in run.json
    dict.fromkeys(("run", "competition", "started_at"), str)
    | dict.fromkeys(("finished_at", "git_commit", "precision"), str | None)
    | dict.fromkeys(("training_seconds", "processor_seconds"), NUMBER)
    | {"config": CONFIG | {"augment": bool, "validation": NUMBER}, "data": {"train.csv": str}}
    | {"machine": {"system": str, "processor": str}, "versions": dict, "peak_memory_bytes": NUMBER | None}
    | {"scores": dict | None}
)
SCORES = {"validation_accuracy": NUMBER | None}
COLUMNS = ["epoch", "accuracy", "learning_rate", "loss", "seconds"]  # of history.csv, in any order
VALIDATION_COLUMNS = ["val_accuracy", "val_loss"]


def new_record(config: Config, *, run: str | None, competition: str, data: dict[str, str | None]) -> dict[str, Any]:
    """Return the record of a run that starts now.

    `run` is its name, by default made of settings, data and code. `data` has the SHA-256 of train.csv, and that of
    test.csv or None.
    """
    code = environment.code_sha256()
    digest = hashlib.sha256(f"{config!r} {data['train.csv']} {code}".encode()).hexdigest()
    return {
        "run": run or f"{config.preset}-seed{config.seed}-{digest[:6]}",
        "competition": competition,
        "config": config.to_dict(),
        "data": data,
        "code": code,
        "git_commit": environment.git_commit(),
        "versions": environment.find_versions(),
        "machine": environment.find_machine(),
        "started_at": environment.now(),
        "finished_at": None,
        "training_seconds": 0.0,  # wall time of all sessions but those that were killed
        "processor_seconds": 0.0,  # CPU time of all processes in these sessions
        "precision": None,  # Keras dtype policy, chosen when training starts
        "onednn": devices.uses_onednn(),
        "peak_memory_bytes": None,  # of the largest process of the last session
        "scores": None,
        "warnings": [],  # what is implausible about the result
    }


@contextlib.contextmanager
def open_run(run_dir: Path, record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Lock the folder of a run; yield its record, which is `record` in a new folder, and the missing members.

    At the end of the block, even of an interrupted one, the record is written with the time that it took.

    Raises:
        UserError: The folder holds a run with other settings, data, code or versions, or another process trains it.
    """
    with locked(run_dir, wait=False):
        if not (run_dir / "run.json").exists():
            write_json(run_dir / "run.json", record)
        wanted, record = record, read_record(run_dir)
        members = range(count_members(wanted["config"]))
        missing = [index for index in members if not (run_dir / f"member-{index}").is_dir()]
        different = [name for name, value in wanted["config"].items() if record["config"].get(name) != value]
        different += [] if record["data"]["train.csv"] == wanted["data"]["train.csv"] else ["train.csv"]
        different += [name for name in ("code", "onednn") if record.get(name) != wanted[name]]
        versions = record["versions"].items() if missing else ()
        different += [f"{name} {value}" for name, value in versions if wanted["versions"].get(name) != value]
        if different:
            difference = f"{run_dir} holds a run that differs in {', '.join(different)}"
            raise UserError(f"{difference}; choose another RUN=, or install the versions of that run")
        if not missing:
            shutil.rmtree(run_dir / WORK, ignore_errors=True)  # the last process was killed before it deleted this
            yield record, missing
            return
        for leftover in run_dir.glob(".member-*"):  # of a killed process
            shutil.rmtree(leftover)
        (run_dir / WORK).mkdir(exist_ok=True)
        record["scores"] = None
        cpu_seconds, started = environment.measure_usage()[0], time.monotonic()
        try:
            yield record, missing
        finally:
            used_seconds, peak = environment.measure_usage()
            record["training_seconds"] = round(record["training_seconds"] + time.monotonic() - started, 1)
            record["processor_seconds"] = round(record["processor_seconds"] + used_seconds - cpu_seconds, 1)
            record["peak_memory_bytes"] = peak
            write_json(run_dir / "run.json", record)
        shutil.rmtree(run_dir / WORK)


def find_latest(models_dir: Path) -> Path | None:
    """Return the folder of the run that was trained last; None if there is none, or it was deleted."""
    latest = models_dir / "latest.json"
    if not latest.exists():
        return None
    name = str(read_json(latest, "the name of the latest run", "move it away and pass RUN="))
    return next((path.parent for path in models_dir.glob("*/run.json") if path.parent.name == name), None)


def find_run(models_dir: Path, name: str | None) -> Path:
    """Return the folder of a run, of the one trained last if the name is None; raise a `UserError` if there is none."""
    if name is None and (latest := find_latest(models_dir)):
        return latest
    runs = {path.parent.name: path.parent for path in sorted(models_dir.glob("*/run.json"))}
    if name not in runs:  # names only, not paths that lead elsewhere
        expected = "a trained run" if name is None else f"the run {name[:100]!r}"
        existing = ", ".join(runs) or "none"
        raise UserError(f"expected {expected} in {models_dir}, found {existing}; run `make train`, or pass RUN=")
    return runs[name]


def find_runs(models_dir: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders of runs, each once, given by name or by patterns such as "single-*", as `find_run` does."""
    runs, folders = sorted(path.parent for path in models_dir.glob("*/run.json")), list[Path]()
    for name in names:
        folders += [run for run in runs if fnmatch.fnmatchcase(run.name, name)] or [find_run(models_dir, name)]
    return list(dict.fromkeys(folders))


def read_record(run_dir: Path) -> dict[str, Any]:
    """Return the record of a run; raise a `UserError` if it is missing or damaged."""
    path, content = run_dir / "run.json", "the record of a run"
    remedy = "move it away and run `make train` with the same settings again; trained members are kept"
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
    """Return the record of a run with all of its members; raise a `UserError` if some are not trained or missing."""
    record, count = read_record(run_dir), len(member_dirs(run_dir))
    if record["scores"] is None:
        raise UserError(f"expected a finished run in {run_dir}, found an interrupted one; run `make train` again")
    expected = count_members(record["config"])
    if not count or count != expected:
        raise UserError(f"{run_dir} has {count} of {expected} members; run the same `make train` again")
    return record


def require_data(record: dict[str, Any], hashes: dict[str, str], data_dir: Path) -> None:
    """Check that files, given as SHA-256 by name, are those of a run; raise a `UserError` if one differs."""
    for name, digest in hashes.items():
        if record["data"].get(name) not in (None, digest):
            raise UserError(f"{data_dir} has another {name} than the run {record['run']}; pass the run's DATA_DIR=")


def write_member(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the folder of a member atomically: the contents of its files by name."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".member-") as temporary:
        whole = Path(temporary, folder.name)
        whole.mkdir()
        for name, content in contents.items():
            (whole / name).write_bytes(content)
        whole.rename(folder)


def member_dirs(run_dir: Path) -> list[Path]:
    """Return the folders of the complete members in order."""
    folders = [path for path in run_dir.glob("member-*/") if re.fullmatch(r"member-\d+", path.name)]
    return sorted(folders, key=lambda path: int(path.name.removeprefix("member-")))


def read_history(folder: Path) -> dict[str, np.ndarray]:
    """Return a member's history: column name to float64 [epochs]; raise a `UserError` if it is damaged."""
    path, config = folder / "history.csv", read_record(folder.parent)["config"]
    with reading(path, "the history of a member", f"move {folder} away and run `make train` again"):
        columns, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        if sorted(columns) != sorted(COLUMNS + VALIDATION_COLUMNS * bool(config["folds"])):
            raise ValueError(f"the columns {', '.join(columns)}")
        table = np.array([[float(value or "nan") for value in row] for row in rows])  # pandas writes nan as ""
        if table.shape != (config["epochs"], len(columns)) or np.isinf(table).any():
            raise ValueError(f"{len(rows)} rows, not {config['epochs']} of finite numbers")
        return dict(zip(columns, table.T, strict=True))


def read_member_predictions(folder: Path) -> Predictions:
    """Return the predictions of one member for its validation rows; raise a `UserError` if they are damaged."""
    path = folder / "validation.npz"
    with reading(path, "the predictions of a member", f"move {folder} away and run `make train` again"):
        arrays = load_arrays(path)
        predictions = Predictions(*(arrays[name] for name in Predictions._fields))
        rows, labels, probabilities = predictions
        shapes, kinds = [array.shape for array in predictions], "".join(array.dtype.kind for array in predictions)
        if shapes != [(len(rows),), (len(rows),), (len(rows), CLASSES)] or kinds not in ("iif", "iuf"):
            raise ValueError("arrays of another shape or type")
        if len(np.unique(rows)) != len(rows) or ((labels < 0) | (labels >= CLASSES)).any():
            raise ValueError("other rows or labels")
        if ((probabilities < 0) | (probabilities > 1.01)).any():  # nan: the training diverged
            raise ValueError("numbers that are no probabilities")
        return predictions


def read_predictions(run_dir: Path) -> Predictions:
    """Return the out-of-fold predictions of a run (`average_predictions`)."""
    return average_predictions([read_member_predictions(folder) for folder in member_dirs(run_dir)])


def require_held_out(predictions: Predictions, run_dir: Path) -> Predictions:
    """Return the out-of-fold predictions of a run; raise a `UserError` if it was trained on all rows."""
    if not len(predictions.rows):
        raise UserError(f"{run_dir.name} was trained on all rows; for scores train with validation rows (FOLDS=5)")
    return predictions
