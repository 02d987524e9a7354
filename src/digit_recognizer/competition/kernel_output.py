"""What a kernel has made: listed, fetched with every file checked, compared with the local run, made a submission."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import requests

from digit_recognizer import files
from digit_recognizer.competition.client import DownloadError, call
from digit_recognizer.competition.submission import FILE_NAME, MANIFEST_NAME, check_submission, write_record
from digit_recognizer.config import count_members
from digit_recognizer.errors import UserError
from digit_recognizer.training import runs

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

Say = Callable[[str], None]

OUTPUT = Path("kernel/output")  # of the version that was fetched last
SUFFIX = "-kernel"  # of the name of a submission that a kernel has made
DIFFERENCES_SHOWN = 20

_UNKNOWN = "Kaggle has no kernel of this name that you may read; `make push` makes it"
READ_ADVICE = {403: _UNKNOWN, 404: _UNKNOWN}
FILE_ADVICE = {403: "its address has expired; run `make kernel-output` for a new one", 404: "run `make kernel-output`"}


class MissingOutputError(UserError):
    """A kernel has ended well and has not made what it should."""


def ask_service(api: "KaggleApi", method: str, request_type: str, slug: str, **options: Any) -> Any:
    """Calls Kaggle's service of kernels, to be used through `client.call`.

    The client's own methods hide the status of a refusal, and save whatever an address answers as the file.
    """
    from kagglesdk.kernels.types import kernels_api_service

    request = getattr(kernels_api_service, request_type)()
    request.user_name, _, request.kernel_slug = slug.partition("/")
    for name, value in options.items():
        setattr(request, name, value)
    with api.build_kaggle_client() as client:
        return getattr(client.kernels.kernels_api_client, method)(request)


def page_of(slug: str) -> str:
    """Returns the address of a kernel's page."""
    return f"https://www.kaggle.com/code/{slug}"


def list_output(api: "KaggleApi", slug: str, say: Say) -> tuple[dict[str, str], str]:
    """Returns the address of each file that the latest version has made, by its name, and the log."""
    addresses, log, token = {}, "", ""
    while True:
        arguments = "list_kernel_session_output", "ApiListKernelSessionOutputRequest", slug
        options = {"page_size": 100, "page_token": token}
        page = call("the list of output", ask_service, api, *arguments, **options, advice=READ_ADVICE, say=say)
        addresses |= {item.file_name: item.url for item in page.files or []}
        log, token = log or page.log or "", page.next_page_token
        if not token:
            return addresses, log


def log_lines(log: str) -> list[str]:
    """Returns the lines of a log, which is a JSON list of pieces of text, without colours."""
    try:
        text = "".join(piece["data"].rstrip("\n") + "\n" for piece in json.loads(log))
    except (ValueError, KeyError, TypeError):
        text = log
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def fetch(api: "KaggleApi", slug: str, submissions_dir: Path, say: Say) -> None:
    """Fetches the output of the latest version in place of an earlier one, and compares it.

    Args:
        api: the client.
        slug: user/kernel.
        submissions_dir: the folder of the local submissions to compare with.
        say: takes each line of progress.

    Raises:
        UserError: the output is not there, or not whole; an earlier one is left as it is.
    """
    addresses, log = list_output(api, slug, say)
    OUTPUT.parent.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=OUTPUT.parent, prefix=".output."))

    def fetch_file(name: str, is_right: Callable[[Path], bool]) -> None:
        if name not in addresses:
            raise MissingOutputError(
                f"expected {name} in the output of {slug}, found {', '.join(sorted(addresses)) or 'no files'}; look at "
                f"{page_of(slug)}, and run `make push` again"
            )
        what = f"the download of {name}"
        call(what, _download, addresses[name], temporary / name, is_right, advice=FILE_ADVICE, say=say)

    try:
        fetch_file(MANIFEST_NAME, _is_manifest)
        manifest = files.read_json(temporary / MANIFEST_NAME)
        for name, digest in manifest["files"].items():
            fetch_file(name, lambda path, digest=digest: files.sha256(path) == digest)
        check_submission(temporary / FILE_NAME, remedy=f"look at {page_of(slug)}")
        files.write_text(temporary / "kernel.log", "".join(f"{line}\n" for line in log_lines(log)))
        shutil.rmtree(OUTPUT, ignore_errors=True)
        temporary.rename(OUTPUT)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"fetched {len(manifest['files'])} files into {OUTPUT}, each as the kernel wrote it")
    _compare(manifest["run"], submissions_dir, say)


def make_submission(submissions_dir: Path) -> Path:
    """Makes a submission of the fetched output, beside that of the local run.

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
    if files.sha256(path) != manifest["files"][FILE_NAME]:
        raise UserError(f"expected {path} as the kernel wrote it, found it changed; run `make kernel-output`")
    record = runs.read_finished_record(OUTPUT / "models" / manifest["run"])
    record["run"] += SUFFIX
    folder = submissions_dir / record["run"]
    with files.replacing(folder / FILE_NAME) as temporary:
        shutil.copyfile(path, temporary)
    write_record(folder, record, labels)
    return folder


def _download(address: str, path: Path, is_right: Callable[[Path], bool]) -> None:
    """Writes a file of the output; neither an error's text nor a part of the file is taken for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with requests.get(address, stream=True) as response, path.open("wb") as file:  # noqa: S113 - `call` limits the time
        response.raise_for_status()
        for chunk in response.iter_content(1 << 20):
            file.write(chunk)
    if not is_right(path):
        raise DownloadError


def _is_manifest(path: Path) -> bool:
    try:
        names = json.loads(path.read_bytes())["files"]
    except (ValueError, KeyError, TypeError):
        return False
    outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    return FILE_NAME in names and not outside


def _compare(run: str, submissions_dir: Path, say: Say) -> None:
    """Says how the kernel's answers differ from those of the local run of the same settings, data and code."""
    record = runs.read_finished_record(OUTPUT / "models" / run)
    accuracy = record["scores"]["validation_accuracy"]
    say(f"{run}: " + ("no row was held out" if accuracy is None else f"validation accuracy {accuracy:.4f}"))
    if record["left_out"]:
        say(f"the kernel had no time for {len(record['left_out'])} of its {count_members(record['config'])} members")
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
    say(f"{len(different):,} of {len(ours):,} answers differ from {local}: ImageId {', '.join(shown)}{rest}")
