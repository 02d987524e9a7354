"""Check that `make download train submit` can work on this machine, and say what to do if it cannot.

A check returns what it found, or raises a `UserError` whose text ends with the next step. With a fault the commands
cannot work, with a warning they can.
"""

import contextlib
import importlib.metadata
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from digit_recognizer.competition import client, download, submit
from digit_recognizer.competition.credentials import find_credentials
from digit_recognizer.config import COMPETITION
from digit_recognizer.console import hide_native_messages, printable
from digit_recognizer.errors import UserError, describe_os_error
from digit_recognizer.training import devices

OK, WARNING, FAULT = "ok", "warning", "fault"
REINSTALL = "rm -rf .venv && make setup"


class Finding(NamedTuple):
    """The result of a check."""

    check: str
    status: str
    found: str
    next: str = ""


class WarningError(UserError):
    """A warning in a check of faults."""


def diagnose(data_dir: Path, models_dir: Path, submissions_dir: Path) -> Iterator[Finding]:
    """Yield the finding of each check as soon as it is known."""
    yield _run("versions", FAULT, check_versions)
    yield _run("folders", FAULT, check_folders, data_dir, models_dir, submissions_dir)
    yield _run("data", WARNING, check_data, data_dir)  # `make download` mends every fault
    yield _run("Kaggle", FAULT, check_kaggle)
    yield _run("TensorFlow", FAULT, check_tensorflow)  # last, because its import can end the process


def _run(name: str, severity: str, check: Callable[..., str], *args: Path) -> Finding:
    try:
        return Finding(name, OK, printable(check(*args)))
    except UserError as error:
        message, severity = str(error), WARNING if isinstance(error, WarningError) else severity
    except OSError as error:
        message = describe_os_error(error)
    except Exception as error:  # noqa: BLE001 - whatever one check raises, the others are reported
        message = f"{type(error).__name__}: {error}; {REINSTALL}"
    found, _, step = printable(message).rpartition("; ")
    return Finding(name, severity, found or step, step if found else "make doctor")


def check_versions() -> str:
    """Compare the installed packages with pyproject.toml; TensorFlow is installed by one of two extras."""
    wrong = []
    for requirement in map(Requirement, importlib.metadata.requires(COMPETITION) or ()):
        marker, version = requirement.marker, None
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("cpu", "gpu")):
            continue
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(requirement.name)
        if not (requirement.specifier.contains(version, prereleases=True) if version else marker):
            wrong.append(f"expected {requirement.name} {requirement.specifier}, found {version or 'none'}")
    if wrong:
        raise UserError(f"{', '.join(wrong)}; {REINSTALL}")
    return "all packages are in the ranges of pyproject.toml"


def check_folders(data_dir: Path, *others: Path) -> str:
    """Check that the folders can be written or created, and have space for the data and a run."""
    needed = 30 if (data_dir / "train.csv").exists() else 250  # MB: run and submission; also archive and files
    for folder in (data_dir, *others):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise UserError(f"cannot write into {folder}; make {place} a folder that you can write to")
        free = shutil.disk_usage(place).free / 1e6
        if free < needed:
            raise UserError(f"{place} has {free:.0f} MB of free space, {needed} are needed; delete what you can")
    return f"{', '.join(map(str, (data_dir, *others)))} have the {needed} MB that are needed"


def check_data(data_dir: Path) -> str:
    """Look for the competition's files, and count their rows."""
    if message := download.find_data_fault(data_dir):
        variable = "" if data_dir == Path("data") else f" {shlex.quote(f'DATA_DIR={data_dir}')}"
        raise UserError(f"{message}; make download{variable}")
    return f"{', '.join(download.EXPECTED)} in {data_dir} are complete"


def check_kaggle() -> str:
    """Sign in, and list the submissions, which Kaggle refuses until the rules are accepted; repeat no request."""
    once = client.ONCE | {"say": lambda _: None}
    api = client.connect(**once)
    submit.list_submissions(api, **once)
    kind, source, is_public = find_credentials()
    if is_public:
        raise WarningError(f"other users of this computer can read {source}; chmod 600 {shlex.quote(source)}")
    return f"the {kind} in {source} and the rules are accepted"


def check_tensorflow() -> str:
    """Import TensorFlow, and compare the GPUs of the driver with those that it can use."""
    with hide_native_messages():
        import tensorflow as tf

        usable = tf.config.list_physical_devices("GPU")
    gpus = ", ".join(devices.query_gpus("name"))
    if gpus and not usable:
        raise WarningError(f"TensorFlow cannot use {gpus}; {REINSTALL} GPU=1")
    return f"version {tf.__version__}, trains in {devices.choose_precision(devices.find_gpus())} on {gpus or 'the CPU'}"
