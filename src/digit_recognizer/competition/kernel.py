"""The kernel, which is Kaggle's name for a notebook with its runs: push a version once, watch it, fetch its output."""

import datetime
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests
import tenacity
from slugify import slugify

from digit_recognizer.competition import kernel_output, notebook
from digit_recognizer.competition.client import Api, CallError, Say, call, connect, poll, read_failure
from digit_recognizer.competition.kernel_output import CODE_PAGE, OUTPUT, READ_ADVICE, request_kernel
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError
from digit_recognizer.files import locked, read_json, write_json, write_text

NOTEBOOK = Path("kernel/digit-recognizer.ipynb")
METADATA = Path("kernel-metadata.json")
ACTIVE = ("queued", "running", "cancel requested")
POLL = tenacity.wait_exponential(multiplier=5, exp_base=1.2, max=60)  # seconds
REPORT_INTERVAL = datetime.timedelta(minutes=5)  # between two lines about an unchanged status
WATCH_SECONDS = 12.5 * 3600  # Kaggle stops a session after 12 hours
PUSH_ADVICE = {
    403: "Kaggle provides GPUs only to accounts with a verified phone number: see https://www.kaggle.com/settings",
    404: f"check the id in {METADATA}",
    409: f"another kernel has this title, or this id has another title: change both in {METADATA}",
}
SOURCES = ("competition_sources", "dataset_sources", "kernel_sources", "model_sources", "tags")


class Version(NamedTuple):
    """The latest version of a kernel."""

    number: int = 0  # 0 before the first push
    status: str = ""  # a name of kagglesdk's KernelWorkerStatus, in lower case with spaces; "" before the first push
    failure: str = ""  # Kaggle's message
    cells: tuple[tuple[str, str], ...] = ()  # of its notebook: type and source


def build() -> None:
    """Write the tracked notebook."""
    write_text(NOTEBOOK, notebook.build())


def push(settings: Mapping[str, Any], submissions_dir: Path, *, say: Say = print) -> None:
    """Push the notebook, unless Kaggle has it already, watch the kernel until it ends, and fetch its output.

    Notebooks with the same cells are the same: a call after one that was killed continues with the version at Kaggle.
    A second call at the same time is an error.
    `settings` replace values of `notebook.SETTINGS`; the output is compared with the submissions in `submissions_dir`.

    Raises:
        UserError: Kaggle refused the push, another version is running, the kernel failed, or its output is invalid.
    """
    text = notebook.build(settings)
    with locked(OUTPUT.parent, wait=False):
        api = connect(say=say)
        metadata = _read_metadata(api)
        slug = metadata["id"]
        latest = _find_latest(api, slug, say)
        same, active = latest.cells == _read_cells(text), latest.status in ACTIVE
        if active and not same:
            found = f"version {latest.number} with other settings or code ({latest.status}); wait, or stop it at"
            raise UserError(f"expected no running version of {slug}, found {found} {CODE_PAGE}/{slug}")
        if same and (active or latest.status == "complete"):
            say(f"version {latest.number} of {slug} is the same notebook; it is not run again")
        else:
            slug, latest = _save(api, metadata, text, latest.number, say)
        _watch(api, slug, latest.number, say)
        kernel_output.fetch(api, slug, submissions_dir, say)


def show_status(*, say: Say = print) -> None:
    """Print the status of the kernel's latest version; raise a UserError if there is none."""
    api = connect(say=say)
    slug = _read_metadata(api)["id"]
    latest = _find_latest(api, slug, say)
    if not latest.status:
        raise UserError(f"expected the kernel {slug}, found none that you may read; `make push` creates it")
    failure = f" ({latest.failure})" if latest.failure else ""
    say(f"version {latest.number} of {slug}: {latest.status}{failure}; {CODE_PAGE}/{slug}")


def fetch_output(submissions_dir: Path, *, say: Say = print) -> None:
    """Fetch the output of the latest version and compare it with the local run; see `kernel_output.fetch`."""
    with locked(OUTPUT.parent, wait=False):
        api = connect(say=say)
        kernel_output.fetch(api, _read_metadata(api)["id"], submissions_dir, say)


def read_metadata() -> dict[str, Any]:
    """Return kernel-metadata.json; raise a UserError if its id is not made of its title."""
    metadata = read_json(METADATA, remedy="restore it from git")
    if not isinstance(metadata, dict):
        raise UserError(f"{METADATA}: expected a JSON object, found other JSON; restore the file from git")
    for name in ("id", "title", "code_file"):
        if not isinstance(metadata.get(name), str):
            found = "another type" if name in metadata else "none"
            raise UserError(f"{METADATA}: expected {name} as text, found {found}; restore the file from git")
    for name in (*SOURCES, "keywords"):
        values = metadata.get(name) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise UserError(f"{METADATA}: expected {name} as a list of texts, found another type; write it again")
    slug, expected = metadata["id"].rpartition("/")[2], slugify(metadata["title"])
    if slug != expected:
        raise UserError(f"{METADATA}: expected the id .../{expected} for its title, found .../{slug}; change either")
    return metadata


def _read_metadata(api: Api) -> dict[str, Any]:
    """Return kernel-metadata.json with the signed-in user in the kernel's id."""
    metadata = read_metadata()
    slug = metadata["id"].rpartition("/")[2]
    return metadata | {"id": f"{api.get_config_value(api.CONFIG_NAME_USER)}/{slug}"}


def _read_status(api: Api, slug: str, say: Say) -> tuple[str, str]:
    """Return the status of the latest version, and Kaggle's message about a failure or ""."""
    answer = request_kernel(api, "the request for the kernel's status", "get_kernel_session_status", slug, say)
    return answer.status.name.lower().replace("_", " "), " ".join((answer.failure_message or "").split())


def _find_latest(api: Api, slug: str, say: Say) -> Version:
    """Return the latest version of a kernel. If there is none, Kaggle responds with 403."""
    try:
        status = _read_status(api, slug, say)
    except CallError as error:
        if read_failure(error).status in READ_ADVICE:
            return Version()
        raise
    kernel = request_kernel(api, "the request for the kernel's source", "get_kernel", slug, say)
    return Version(kernel.metadata.current_version_number or 0, *status, _read_cells(kernel.blob.source or ""))


def _read_cells(text: str) -> tuple[tuple[str, str], ...]:
    """Return type and source of a notebook's cells, which identify it; Kaggle adds metadata around them."""
    try:
        return tuple((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"])
    except (ValueError, KeyError, TypeError):  # another kind of kernel
        return ()


def _save(api: Api, metadata: dict[str, Any], text: str, before: int, say: Say) -> tuple[str, Version]:
    """Push a version after that of number `before` once, then look for it at Kaggle, whatever the response was.

    Returns:
        The kernel's id, which Kaggle makes of the title, and the version.
    """
    slug, response, outcome = metadata["id"], None, "Kaggle accepted the kernel"
    say(f"pushing {slug}")
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / METADATA.name, metadata | {"code_file": NOTEBOOK.name})
        write_text(Path(folder) / NOTEBOOK.name, text)
        try:
            response = call("the push", api.kernels_push, folder, may_repeat=_was_not_made, advice=PUSH_ADVICE, say=say)
        except CallError as error:
            if type(error.__cause__) is ValueError:  # the client's own checks
                raise UserError(f"{METADATA}: {error.__cause__}") from None
            if not read_failure(error).transient:
                raise
            outcome = str(error)
    if response and response.error:
        reason = " ".join(response.error.split())
        raise UserError(f"Kaggle refused the kernel: {reason}; you can stop running sessions at {CODE_PAGE}")
    for kind in SOURCES:
        if invalid := getattr(response, f"invalid_{kind}", None):
            raise UserError(
                f"Kaggle accepted the kernel without the {kind.replace('_', ' ')} {', '.join(invalid)}; stop it at "
                f"{CODE_PAGE}/{slug}, accept the competition's rules, check {METADATA}, and push again"
            )
    found = re.search(r"/code/([\w-]+/[\w-]+)", f"{response.ref} {response.url}") if response else None
    if found and found[1] != slug:
        slug, before = found[1], 0
        say(f"Kaggle saved the kernel as {slug}; change id and title in {METADATA}, so that other commands find it")
    latest = _find_latest(api, slug, say)
    if latest.number <= before or latest.cells != _read_cells(text):
        raise UserError(f"{outcome}; the new version is not there yet; run the command again, which looks for it first")
    say(f"version {latest.number} is pushed: {CODE_PAGE}/{slug}")
    return slug, latest


def _was_not_made(error: BaseException) -> bool:
    return read_failure(error).status == requests.codes.too_many_requests


def _watch(api: Api, slug: str, version: int, say: Say) -> None:
    """Wait until the latest version ends; raise a UserError with the end of its log if it fails."""
    started, shown = time.monotonic(), ("", 0)  # status, and number of the interval

    def look() -> tuple[str, str] | None:
        nonlocal shown
        status, failure = _read_status(api, slug, say)
        elapsed = datetime.timedelta(seconds=int(time.monotonic() - started))
        text = f"{status}, watched for {elapsed}"
        update(text)
        if shown != (status, elapsed // REPORT_INTERVAL):
            shown = status, elapsed // REPORT_INTERVAL
            say(text)
        return None if status in ACTIVE else (status, failure)

    with show_spinner(f"version {version} of {slug}") as update:
        end = poll(look, wait=POLL, stop=tenacity.stop_before_delay(WATCH_SECONDS))
    if end is None:
        found = f"version {version} is {shown[0]} after {WATCH_SECONDS / 3600:.1f} hours"
        raise UserError(f"{found}; see {CODE_PAGE}/{slug}, or run the command again to continue watching")
    status, failure = end
    if status != "complete":
        for line in kernel_output.list_output(api, slug, say)[1][-25:]:
            say(f"  {line}")
        ended = f"version {version} of {slug} ended with {status} ({failure or 'no reason given'})"
        raise UserError(f"{ended}; the end of its log is above, all of it at {CODE_PAGE}/{slug}")
