"""The kernel, which is Kaggle's name for a notebook with its runs: push a version once, watch it, fetch its output."""

import datetime
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests
import tenacity

from digit_recognizer import files
from digit_recognizer.competition import kernel_output, notebook
from digit_recognizer.competition.client import CallError, Say, call, connect, poll, read_failure
from digit_recognizer.competition.kernel_output import READ_ADVICE, page_of, request_kernel
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError
from digit_recognizer.training import records

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

NOTEBOOK = Path("kernel/digit-recognizer.ipynb")
METADATA = Path("kernel-metadata.json")
STATE = Path("kernel/state.json")  # the last push, while its output is not fetched
ACTIVE = ("QUEUED", "RUNNING", "CANCEL_REQUESTED")
POLL = tenacity.wait_exponential(multiplier=5, exp_base=1.2, max=60)  # seconds
REPORT_INTERVAL = datetime.timedelta(minutes=5)  # between two lines about an unchanged status
WATCH_SECONDS = 12.5 * 3600  # Kaggle stops a session after 12 hours
LOG_LINES = 25  # shown of a failed kernel
PUSH_ADVICE = {
    403: "Kaggle provides GPUs only to accounts with a verified phone number: see https://www.kaggle.com/settings",
    404: f"check the id in {METADATA}",
    409: f"another kernel has this title, or this id has another title: change both in {METADATA}",
}
SOURCES = ("competition_sources", "dataset_sources", "kernel_sources", "model_sources", "tags")


class Version(NamedTuple):
    """The latest version of a kernel."""

    number: int
    status: str  # a name of kagglesdk's KernelWorkerStatus
    failure: str  # Kaggle's message, or ""
    digest: str  # of its cells


def build() -> None:
    """Write the tracked notebook."""
    files.write_text(NOTEBOOK, notebook.build())


def push(settings: Mapping[str, Any], submissions_dir: Path, *, say: Say = print) -> None:
    """Push the notebook once, watch the kernel until it ends, and fetch its output.

    The push is recorded in advance. If the process is killed, the next call continues with the version at Kaggle.

    Args:
        settings: values for some of `notebook.SETTINGS`, in place of those of the tracked notebook.
        submissions_dir: folder of the local submissions, to compare with.
        say: prints one line of progress.

    Raises:
        UserError: Kaggle refused the push, another version is running, the kernel failed, or its output is invalid.
    """
    text = notebook.build(settings)
    api = connect(say=say)
    metadata = _read_metadata(api)
    slug, digest = metadata["id"], _digest(text)
    latest, state = _find_latest(api, slug, say), _read_state(slug, digest)
    running = latest is not None and latest.status in ACTIVE
    if latest and running and latest.digest != digest:
        raise UserError(
            f"expected no running version of {slug}, found version {latest.number} with other settings or code "
            f"({_words(latest.status)}); wait until it ends (`make kernel-status`), or stop it at {page_of(slug)}"
        )
    if latest and latest.digest == digest and (running or (state and latest.number > state["before"])):
        say(f"version {latest.number} of {slug} is the same notebook; watching it")
        state = state or _write_state(slug, digest, before=latest.number - 1)
    else:
        state = _write_state(slug, digest, before=latest.number if latest else 0)
        latest = _save(api, metadata, text, state, say)
    _watch(api, slug, latest.number, state, say)
    try:
        kernel_output.fetch(api, slug, submissions_dir, say)
    except CallError:
        raise  # the next call fetches it
    except UserError:
        STATE.unlink()  # the output is invalid, and the next call pushes a new version
        raise
    STATE.unlink()


def show_status(*, say: Say = print) -> None:
    """Print the status of the kernel's latest version.

    Raises:
        UserError: there is no kernel.
    """
    api = connect(say=say)
    slug = _read_metadata(api)["id"]
    latest = _find_latest(api, slug, say)
    if latest is None:
        raise UserError(f"expected the kernel {slug}, found none that you may read; `make push` creates it")
    failure = f" ({latest.failure})" if latest.failure else ""
    say(f"version {latest.number} of {slug}: {_words(latest.status)}{failure}; {page_of(slug)}")


def fetch_output(submissions_dir: Path, *, say: Say = print) -> None:
    """Fetch the output of the latest version and compare it with the local run; see `kernel_output.fetch`."""
    api = connect(say=say)
    kernel_output.fetch(api, _read_metadata(api)["id"], submissions_dir, say)


def _read_metadata(api: "KaggleApi") -> dict[str, Any]:
    """Return kernel-metadata.json with the signed-in user in the kernel's id."""
    metadata = files.read_json(METADATA)
    slug, title = metadata["id"].rpartition("/")[2], metadata["title"]
    expected = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if slug != expected:
        raise UserError(
            f"{METADATA}: expected the id .../{expected}, which Kaggle derives from the title {title!r}, found "
            f".../{slug}; change one of them"
        )
    return metadata | {"id": f"{api.get_config_value(api.CONFIG_NAME_USER)}/{slug}"}


def _read_state(slug: str, digest: str) -> dict[str, Any]:
    """Return the state of the last push if it was of this notebook and is unfinished, else an empty dict."""
    state = files.read_json(STATE) if STATE.exists() else {}
    same = (state.get("kernel"), state.get("digest")) == (slug, digest)
    return state if same and not state.get("ended") else {}  # "ended" is of files written by earlier versions


def _write_state(slug: str, digest: str, before: int) -> dict[str, Any]:
    """Record a push; `before` is the number of the version before it."""
    state = {"kernel": slug, "digest": digest, "before": before, "pushed_at": records.now()}
    files.write_json(STATE, state)
    return state


def _read_status(api: "KaggleApi", slug: str, say: Say) -> Any:
    return request_kernel(api, "the request for the kernel's status", "get_kernel_session_status", slug, say)


def _find_latest(api: "KaggleApi", slug: str, say: Say) -> Version | None:
    """Return the latest version of a kernel, None if there is none, to which Kaggle responds with 403."""
    try:
        status = _read_status(api, slug, say)
    except CallError as error:
        if error.failure.status in READ_ADVICE:
            return None
        raise
    kernel = request_kernel(api, "the request for the kernel's source", "get_kernel", slug, say)
    number = kernel.metadata.current_version_number or 0
    return Version(number, status.status.name, status.failure_message or "", _digest(kernel.blob.source or ""))


def _digest(text: str) -> str:
    """Return a hash of a notebook's cells; Kaggle adds metadata around them."""
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _save(api: "KaggleApi", metadata: dict[str, Any], text: str, state: dict[str, Any], say: Say) -> Version:
    """Push a version once, then look for it at Kaggle, whatever the response was."""
    slug = metadata["id"]
    say(f"pushing {slug}")
    response, failure = None, None
    with tempfile.TemporaryDirectory() as folder:
        files.write_json(Path(folder) / METADATA.name, metadata)
        files.write_text(Path(folder) / metadata["code_file"], text)
        try:
            response = call("the push", api.kernels_push, folder, retry_if=_was_not_made, advice=PUSH_ADVICE, say=say)
        except CallError as error:
            if not error.failure.transient:
                raise
            failure = error
        except ValueError as error:  # the client's own checks
            raise UserError(f"{METADATA}: {error}") from None
    if response and response.error:
        raise UserError(
            f"Kaggle refused the kernel: {' '.join(response.error.split())}; running sessions are listed at "
            "https://www.kaggle.com/code, where you can stop them"
        )
    for kind in SOURCES:
        if response and (invalid := getattr(response, f"invalid_{kind}")):
            raise UserError(
                f"Kaggle accepted the kernel without the {kind.replace('_', ' ')} {', '.join(invalid)}; stop it at "
                f"{page_of(slug)}, accept the competition's rules, check {METADATA}, and push again"
            )
    latest = _find_latest(api, slug, say)
    if latest is None or latest.number <= state["before"] or latest.digest != state["digest"]:
        raise UserError(
            f"{failure or 'Kaggle accepted the kernel'}; the new version is not there yet: run the command again, it "
            "checks Kaggle before it pushes"
        )
    say(f"version {latest.number} is pushed: {page_of(slug)}")
    return latest


def _was_not_made(error: BaseException) -> bool:
    """Return whether a push certainly had no effect and can be repeated."""
    return read_failure(error).status == requests.codes.too_many_requests


def _watch(api: "KaggleApi", slug: str, version: int, state: dict[str, Any], say: Say) -> None:
    """Wait until the latest version ends; raise a UserError with the end of its log if it fails."""
    pushed_at = datetime.datetime.fromisoformat(state["pushed_at"])
    shown = "", 0  # status, and number of the interval

    def look() -> Any | None:
        nonlocal shown
        answer = _read_status(api, slug, say)
        elapsed = datetime.datetime.now(datetime.UTC) - pushed_at
        text = f"{_words(answer.status.name)}, {str(elapsed).partition('.')[0]} after the push"
        update(text)
        if shown != (answer.status.name, elapsed // REPORT_INTERVAL):
            shown = answer.status.name, elapsed // REPORT_INTERVAL
            say(text)
        return None if answer.status.name in ACTIVE else answer

    with show_spinner(f"version {version} of {slug}") as update:
        answer = poll(look, wait=POLL, stop=tenacity.stop_before_delay(WATCH_SECONDS))
    if answer is None:
        raise UserError(
            f"expected the end of version {version} within {WATCH_SECONDS / 3600:.1f} hours, found it "
            f"{_words(shown[0])}; see {page_of(slug)}, or run the command again to continue watching"
        )
    if answer.status.name == "COMPLETE":
        return
    for line in kernel_output.list_output(api, slug, say)[1][-LOG_LINES:]:
        say(f"  {line}")
    STATE.unlink()
    reason = " ".join((answer.failure_message or "no reason given").split())
    raise UserError(
        f"version {version} of {slug} ended with {_words(answer.status.name)} ({reason}); the end of its log is "
        f"above, all of it at {page_of(slug)}"
    )


def _words(status: str) -> str:
    return status.lower().replace("_", " ")
