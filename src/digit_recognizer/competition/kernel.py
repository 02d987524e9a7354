"""The notebook at Kaggle: pushed once, and watched to its end.

Kaggle calls a notebook with its runs a kernel, and what is pushed one of its versions.
"""

import datetime
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import requests

from digit_recognizer import files
from digit_recognizer.competition import kernel_output, notebook
from digit_recognizer.competition.client import call, connect, is_transient, status_of
from digit_recognizer.competition.kernel_output import READ_ADVICE, ask_service, page_of
from digit_recognizer.console import show_spinner
from digit_recognizer.errors import UserError
from digit_recognizer.training import records

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

Say = Callable[[str], None]

NOTEBOOK = Path("kernel/digit-recognizer.ipynb")
METADATA = Path("kernel-metadata.json")
README = Path("README.md")
STATE = Path("kernel/state.json")  # what was pushed last, and whether its end was seen
ACTIVE = ("QUEUED", "RUNNING", "CANCEL_REQUESTED")
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 5, 60
REPORT_SECONDS = 300  # between two lines about an unchanged status
WATCH_SECONDS = 12.5 * 3600  # Kaggle ends a session after 12 hours
LOG_LINES = 25  # of a kernel that failed
PUSH_ADVICE = {
    403: "Kaggle lends GPUs to accounts with a verified phone number alone: look at https://www.kaggle.com/settings",
    404: f"look at the id in {METADATA}",
    409: f"another kernel has this title, or this id another title: change title and id together in {METADATA}",
}


class Version(NamedTuple):
    """The latest version of a kernel, as Kaggle tells it."""

    number: int
    status: str  # a name of kagglesdk's KernelWorkerStatus
    failure: str  # Kaggle's words for it, or nothing
    digest: str  # of its cells


def build() -> None:
    """Writes the tracked notebook."""
    files.write_text(NOTEBOOK, notebook.build())


def push(settings: Mapping[str, Any], submissions_dir: Path, *, say: Say = print) -> None:
    """Pushes the notebook, or finds it running, watches it to its end and fetches its output.

    What is to be pushed is written down before, so that a command that was killed can be given again: it looks at
    Kaggle first and goes on with the version that is there.

    Args:
        settings: values for some of `notebook.SETTINGS`; the tracked notebook keeps its own.
        submissions_dir: the folder of the local submissions to compare with.
        say: takes each line of progress.

    Raises:
        UserError: Kaggle refused it, another version runs, or the kernel failed.
    """
    text = notebook.build(settings)
    metadata = _read_metadata()
    api = connect(say=say)
    slug = _fill_in_user(api, metadata)
    digest, latest = _digest(text), _look(api, slug, say)
    state = files.read_json(STATE) if STATE.exists() else {}
    known = (state.get("kernel"), state.get("digest"), state.get("ended")) == (slug, digest, False)
    if latest and latest.status in ACTIVE:
        if latest.digest != digest:
            raise UserError(
                f"expected no running version of {slug}, found version {latest.number} with other settings or code "
                f"({latest.status.lower()}); wait for its end (`make kernel-status`), or stop it at {page_of(slug)}"
            )
        say(f"version {latest.number} of {slug} is this very notebook; watching it")
        state = state if known else _new_state(slug, digest, latest.number - 1)
        files.write_json(STATE, state)
    elif latest and known and latest.digest == digest and latest.number > state["before"]:
        say(f"version {latest.number} of {slug}, pushed before, is this very notebook")
    else:
        state = _new_state(slug, digest, latest.number if latest else 0)
        files.write_json(STATE, state)
        latest = _save(api, metadata, text, state, say)
    _watch(api, slug, latest.number, state, say)
    try:
        kernel_output.fetch(api, slug, submissions_dir, say)
    except kernel_output.MissingOutputError:
        files.write_json(STATE, state | {"ended": True})
        raise
    files.write_json(STATE, state | {"ended": True})


def show_status(*, say: Say = print) -> None:
    """Says what Kaggle knows of the kernel.

    Raises:
        UserError: it was never pushed.
    """
    api = connect(say=say)
    slug = _fill_in_user(api, _read_metadata())
    latest = _look(api, slug, say)
    if latest is None:
        raise UserError(f"expected a kernel {slug}, found none that you may read; `make push` makes it")
    failure = f" ({latest.failure})" if latest.failure else ""
    say(f"version {latest.number} of {slug}: {_words(latest.status)}{failure}; {page_of(slug)}")


def fetch_output(submissions_dir: Path, *, say: Say = print) -> None:
    """Fetches what the latest version has made and compares it with the local run; see `kernel_output.fetch`."""
    api = connect(say=say)
    kernel_output.fetch(api, _fill_in_user(api, _read_metadata()), submissions_dir, say)


def _read_metadata() -> dict[str, Any]:
    metadata = files.read_json(METADATA)
    slug, title = metadata["id"].rpartition("/")[2], metadata["title"]
    expected = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if slug != expected:
        raise UserError(
            f"{METADATA}: expected the id .../{expected}, which Kaggle makes of the title {title!r}, found .../{slug}; "
            "change one of them"
        )
    return metadata


def _fill_in_user(api: "KaggleApi", metadata: dict[str, Any]) -> str:
    """Puts the user who is signed in into the metadata and returns the kernel's whole name."""
    metadata["id"] = f"{api.get_config_value(api.CONFIG_NAME_USER)}/{metadata['id'].rpartition('/')[2]}"
    return metadata["id"]


def _new_state(slug: str, digest: str, before: int) -> dict[str, Any]:
    return {"kernel": slug, "digest": digest, "before": before, "pushed_at": records.now(), "ended": False}


def _status(api: "KaggleApi", slug: str, say: Say) -> Any:
    arguments = "get_kernel_session_status", "ApiGetKernelSessionStatusRequest", slug
    return call("the kernel's status", ask_service, api, *arguments, advice=READ_ADVICE, say=say)


def _look(api: "KaggleApi", slug: str, say: Say) -> Version | None:
    """Returns the latest version of a kernel, None when it was never pushed, which Kaggle calls forbidden."""
    try:
        status = _status(api, slug, say)
    except UserError as error:
        if status_of(error.__cause__) in READ_ADVICE:
            return None
        raise
    arguments = "get_kernel", "ApiGetKernelRequest", slug
    kernel = call("the kernel's source", ask_service, api, *arguments, advice=READ_ADVICE, say=say)
    number = kernel.metadata.current_version_number or 0
    return Version(number, status.status.name, status.failure_message or "", _digest(kernel.blob.source or ""))


def _digest(text: str) -> str:
    """Returns a hash of a notebook's cells; Kaggle may add to what stands around them."""
    try:
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    except (ValueError, KeyError, TypeError):
        return ""
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _save(api: "KaggleApi", metadata: dict[str, Any], text: str, state: dict[str, Any], say: Say) -> Version:
    """Pushes a version once, and whatever Kaggle answers to that, looks whether it is there."""
    slug = metadata["id"]
    say(f"pushing {slug}")
    answer, failure = None, None
    with tempfile.TemporaryDirectory() as folder:
        files.write_json(Path(folder) / METADATA.name, metadata)
        files.write_text(Path(folder) / metadata["code_file"], text)
        try:
            answer = call("the push", api.kernels_push, folder, retriable=_is_too_early, advice=PUSH_ADVICE, say=say)
        except UserError as error:
            if not is_transient(error.__cause__):
                raise
            failure = error
        except ValueError as error:  # the client's own checks
            raise UserError(f"{METADATA}: {error}") from None
    if answer and answer.error:
        raise UserError(
            f"Kaggle did not take the kernel: {' '.join(answer.error.split())}; sessions that run are listed at "
            "https://www.kaggle.com/code, where they can be stopped"
        )
    for kind in ("competition_sources", "dataset_sources", "kernel_sources", "model_sources", "tags"):
        if answer and (invalid := getattr(answer, f"invalid_{kind}")):
            raise UserError(
                f"Kaggle took the kernel without the {kind.replace('_', ' ')} {', '.join(invalid)}; stop it at "
                f"{page_of(slug)}, accept the competition's rules, look at {METADATA}, and push again"
            )
    latest = _look(api, slug, say)
    if latest is None or latest.number <= state["before"] or latest.digest != state["digest"]:
        raise UserError(
            f"{failure or 'Kaggle took the kernel'}; it is not there yet: run the command again, it looks before it "
            "pushes"
        )
    say(f"version {latest.number} is pushed: {page_of(slug)}")
    return latest


def _is_too_early(error: BaseException) -> bool:
    """Whether a push certainly had no effect, and may have one later."""
    return status_of(error) == requests.codes.too_many_requests


def _watch(api: "KaggleApi", slug: str, version: int, state: dict[str, Any], say: Say) -> None:
    """Waits for the end of the latest version."""
    pushed_at = datetime.datetime.fromisoformat(state["pushed_at"])
    deadline, interval = time.monotonic() + WATCH_SECONDS, FIRST_POLL_SECONDS
    shown, shown_at = "", 0.0
    with show_spinner(f"version {version} of {slug}") as update:
        while True:
            answer = _status(api, slug, say)
            status = answer.status.name
            elapsed = datetime.datetime.now(datetime.UTC) - pushed_at
            update(text := f"{_words(status)}, {str(elapsed).partition('.')[0]} after the push")
            if status != shown or time.monotonic() > shown_at + REPORT_SECONDS:
                say(text)
                shown, shown_at = status, time.monotonic()
            if status not in ACTIVE:
                break
            if time.monotonic() + interval > deadline:
                raise UserError(
                    f"expected the end of version {version} within {WATCH_SECONDS / 3600:.1f} hours, found it "
                    f"{_words(status)}; look at {page_of(slug)}, or run the command again to go on watching"
                )
            time.sleep(interval)
            interval = min(interval * 1.2, LONGEST_POLL_SECONDS)
    if status == "COMPLETE":
        return
    for line in kernel_output.log_lines(kernel_output.list_output(api, slug, say)[1])[-LOG_LINES:]:
        say(f"  {line}")
    files.write_json(STATE, state | {"ended": True})
    reason = " ".join((answer.failure_message or "no reason given").split())
    raise UserError(
        f"version {version} of {slug} ended with {_words(status)} ({reason}); the end of its log stands above, all of "
        f"it at {page_of(slug)}"
    )


def _words(status: str) -> str:
    return status.lower().replace("_", " ")
