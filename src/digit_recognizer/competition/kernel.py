"""The kernel, which is Kaggle's name for a notebook with its runs: push a version once, watch it, fetch its output."""

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.competition import notebook, submission
from digit_recognizer.competition.client import ONCE, Api, CallError, Say, call, connect, read_failure
from digit_recognizer.competition.submission import FILE_NAME
from digit_recognizer.errors import UserError
from digit_recognizer.files import locked, reading, replacing, write_json, write_text
from digit_recognizer.training import run_folder

NOTEBOOK, METADATA = Path("kernel/digit-recognizer.ipynb"), Path("kernel-metadata.json")
OUTPUT = Path("kernel/run.zip")  # of the version that was fetched last: the folder of its run, and submission.csv
PAGE = "https://www.kaggle.com/code"
ACTIVE = ("queued", "running", "cancel requested")
READ_ADVICE = dict.fromkeys((403, 404), "there is no such kernel, or you may not read it; `make push` creates it")
PUSH_ADVICE = {
    403: "Kaggle provides GPUs only to accounts with a verified phone number: see https://www.kaggle.com/settings",
    409: f"another kernel has this title, or this id has another title: change both in {METADATA}",
}


def push(settings: Mapping[str, Any], submissions_dir: Path, *, say: Say = print) -> None:
    """Push the notebook, unless Kaggle has it already, watch the kernel until it ends, and fetch its output.

    Notebooks with the same cells and metadata are the same: a call after one that was killed continues with the version
    at Kaggle. `settings` replace values of `notebook.SETTINGS`. A refusal, a failure or an invalid output is an error.
    """
    with locked(OUTPUT.parent, wait=False):
        api, metadata = _connect(say)
        slug, text = metadata["id"], _mark(notebook.build(settings), metadata)
        if _is_there(api, slug, text, say):
            say(f"{slug} is the same notebook; it is not run again")
        else:
            slug = _save(api, metadata, text, say)
        _watch(api, slug, say)
        _fetch(api, slug, submissions_dir, say)


def fetch_output(submissions_dir: Path, *, say: Say = print) -> None:
    """Fetch the output of the latest version and compare it with the local run in `submissions_dir`."""
    with locked(OUTPUT.parent, wait=False):
        api, metadata = _connect(say)
        _fetch(api, metadata["id"], submissions_dir, say)


def _connect(say: Say) -> tuple[Api, dict[str, Any]]:
    """Sign in; return the client, and kernel-metadata.json with the user in the kernel's id."""
    with reading(METADATA, "JSON with an id", "restore it from git"):
        metadata: dict[str, Any] = json.loads(METADATA.read_text(encoding="utf-8"))
        name = metadata["id"].rpartition("/")[2]
    api = connect(say=say)
    return api, metadata | {"id": f"{api.get_config_value(api.CONFIG_NAME_USER)}/{name}"}


def _mark(text: str, metadata: Mapping[str, Any]) -> str:
    """Add a hash of the metadata to a notebook's last cell: Kaggle changes metadata, but keeps cells as they are."""
    content, digest = json.loads(text), hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
    content["cells"][-1]["source"] = f"{''.join(content['cells'][-1]['source'])}\n\n<!-- {METADATA} {digest} -->"
    return json.dumps(content)


def _is_there(api: Api, slug: str, text: str, say: Say) -> bool:
    """Return whether the latest version is this notebook and did not fail; an error if another one is running."""
    with tempfile.NamedTemporaryFile() as file:
        try:
            call("the request for the kernel", api.kernels_pull, slug, file.name, advice=READ_ADVICE, say=say)
        except CallError as error:
            if read_failure(error).status in READ_ADVICE:
                return False
            raise
        is_same = _list_cells(Path(file.name).read_text(encoding="utf-8")) == _list_cells(text)
    status, _ = _read_status(api, slug, say)
    if status in ACTIVE and not is_same:
        running = f"a version of {slug} with other settings, code or metadata is {status}"
        raise UserError(f"{running}; wait, or stop it at {PAGE}/{slug}")
    return is_same and status in (*ACTIVE, "complete")


def _list_cells(text: str) -> list[tuple[str, str]]:
    """Return type and source of the cells of a notebook, whose metadata Kaggle changes; none of another kernel."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return []


def _read_status(api: Api, slug: str, say: Say) -> tuple[str, str]:
    """Return the status of the latest version, and Kaggle's message about a failure or ""."""
    answer = call("the request for the kernel's status", api.kernels_status, slug, advice=READ_ADVICE, say=say)
    return answer.status.name.lower().replace("_", " "), " ".join((answer.failure_message or "").split())


def _save(api: Api, metadata: dict[str, Any], text: str, say: Say) -> str:
    """Push a version once, and after an unclear response look for it at Kaggle; return the kernel's id."""
    slug = str(metadata["id"])
    say(f"pushing {slug}")
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / METADATA.name, metadata | {"code_file": NOTEBOOK.name})
        write_text(Path(folder) / NOTEBOOK.name, text)
        try:
            response = call("the push", api.kernels_push, folder, advice=PUSH_ADVICE, say=say, **ONCE)
        except CallError as error:
            if type(error.__cause__) in (ValueError, TypeError, AttributeError):  # the client's own checks
                raise UserError(f"{METADATA}: {error.__cause__}") from None
            if read_failure(error).transient and _is_there(api, slug, text, say):
                return slug
            raise
    if response.error:
        raise UserError(f"Kaggle refused the kernel: {' '.join(response.error.split())}; see your sessions at {PAGE}")
    if response.invalid_competition_sources:
        remedy = f"stop it at {PAGE}/{slug}, accept the competition's rules, and push again"
        raise UserError(f"Kaggle accepted the kernel without the data of the competition; {remedy}")
    match = re.search(r"/code/([\w-]+/[\w-]+)", f"{response.ref} {response.url}")
    if match and match[1] != slug:
        slug = match[1]
        say(f"Kaggle saved the kernel as {slug}; change id and title in {METADATA}, so that other commands find it")
    say(f"version {response.version_number} is pushed: {PAGE}/{slug}")
    return slug


def _watch(api: Api, slug: str, say: Say) -> None:
    """Wait until the latest version ends; raise a `UserError` with the end of its log if it fails."""
    shown = ""
    while (state := _read_status(api, slug, say))[0] in ACTIVE:
        if state[0] != shown:
            shown = state[0]
            say(shown)
        time.sleep(20)
    if state[0] != "complete":
        log = call("the request for the log", api.kernels_logs, slug, say=say)
        with contextlib.suppress(ValueError, KeyError, TypeError):  # usually it is a JSON list of text fragments
            log = "".join(piece["data"].rstrip("\n") + "\n" for piece in json.loads(log))
        for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines()[-25:]:
            say(f"  {line}")
        ended = f"{slug} ended with {state[0]} ({state[1] or 'no reason given'})"
        raise UserError(f"{ended}; the end of its log is above, all of it at {PAGE}/{slug}")


def _fetch(api: Api, slug: str, submissions_dir: Path, say: Say) -> None:
    """Fetch the output of the latest version, and print how it differs from the local run with the same name."""
    with tempfile.TemporaryDirectory() as folder:
        path, pattern = Path(folder) / OUTPUT.name, rf"\A{re.escape(OUTPUT.name)}\Z"
        call("the download of the output", api.kernels_output, slug, folder, pattern, advice=READ_ADVICE, say=say)
        # The client saves an error page of the storage as if it were the file.
        remedy = f"run `make kernel-output` again, see {PAGE}/{slug}, or run `make push` with another SEED"
        with reading(path, "the output of a kernel", remedy), zipfile.ZipFile(path) as archive:
            archive.extractall(folder, ["run.json", FILE_NAME])
        record = run_folder.read_record(Path(folder))
        labels = submission.check_submission(Path(folder) / FILE_NAME, remedy=remedy)
        content = (Path(folder) / FILE_NAME).read_bytes()
        with replacing(OUTPUT) as temporary:
            shutil.copyfile(path, temporary)
    accuracy = (record["scores"] or {}).get("validation_accuracy")
    say(f"{record['run']}: {'no rows held out' if accuracy is None else f'validation accuracy {accuracy:.4f}'}")
    local = submissions_dir / record["run"] / FILE_NAME
    if not local.exists():
        say(f"there is no {local} to compare it with; `make train submission` with the same settings writes it")
    elif local.read_bytes() == content:
        say(f"its {FILE_NAME} is byte for byte {local}")
    else:
        count = np.count_nonzero(submission.check_submission(local) != labels)
        say(f"{count:,} of {len(labels):,} predictions differ from {local}")
