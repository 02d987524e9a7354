"""Download the competition data: fetch the archive, check it, and unpack it."""

import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from digit_recognizer.competition.client import Say, call, connect
from digit_recognizer.competition.submission import SUBMISSION_COLUMNS, SUBMISSION_ROWS
from digit_recognizer.config import COMPETITION
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.errors import UserError
from digit_recognizer.files import replacing

if TYPE_CHECKING:
    from kaggle.api.kaggle_api_extended import KaggleApi

# Header and number of rows of each file.
EXPECTED = {
    "train.csv": (",".join(TRAIN_COLUMNS), 42_000),
    "test.csv": (",".join(TEST_COLUMNS), SUBMISSION_ROWS),
    "sample_submission.csv": (",".join(SUBMISSION_COLUMNS), SUBMISSION_ROWS),
}
UNPACKED_LIMIT = 500_000_000  # bytes; the competition's files are 128 MB


def download(data_dir: Path, *, force: bool = False, say: Say = print) -> None:
    """Download the competition's archive, check it and unpack it.

    An interrupted download is resumed; a damaged archive is downloaded a second time.

    Args:
        data_dir: folder for train.csv, test.csv and sample_submission.csv.
        force: download even if the files are there and complete.
        say: prints one line of progress.

    Raises:
        UserError: sign-in or download failed, the archive is damaged, or the folder cannot be written.
    """
    if not force and _is_complete(data_dir):
        say(f"the competition's files are already in {data_dir}; FORCE=1 (--force) downloads them again")
        return
    workspace = data_dir / ".download"
    path = workspace / f"{COMPETITION}.zip"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        api = connect(say=say)
        if force:
            shutil.rmtree(workspace, ignore_errors=True)
        fault = _fetch(api, path, say)
        if fault:
            say(f"the archive is damaged: {fault}; downloading it again")
            shutil.rmtree(workspace)
            fault = _fetch(api, path, say)
        if not fault:
            _unpack(path, data_dir)
        shutil.rmtree(workspace)
    except OSError as error:
        raise UserError(
            f"could not write into {data_dir} ({error.strerror}); free some space, or pass another DATA_DIR= "
            "(--data-dir)"
        ) from None
    if fault:
        raise UserError(
            f"expected the competition's archive, found a damaged one twice: {fault}; nothing in {data_dir} was "
            "changed; run the command again later"
        )
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


def _fetch(api: "KaggleApi", path: Path, say: Say) -> str | None:
    """Download the archive, or the rest of it, and return its fault or None."""
    say(f"downloading {path.name}")
    quiet = not sys.stderr.isatty()  # the client shows a progress bar on a terminal
    try:
        call("the download", api.competition_download_files, COMPETITION, path=str(path.parent), quiet=quiet, say=say)
    except ValueError:  # raised by the client
        return "its size is not the announced one"
    return find_fault(path)


def _unpack(path: Path, data_dir: Path) -> None:
    """Unpack the expected files. They get the present time, so that they are newer than what they replace."""
    with zipfile.ZipFile(path) as archive:
        for name in EXPECTED:
            with archive.open(name) as source, replacing(data_dir / name) as temporary, temporary.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _is_complete(data_dir: Path) -> bool:
    try:
        return _find_content_fault(lambda name: (data_dir / name).open("rb")) is None
    except OSError:
        return False


def _find_content_fault(open_file: Callable[[str], IO[bytes]]) -> str | None:
    """Check the header and the number of rows of each file."""
    for name, (header, rows) in EXPECTED.items():
        with open_file(name) as file:
            first = file.readline(len(header) + 2).rstrip(b"\r\n").decode(errors="replace")
            if first != header:
                return f"{name}: expected the header {header[:30]!r}, found {first[:30]!r}"
            found, incomplete = 0, ""
            while chunk := file.read(1 << 20):
                found += chunk.count(b"\n")
                incomplete = "" if chunk.endswith(b"\n") else " and an incomplete one"
        if found != rows or incomplete:
            return f"{name}: expected {rows:,} rows, found {found:,}{incomplete}"
    return None
