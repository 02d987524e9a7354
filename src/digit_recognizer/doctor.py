"""Check that `make download train submit` can work on this machine, and say what to do if it cannot.

A check returns what it found, or raises a `UserError` whose text ends with a command or an address. Checks create
nothing. They run in other processes, because TensorFlow and the Kaggle client can hang or abort.
"""

import contextlib
import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from digit_recognizer.competition import account, client, download, kernel, record
from digit_recognizer.config import COMPETITION, PRESETS, count_members
from digit_recognizer.console import Step, printable
from digit_recognizer.errors import UserError
from digit_recognizer.files import find_existing, find_write_fault, is_locked, read_json
from digit_recognizer.lanes import run_lanes
from digit_recognizer.training import devices, estimate, runs

OK, WARNING, FAULT = "ok", "warning", "fault"
PYTHON = ".".join(map(str, sys.version_info[:3]))  # without a suffix such as rc1+
LIMIT = 10.0  # seconds for one check
REQUEST_LIMIT = (4, 5)  # seconds to connect, and between two reads
ROWS = download.EXPECTED["train.csv"][1]
DATA_BYTES, RUN_BYTES = 220_000_000, 30_000_000  # archive, files and cache; run and submission
EPOCH_BYTES = PRESETS["best"].augmented_epochs * ROWS * 784  # augmented images that several networks share
SETTINGS = "preset", "seed", "split_seed", "folds", "members", "validation", "epochs", "precision"  # of make train
LONG = 3600  # seconds


class Finding(NamedTuple):
    """The result of a check."""

    check: str
    status: str
    found: str
    next: str = ""


class Folders(NamedTuple):
    """The folders of the commands."""

    data: Path
    models: Path
    submissions: Path
    reports: Path
    predictions: Path

    def make(self, target: str, **variables: Any) -> str:
        """Return a command for these folders."""
        variables |= {} if self.data == Path("data") else {"DATA_DIR": self.data}
        return shlex.join(["make", target, *(f"{name}={value}" for name, value in variables.items())])


def check_versions(_: Folders) -> str:
    """Compare Python and the packages with pyproject.toml; TensorFlow is installed by one of two extras."""
    python = Requirement(f"Python{importlib.metadata.metadata(COMPETITION)['Requires-Python']}")
    requirements = [Requirement(line) for line in importlib.metadata.requires(COMPETITION) or ()]
    by_extra = [
        [python, *(one for one in requirements if not one.marker or one.marker.evaluate({"extra": extra}))]
        for extra in ("cpu", "gpu")
    ]
    faults = [", ".join(filter(None, map(_find_version_fault, wanted))) for wanted in by_extra]
    if all(faults):
        raise UserError(f"{faults[0]}; rm -rf .venv && make setup")
    return f"Python {PYTHON} and all packages are in the ranges of pyproject.toml"


def _find_version_fault(wanted: Requirement) -> str | None:
    found = "none"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = PYTHON if wanted.name == "Python" else importlib.metadata.version(wanted.name)
    fits = found != "none" and wanted.specifier.contains(found, prereleases=True)
    return None if fits else f"expected {wanted.name} {wanted.specifier}, found {found}"


def check_space(extra: int, folders: Folders) -> str:
    """Compare the free space with what the data and a run need, and `extra` bytes."""
    needed = extra + RUN_BYTES + (DATA_BYTES if _lacks(folders.data) else 0)
    free, place = min((shutil.disk_usage(path).free, path) for path in map(find_existing, folders))
    if free < needed:
        remedy = f"delete what is not needed: du -sh {shlex.quote(str(place))}/*"
        raise UserError(f"expected {needed / 1e6:,.0f} MB in {place}, found {free / 1e6:,.0f} MB; {remedy}")
    return f"{free / 1e6:,.0f} MB are free, {needed / 1e6:,.0f} MB are needed"


def check_writing(names: Iterable[str], folders: Folders) -> str:
    """Open a nameless file in each folder, or in the nearest parent that exists."""
    paths = [getattr(folders, name) for name in names if name != "data" or _lacks(folders.data)]
    for path in [*paths, Path(tempfile.gettempdir())]:
        if fault := find_write_fault(path):
            remedy = f"make it a folder that you can write to: ls -ld {shlex.quote(str(find_existing(path)))}"
            raise UserError(f"cannot write into {path} ({fault}); {remedy}")
    return f"{', '.join(map(str, paths))} can be written"


def _lacks(data_dir: Path) -> list[str]:
    return [name for name in download.EXPECTED if not (data_dir / name).exists()]


def check_data(folders: Folders) -> str:
    """Look for the competition's files, and count their rows; a download can mend every fault."""
    if missing := _lacks(folders.data):
        raise UserError(f"no {', '.join(missing)} in {folders.data}; {folders.make('download')}")
    try:
        fault = download.find_data_fault(folders.data)
    except OSError as error:
        fault = f"{error.filename} cannot be read ({error.strerror})"
    if fault:
        raise UserError(f"damaged: {fault}; {folders.make('download', FORCE=1)}")
    return f"{', '.join(download.EXPECTED)} in {folders.data} are complete"


def check_runs(folders: Folders) -> str:
    """Look for interrupted trainings."""
    states, commands = [], []
    for path in sorted(folders.models.glob("*/run.json")):
        found, name = read_json(path), path.parent.name
        if found["scores"] is None:
            config, done = found["config"], len(runs.member_dirs(path.parent))
            states.append(f"{name} has {done} of {count_members(config)} networks")
            if is_locked(path.parent):
                states[-1] += " and is being trained"
                continue
            settings = {one: config.get(one) for one in SETTINGS} | {"augment": int(config["augment"]), "run": name}
            given = {one.upper(): value for one, value in settings.items() if value is not None}
            commands.append(folders.make("train", **given))
    return _report_unfinished(states, commands)


def check_submissions(folders: Folders) -> str:
    """Look for interrupted uploads."""
    states, commands = [], []
    for path in sorted(folders.submissions.glob("*/record.json")):
        name, status = path.parent.name, record.read_record(path.parent)["status"]
        if status in ("uploading", "pending"):
            states.append(f"{name} is {status}")
            is_run = (folders.models / name / "run.json").exists()
            commands.append(folders.make("submit", **({"RUN": name} if is_run else {"KERNEL": 1})))
    return _report_unfinished(states, commands)


def _report_unfinished(states: list[str], commands: list[str]) -> str:
    if commands:
        raise UserError(f"{', '.join(states)}; {' && '.join(commands)}")
    return ", ".join(states) or "none is unfinished"


def check_kernel(_: Folders) -> str:
    """Compare the id of the kernel with its title."""
    if not kernel.METADATA.exists():
        raise UserError(f"no {kernel.METADATA} in {Path.cwd()}, which `make push` needs; cd to the repository")
    return f"id and title agree: {kernel.read_metadata()['title']}"


def check_gpu(_: Folders) -> str:
    """Compare the GPUs of the driver with those that TensorFlow can use."""
    import tensorflow as tf

    gpus = ", ".join(devices.query_gpus("name"))
    if gpus and not tf.config.list_physical_devices("GPU"):
        raise UserError(f"TensorFlow cannot use {gpus}; rm -rf .venv && make setup GPU=1")
    return gpus or "none"


def check_preset(name: str, _: Folders) -> str:
    """Estimate the training time of a preset."""
    seconds = estimate.estimate_on_this_machine(PRESETS[name], ROWS)
    if seconds > LONG:
        raise UserError(f"trains in {estimate.describe_seconds(seconds)}; on Kaggle: make push PRESET={name}")
    return f"trains in {estimate.describe_seconds(seconds)}"


Check = Callable[[Folders], str]
LOCAL: dict[str, Check] = {
    "versions": check_versions,
    "processor": lambda _: devices.describe_processor(),
    "disk space": partial(check_space, 0),
    "space for best": partial(check_space, EPOCH_BYTES),
    "folders": partial(check_writing, ("data", "models", "submissions")),
    "other folders": partial(check_writing, ("reports", "predictions")),
    "data": check_data,
    "credentials": lambda _: account.check_credentials(),
    "credential files": lambda _: account.check_permissions(),
    "kernel": check_kernel,
    "runs": check_runs,
    "submissions": check_submissions,
}
SERVICE: dict[str, Check] = {  # each needs the one before it
    "Kaggle": lambda _: account.check_service(),
    "sign-in": lambda _: account.check_sign_in(),
    "rules": lambda _: account.check_rules(),
    "GPU hours": lambda _: account.check_gpu_hours(),
    "daily limit": lambda _: account.check_daily_limit(),
}
TRAINING: dict[str, Check] = {
    "TensorFlow": lambda _: f"starts in {estimate.start_tensorflow():.0f} s",
    "GPU": check_gpu,
    **{f"preset {name}": partial(check_preset, name) for name in PRESETS},
}
CHECKS = LOCAL | SERVICE | TRAINING
# Faults, without which `make download train submit` cannot work. What the others raise are warnings.
NEEDED = {"versions", "disk space", "folders", "credentials", *SERVICE, "TensorFlow"} - {"GPU hours"}
SILENT = {"credentials", "credential files", *SERVICE}  # an unexpected exception can contain a secret


def to_lines(findings: list[Finding], encoding: str) -> list[str]:
    """Return the findings as lines of text, in ASCII where the encoding lacks the marks."""
    marks = {OK: "✓", WARNING: "!", FAULT: "✗"}
    try:
        "".join(marks.values()).encode(encoding)
    except UnicodeEncodeError:
        marks = {OK: "ok", WARNING: "! ", FAULT: "x "}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.status]} {finding.check:<16}  {finding.found}")
        lines += [f"{'':>20}next: {finding.next}"] if finding.next else []
    faults, warnings = (sum(finding.status == status for finding in findings) for status in (FAULT, WARNING))
    able = "cannot" if faults else "can"
    lines.append(f"`make download train submit` {able} work (faults: {faults}, warnings: {warnings})")
    return [line.encode(encoding, "backslashreplace").decode(encoding) for line in lines]


def diagnose(folders: Folders, step: Step) -> list[Finding]:
    """Run all checks and return their findings in order; call `step` after each of them."""
    command = [sys.executable, "-P", "-c", "from digit_recognizer.doctor import work; work()", *map(str, folders)]
    found: list[Finding] = []
    for groups in ((LOCAL, SERVICE), (TRAINING,)):  # nothing else runs during the measurement
        lanes = [list(group) for group in groups]
        for name, line, ended, message in run_lanes(command, lanes, limit=LIMIT):
            finding = Finding(*json.loads(line)) if line else _describe_end(name, ended, message)
            rest = next(lane for lane, group in zip(lanes, groups, strict=True) if name in group)
            if finding.status == FAULT and name not in LOCAL and rest:
                finding = finding._replace(found=f"{finding.found} (not checked: {', '.join(rest)})")
                rest.clear()
            found.append(finding)
            step(name, len(found) / len(CHECKS))
    return sorted(found, key=lambda finding: list(CHECKS).index(finding.check))


def _describe_end(name: str, ended: str, message: str) -> Finding:
    """Return the finding of a check whose process ended or took too long."""
    detail = f": {message}" if message and name not in SILENT else ""
    illegal = name in TRAINING and f"signal {signal.SIGILL:d}" in ended  # a processor without AVX
    remedy = "make push, which trains on Kaggle" if illegal else "make doctor"
    return _make_finding(name, f"{ended}{detail}; {remedy}")


def _make_finding(name: str, text: str) -> Finding:
    """Return a finding of a `UserError`'s text."""
    found, _, remedy = printable(text).rpartition("; ")
    status = FAULT if name in NEEDED else WARNING
    return Finding(name, status, found, remedy) if found else Finding(name, status, remedy, "make doctor")


def work() -> None:
    """Run the checks that the command line names after the folders; print each finding as a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    os.environ |= {"KERAS_HOME": f"{os.devnull}/none", "MPLCONFIGDIR": f"{os.devnull}/none"}  # they would be created
    client.ATTEMPTS, client.TIMEOUT = 1, REQUEST_LIMIT
    count = len(Folders._fields)
    folders = Folders(*map(Path, sys.argv[1 : count + 1]))
    for name in sys.argv[count + 1 :]:
        print(json.dumps(run_check(name, folders)), file=answers, flush=True)


def run_check(name: str, folders: Folders) -> Finding:
    """Run a check in this process."""
    try:
        return Finding(name, OK, printable(CHECKS[name](folders)))
    except UserError as error:
        return _make_finding(name, str(error))
    except Exception as error:  # noqa: BLE001 - whatever happens in one check, the others are reported
        detail = "" if name in SILENT else f": {error}"
        return _make_finding(name, f"{type(error).__name__}{detail}; make doctor")
