"""The output of a kernel: fetch it, verify each file, compare it with the local run, make a submission of it."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import requests

from digit_recognizer import files
from digit_recognizer.competition.client import DownloadError, Say, call
from digit_recognizer.competition.record import is_pending, write_submission_folder
from digit_recognizer.competition.submission import FILE_NAME, MANIFEST_NAME, check_submission
from digit_recognizer.config import count_members
from digit_recognizer.errors import UserError
from digit_recognizer.training import runs

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

OUTPUT = Path("kernel/output")  # output of the version that was fetched last
SUFFIX = "-kernel"  # in the name of a kernel's submission
DIFFERENCES_SHOWN = 20
READ_ADVICE = dict.fromkeys((403, 404), "there is no such kernel, or you may not read it; `make push` creates it")
FILE_ADVICE = {403: "its URL has expired; run `make kernel-output` for a new one", 404: "run `make kernel-output`"}


def request_kernel(api: "KaggleApi", what: str, method: str, slug: str, say: Say, **options: Any) -> Any:
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


def page_of(slug: str) -> str:
    """Return the URL of a kernel."""
    return f"https://www.kaggle.com/code/{slug}"


def list_output(api: "KaggleApi", slug: str, say: Say) -> tuple[dict[str, str], list[str]]:
    """Return the URLs of the latest version's files by name, and the lines of its log."""
    urls: dict[str, str] = {}
    log = token = ""
    while True:
        options = {"page_size": 100, "page_token": token}
        page = request_kernel(api, "the list of output files", "list_kernel_session_output", slug, say, **options)
        urls |= {item.file_name: item.url for item in page.files or []}
        log, token = log or page.log or "", page.next_page_token
        if not token:
            return urls, _read_log(log)


def fetch(api: "KaggleApi", slug: str, submissions_dir: Path, say: Say) -> None:
    """Fetch the output of the latest version and compare it with the local run.

    Args:
        api: the client.
        slug: user/kernel.
        submissions_dir: folder of the local submissions.
        say: prints one line of progress.

    Raises:
        UserError: the output is missing or incomplete; an earlier output is kept.
    """
    urls, log = list_output(api, slug, say)
    new, old = OUTPUT.with_name(".output.new"), OUTPUT.with_name(".output.old")
    if old.exists() and not OUTPUT.exists():  # a call was killed between the two renames
        old.rename(OUTPUT)
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)

    def fetch_file(name: str, is_valid: Callable[[Path], bool]) -> None:
        if name not in urls:
            raise UserError(
                f"expected {name} in the output of {slug}, found {', '.join(sorted(urls)) or 'no files'}; see "
                f"{page_of(slug)}, and run `make push` again"
            )
        call(f"the download of {name}", _download, urls[name], new / name, is_valid, advice=FILE_ADVICE, say=say)

    try:
        fetch_file(MANIFEST_NAME, _is_manifest)
        manifest = files.read_json(new / MANIFEST_NAME)
        for name, digest in manifest["files"].items():
            fetch_file(name, partial(_has_digest, digest))
        check_submission(new / FILE_NAME, remedy=f"see {page_of(slug)}")
        files.write_text(new / "kernel.log", "".join(f"{line}\n" for line in log))
        if OUTPUT.exists():
            OUTPUT.rename(old)
        new.rename(OUTPUT)
    finally:
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)
    say(f"fetched {len(manifest['files'])} files into {OUTPUT}; their checksums match")
    _compare(manifest["run"], submissions_dir, say)


def make_submission(submissions_dir: Path) -> Path:
    """Write a submission of the fetched output, next to that of the local run.

    Returns:
        Its folder, with submission.csv and record.json.

    Raises:
        UserError: no output was fetched, or it was changed since.
    """
    if not (OUTPUT / MANIFEST_NAME).exists():
        raise UserError(f"expected a kernel's output in {OUTPUT}, found none; run `make push` or `make kernel-output`")
    manifest = files.read_json(OUTPUT / MANIFEST_NAME)
    path = OUTPUT / FILE_NAME
    labels = check_submission(path, remedy="run `make kernel-output`")
    if not _has_digest(manifest["files"][FILE_NAME], path):
        raise UserError(f"expected {path} as it was fetched, found it changed; run `make kernel-output`")
    record = runs.read_finished_record(OUTPUT / "models" / manifest["run"])
    record["run"] += SUFFIX
    folder = submissions_dir / record["run"]
    if not is_pending(folder):  # otherwise `submit` waits for that score
        write_submission_folder(folder, record, labels, record["data"].get("test.csv"))
    return folder


def _download(url: str, path: Path, is_valid: Callable[[Path], bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with requests.get(url, stream=True) as response, path.open("wb") as file:  # noqa: S113 - `call` sets a timeout
        response.raise_for_status()
        for chunk in response.iter_content(1 << 20):
            file.write(chunk)
    if not is_valid(path):
        raise DownloadError


def _has_digest(digest: str, path: Path) -> bool:
    return files.sha256(path) == digest


def _is_manifest(path: Path) -> bool:
    """Return whether a file is a manifest with a submission, and all its paths stay inside the folder."""
    try:
        names = json.loads(path.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        return False
    outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    return FILE_NAME in names and not outside


def _read_log(log: str) -> list[str]:
    """Return the lines of a log, a JSON list of text fragments, without colour codes."""
    try:
        text = "".join(piece["data"].rstrip("\n") + "\n" for piece in json.loads(log))
    except (ValueError, KeyError, TypeError):
        text = log
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def _compare(run: str, submissions_dir: Path, say: Say) -> None:
    """Print how the kernel's predictions differ from those of the local run with the same settings, data and code."""
    record = runs.read_finished_record(OUTPUT / "models" / run)
    accuracy = record["scores"]["validation_accuracy"]
    say(f"{run}: " + ("no rows were held out" if accuracy is None else f"validation accuracy {accuracy:.4f}"))
    if record["left_out"]:
        say(f"the kernel had no time for {len(record['left_out'])} of {count_members(record['config'])} members")
    local, fetched = submissions_dir / run / FILE_NAME, OUTPUT / FILE_NAME
    if not local.exists():
        say(f"there is no {local} to compare it with; `make train submission` with the same settings writes it")
        return
    if local.read_bytes() == fetched.read_bytes():
        say(f"{fetched} is byte for byte {local}")
        return
    ours, theirs = check_submission(local), check_submission(fetched)
    different = np.flatnonzero(ours != theirs)
    shown = [f"{row + 1} ({theirs[row]}, here {ours[row]})" for row in different[:DIFFERENCES_SHOWN]]
    rest = f" and {len(different) - len(shown):,} more" if len(different) > len(shown) else ""
    say(f"{len(different):,} of {len(ours):,} predictions differ from {local}: ImageId {', '.join(shown)}{rest}")
