"""Download the competition data: fetch the archive, check it, and unpack it."""

import contextlib
import itertools
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from digit_recognizer.competition.client import CallError, Say, call, connect
from digit_recognizer.competition.submission import SUBMISSION_COLUMNS, SUBMISSION_ROWS
from digit_recognizer.config import COMPETITION
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.errors import UserError
from digit_recognizer.files import locked, remove_leftovers, replacing

EXPECTED = {  # header and number of rows of each file
    "train.csv": (",".join(TRAIN_COLUMNS), 42_000),
    "test.csv": (",".join(TEST_COLUMNS), SUBMISSION_ROWS),
    "sample_submission.csv": (",".join(SUBMISSION_COLUMNS), SUBMISSION_ROWS),
}
UNPACKED_LIMIT = 500_000_000  # bytes; the competition's files are 128 MB


def download(data_dir: Path, *, force: bool = False, say: Say = print) -> None:
    """Download the competition's archive, check it and unpack train.csv, test.csv and sample_submission.csv.

    An interrupted download is resumed; a damaged archive is downloaded a second time. Complete files are downloaded
    again only with `force`. A second call at the same time waits for the first, and then finds the files.

    Raises:
        UserError: sign-in or download failed, the archive is damaged, or the folder cannot be written.
    """
    workspace = data_dir / ".download"
    if not (force or workspace.exists()) and _is_complete(data_dir, say):
        return
    try:
        with locked(data_dir, say=say):
            remove_leftovers(data_dir)
            if force:
                shutil.rmtree(workspace, ignore_errors=True)
            if force or not _is_complete(data_dir, say):
                _download_archive(data_dir, workspace, say)
            shutil.rmtree(workspace, ignore_errors=True)
    except BrokenPipeError:  # of stdout
        raise
    except OSError as error:
        reason = f"could not write into {data_dir} ({error.strerror or type(error).__name__})"
        raise UserError(f"{reason}; free some space, or pass another DATA_DIR= (--data-dir)") from None


def _is_complete(data_dir: Path, say: Say) -> bool:
    with contextlib.suppress(OSError):
        if _find_content_fault(lambda name: (data_dir / name).open("rb")) is None:
            say(f"the competition's files are already in {data_dir}; FORCE=1 (--force) downloads them again")
            return True
    return False


def _download_archive(data_dir: Path, workspace: Path, say: Say) -> None:
    """Download the archive to the workspace, or the rest of it, and unpack its files to the data folder."""
    path = workspace / f"{COMPETITION}.zip"
    quiet = not sys.stderr.isatty()  # the client shows a progress bar on a terminal
    api = connect(say=say)
    for _ in range(2):
        say(f"downloading {path.name}")
        try:
            call("the download", api.competition_download_files, COMPETITION, str(workspace), quiet=quiet, say=say)
        except CallError as error:
            if type(error.__cause__) is not ValueError:  # the client found another size than the announced one
                raise
        fault = find_fault(path)
        if not fault:
            break
        say(f"the archive is damaged: {fault}")
        shutil.rmtree(workspace, ignore_errors=True)
    else:
        raise UserError(f"the archive was damaged twice: {fault}; {data_dir} was not changed; try again later")
    with zipfile.ZipFile(path) as archive:
        for name in EXPECTED:  # not `extractall`: the files must be newer than what they replace
            with archive.open(name) as source, replacing(data_dir / name) as new, new.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    say(f"unpacked {', '.join(EXPECTED)} into {data_dir}")


def find_fault(path: Path) -> str | None:
    """Return the first fault of an archive, or None if its files can be unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in EXPECTED:
                if names.count(name) != 1:
                    return f"expected one {name}, found {names.count(name) or 'none'}"
            size = sum(member.file_size for member in archive.infolist())
            if size > UNPACKED_LIMIT:
                return f"expected at most {UNPACKED_LIMIT:,} unpacked bytes, found {size:,}"
            if damaged := archive.testzip():
                return f"the checksum of {damaged} does not match"
            return _find_content_fault(archive.open)
    # RuntimeError: encrypted, or an unknown compression method.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        return f"it cannot be read as a zip archive ({error})"


def _find_content_fault(open_file: Callable[[str], IO[bytes]]) -> str | None:
    """Return the first wrong header or number of rows of the opened files, or None."""
    for name, (header, rows) in EXPECTED.items():
        with open_file(name) as file:
            first = file.readline(len(header) + 2).rstrip(b"\r\n").decode(errors="replace")
            if first != header:
                return f"{name}: expected the header {header[:30]!r}, found {first[:30]!r}"
            complete = [line.endswith(b"\n") for line in itertools.islice(file, rows + 1)]
        if complete != [True] * rows:
            incomplete = "" if all(complete) else " and an incomplete one"
            found = f"{sum(complete):,}{incomplete}" if len(complete) <= rows else "more"
            return f"{name}: expected {rows:,} rows, found {found}"
    return None
