"""The competition's zip archive: checked before anything in it is believed, and unpacked whole or not at all."""

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from digit_recognizer.competition.submission import SUBMISSION_COLUMNS, SUBMISSION_ROWS
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.files import replacing

# Header and number of rows of each file.
EXPECTED = {
    "train.csv": (",".join(TRAIN_COLUMNS), 42_000),
    "test.csv": (",".join(TEST_COLUMNS), SUBMISSION_ROWS),
    "sample_submission.csv": (",".join(SUBMISSION_COLUMNS), SUBMISSION_ROWS),
}
UNPACKED_LIMIT = 500_000_000  # bytes of all members; the real ones are 128 million


def folder_fault(data_dir: Path) -> str | None:
    """Returns what keeps the unpacked files in a folder from being complete, or None."""
    for name in EXPECTED:
        try:
            with (data_dir / name).open("rb") as file:
                fault = _file_fault(file, name)
        except OSError:
            fault = f"{name} is missing, or cannot be read"
        if fault:
            return fault
    return None


def archive_fault(path: Path) -> str | None:
    """Returns what is wrong with an archive, or None when all of it may be unpacked.

    Every member's name, size and checksum is looked at, and the header and the number of rows of those that are
    needed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _listing_fault(archive.infolist()) or _content_fault(archive)
    # RuntimeError: encrypted, or compressed in a way that this Python does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError) as error:
        return f"it cannot be read as a zip archive ({error})"


def unpack(path: Path, data_dir: Path) -> None:
    """Unpacks the expected members of an archive without fault, each file whole or not at all.

    The files get the present time, not the archive's, so that they are newer than what they replace.
    """
    with zipfile.ZipFile(path) as archive:
        for name in EXPECTED:
            with archive.open(name) as source, replacing(data_dir / name) as temporary, temporary.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def _listing_fault(members: list[zipfile.ZipInfo]) -> str | None:
    names = [member.filename for member in members]
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or {"\\", ":"} & set(name):
            return f"its member {name!r} points outside of the folder"
    for name in EXPECTED:
        if names.count(name) != 1:
            return f"expected one {name} in it, found {names.count(name) or 'none'}"
    size = sum(member.file_size for member in members)
    return f"it would unpack to {size:,} bytes, more than {UNPACKED_LIMIT:,}" if size > UNPACKED_LIMIT else None


def _content_fault(archive: zipfile.ZipFile) -> str | None:
    damaged = archive.testzip()
    if damaged:
        return f"the checksum of {damaged} does not fit"
    for name in EXPECTED:
        with archive.open(name) as file:
            fault = _file_fault(file, name)
        if fault:
            return fault
    return None


def _file_fault(file: IO[bytes], name: str) -> str | None:
    header, rows = EXPECTED[name]
    first = file.readline(len(header) + 2).rstrip(b"\r\n")
    if first != header.encode():
        found = first[:30].decode("utf-8", errors="replace")
        return f"{name}: expected the header {header[:30]!r}{'...' * (len(header) > 30)}, found {found!r}"
    lines, cut = 0, ""
    while chunk := file.read(1 << 20):
        lines += chunk.count(b"\n")
        cut = "" if chunk.endswith(b"\n") else " and one that is cut off"
    return f"{name}: expected {rows:,} rows, found {lines:,}{cut}" if lines != rows or cut else None
