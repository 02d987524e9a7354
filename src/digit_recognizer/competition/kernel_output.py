"""The output of a kernel: fetch it, verify each file, compare it with the local run, make a submission of it."""

import contextlib
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import requests

from digit_recognizer.competition.client import Api, Say, TransferError, call
from digit_recognizer.competition.submission import (
    FILE_NAME,
    MANIFEST_NAME,
    SUBMISSION_ROWS,
    check_submission,
    is_pending,
    write_submission_folder,
)
from digit_recognizer.config import count_members
from digit_recognizer.errors import UserError
from digit_recognizer.files import locked, read_json, sha256, write_text
from digit_recognizer.training import run_folder

CODE_PAGE = "https://www.kaggle.com/code"
OUTPUT = Path("kernel/output")  # output of the version that was fetched last
READ_ADVICE = dict.fromkeys((403, 404), "there is no such kernel, or you may not read it; `make push` creates it")
FILE_ADVICE = {403: "its URL has expired; run `make kernel-output` for a new one", 404: "run `make kernel-output`"}


def request_kernel(api: Api, what: str, method: str, slug: str, say: Say, **options: Any) -> Any:
    """Call a method of the client's kernel service, such as get_kernel; `options` are further fields of its request.

    The client's own methods hide HTTP statuses, and save an error page as if it were the file.
    """
    from kagglesdk.kernels.types import kernels_api_service

    def send() -> Any:
        request = getattr(kernels_api_service, f"Api{method.title().replace('_', '')}Request")()
        request.user_name, _, request.kernel_slug = slug.partition("/")
        for name, value in options.items():
            setattr(request, name, value)
        with api.build_kaggle_client() as client:
            return getattr(client.kernels.kernels_api_client, method)(request)

    return call(what, send, advice=READ_ADVICE, say=say)


def list_output(api: Api, slug: str, say: Say) -> tuple[dict[str, str], list[str]]:
    """Return the URLs of the latest version's files by name, and the lines of its log without colour codes."""
    urls: dict[str, str] = {}
    log, options = "", {"page_size": 100, "page_token": ""}
    while True:
        page = request_kernel(api, "the list of output files", "list_kernel_session_output", slug, say, **options)
        urls |= {item.file_name: item.url for item in page.files or []}
        log, options["page_token"] = log or page.log or "", page.next_page_token
        if not page.next_page_token:
            break
    with contextlib.suppress(ValueError, KeyError, TypeError):  # usually the log is a JSON list of text fragments
        log = "".join(piece["data"].rstrip("\n") + "\n" for piece in json.loads(log))
    return urls, re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines()


def fetch(api: Api, slug: str, submissions_dir: Path, say: Say) -> None:
    """Fetch the output of the latest version of a kernel, and compare it with the local run.

    The caller is the only writer of the folder (`files.locked`).

    Raises:
        UserError: the output is missing or incomplete; an earlier output is kept.
    """
    remedy = f"see {CODE_PAGE}/{slug}, or run `make push` with another SEED"  # the same notebook is not run again
    urls, log = list_output(api, slug, say)
    OUTPUT.parent.mkdir(exist_ok=True)
    restore()
    with tempfile.TemporaryDirectory(prefix=".output.", dir=OUTPUT.parent) as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"

        def fetch_file(name: str, digest: str | None = None) -> None:
            if name not in urls:
                raise UserError(f"expected {name} in the output of {slug}, found {', '.join(urls) or 'none'}; {remedy}")
            call(f"the download of {name}", _download, urls[name], new / name, digest, advice=FILE_ADVICE, say=say)

        fetch_file(MANIFEST_NAME)
        manifest = read_json(new / MANIFEST_NAME)
        for name, digest in manifest["files"].items():
            fetch_file(name, digest)
        check_submission(new / FILE_NAME, remedy=remedy)
        write_text(new / "kernel.log", "".join(f"{line}\n" for line in log))
        try:
            if OUTPUT.exists():
                OUTPUT.rename(old)
            new.rename(OUTPUT)
        finally:
            if old.exists() and not OUTPUT.exists():  # interrupted in between
                old.rename(OUTPUT)
    say(f"fetched {len(manifest['files'])} files into {OUTPUT}; their checksums match")
    _compare(manifest["run"], submissions_dir, say)


def restore() -> None:
    """Finish what a killed `fetch` left: put back an earlier output that it had moved, and delete its new files."""
    for old in OUTPUT.parent.glob(".output.*/old"):
        if not OUTPUT.exists():
            old.rename(OUTPUT)
    for leftover in OUTPUT.parent.glob(".output.*"):
        shutil.rmtree(leftover)


def make_submission(submissions_dir: Path) -> Path:
    """Write a submission of the unchanged fetched output, next to that of the local run; return its folder."""
    if OUTPUT.parent.exists() and not OUTPUT.exists():
        with locked(OUTPUT.parent, wait=False):
            restore()
    if not ((OUTPUT / MANIFEST_NAME).exists() and _is_manifest(OUTPUT / MANIFEST_NAME)):
        raise UserError(f"expected a kernel's output in {OUTPUT}, found none; run `make push` or `make kernel-output`")
    manifest = read_json(OUTPUT / MANIFEST_NAME)
    path = OUTPUT / FILE_NAME
    labels = check_submission(path, remedy="run `make kernel-output`")
    if sha256(path) != manifest["files"][FILE_NAME]:
        raise UserError(f"expected {path} as it was fetched, found it changed; run `make kernel-output`")
    record = run_folder.read_finished_record(OUTPUT / "models" / manifest["run"])
    record["run"] = f"{manifest['run']}-kernel"
    folder = submissions_dir / record["run"]
    if not is_pending(folder):  # otherwise `submit` waits for that score
        write_submission_folder(folder, record, labels, record["data"].get("test.csv"))
    return folder


def _download(url: str, path: Path, digest: str | None) -> None:
    """Download a file with a known digest, or the manifest, with the digests of the other files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with requests.get(url, stream=True) as response, path.open("wb") as file:  # noqa: S113 - `call` sets a timeout
        response.raise_for_status()
        for chunk in response.iter_content(1 << 20):
            file.write(chunk)
    if sha256(path) != digest if digest else not _is_manifest(path):
        raise TransferError("the downloaded content is not the expected file")


def _is_manifest(path: Path) -> bool:
    """Return whether a file is a manifest with a submission, and all its paths stay inside the folder."""
    try:
        manifest = json.loads(path.read_bytes())
        run, names = manifest["run"], manifest["files"]
    except (ValueError, KeyError, TypeError):
        return False
    if not isinstance(names, dict) or not isinstance(run, str) or Path(run).name != run or run in ("", ".."):
        return False
    folder = path.parent.resolve()
    return FILE_NAME in names and all((folder / name).resolve().is_relative_to(folder) for name in names)


def _compare(run: str, submissions_dir: Path, say: Say) -> None:
    """Print how the kernel's predictions differ from those of the local run with the same settings, data and code."""
    record = run_folder.read_finished_record(OUTPUT / "models" / run)
    accuracy = record["scores"]["validation_accuracy"]
    say(f"{run}: " + ("no rows were held out" if accuracy is None else f"validation accuracy {accuracy:.4f}"))
    if record["left_out"]:
        say(f"the kernel had no time for {len(record['left_out'])} of {count_members(record['config'])} members")
    local, fetched = submissions_dir / run / FILE_NAME, OUTPUT / FILE_NAME
    if not local.exists():
        say(f"there is no {local} to compare it with; `make train submission` with the same settings writes it")
    elif local.read_bytes() == fetched.read_bytes():
        say(f"{fetched} is byte for byte {local}")
    else:
        different = np.flatnonzero(check_submission(local) != check_submission(fetched)) + 1
        first = ", ".join(map(str, different[:20]))
        say(f"{len(different):,} of {SUBMISSION_ROWS:,} predictions differ from {local}, first at ImageId {first}")
