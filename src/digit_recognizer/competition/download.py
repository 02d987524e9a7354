"""Download the competition data: fetch the archive, check it, and unpack it."""

import itertools
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from digit_recognizer.competition.client import CallError, Say, call, connect
from digit_recognizer.competition.submission import SUBMISSION_HEADER, SUBMISSION_ROWS
from digit_recognizer.config import COMPETITION
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.errors import UserError
from digit_recognizer.files import check_unpacked_size, locked, replacing

EXPECTED = {  # header and number of rows of each file
    "train.csv": (",".join(TRAIN_COLUMNS), 42_000),
    "test.csv": (",".join(TEST_COLUMNS), SUBMISSION_ROWS),
    "sample_submission.csv": (SUBMISSION_HEADER, SUBMISSION_ROWS),
}


def download(data_dir: Path, *, force: bool = False, say: Say = print) -> None:
    """Download the competition's archive, check it and unpack train.csv, test.csv and sample_submission.csv.

    An interrupted download is resumed; a damaged archive is deleted. Complete files are downloaded
    again only with `force`. A second call at the same time waits for the first, and then finds the files.

    Raises:
        UserError: The sign-in or the download failed, or the archive is damaged.
        OSError: The folder cannot be written.
    """
    workspace = data_dir / ".download"
    if force or workspace.exists() or find_data_fault(data_dir):  # otherwise the folder need not be writable
        with locked(data_dir, say=say):
            if force:
                shutil.rmtree(workspace, ignore_errors=True)
            if force or find_data_fault(data_dir):  # no other command has downloaded them meanwhile
                _download_archive(data_dir, workspace, say)
                return
            shutil.rmtree(workspace, ignore_errors=True)
    say(f"the competition's files are already in {data_dir}; FORCE=1 (--force) downloads them again")


def _download_archive(data_dir: Path, workspace: Path, say: Say) -> None:
    """Download the archive to the workspace, or the rest of it, and unpack its files to the data folder."""
    path = workspace / f"{COMPETITION}.zip"
    quiet = not sys.stderr.isatty()  # the client shows a progress bar on a terminal
    api = connect(say=say)
    say(f"downloading {path.name}")
    try:
        call("the download", api.competition_download_files, COMPETITION, str(workspace), quiet=quiet, say=say)
    except CallError as error:
        if type(error.__cause__) is not ValueError:  # the client found another size than the announced one
            raise
    if fault := find_fault(path):
        shutil.rmtree(workspace, ignore_errors=True)
        raise UserError(f"the archive is damaged: {fault}; {data_dir} was not changed; run the command again")
    with zipfile.ZipFile(path) as archive:
        for name in EXPECTED:  # not `extractall`: the files must be newer than what they replace
            with archive.open(name) as source, replacing(data_dir / name) as new, new.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    shutil.rmtree(workspace, ignore_errors=True)
    say(f"unpacked {', '.join(EXPECTED)} into {data_dir}")


def find_data_fault(data_dir: Path) -> str | None:
    """Return the first fault of the files in a data folder, or None."""
    try:
        return _find_content_fault(lambda name: (data_dir / name).open("rb"))
    except OSError as error:
        return f"{error.filename}: {error.strerror}"


def find_fault(path: Path) -> str | None:
    """Return the first fault of an archive, or None if its files can be unpacked."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            check_unpacked_size(file)
            return _find_content_fault(archive.open)  # which also compares the checksums
    except Exception as error:  # noqa: BLE001 - a damaged archive can raise anything
        return f"it cannot be read as a zip archive ({error})"


def _find_content_fault(open_file: Callable[[str], IO[bytes]]) -> str | None:
    """Return the first wrong header or number of rows of the opened files, or None."""
    for name, (header, rows) in EXPECTED.items():
        with open_file(name) as file:
            first = file.readline(len(header) + 2).rstrip(b"\r\n").decode(errors="replace")
            complete = [line.endswith(b"\n") for line in itertools.islice(file, rows + 1)]
        if first != header:
            return f"{name}: expected the header {header[:30]!r}, found {first[:30]!r}"
        if complete != [True] * rows:
            return f"{name}: expected {rows:,} complete rows, found {'more' if len(complete) > rows else sum(complete)}"
    return None
