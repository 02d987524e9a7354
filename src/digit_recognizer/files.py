"""Atomic file writes, locks, JSON, and packed files."""

import contextlib
import gzip
import io
import json
import os
import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from digit_recognizer.errors import UserError

UNPACKED_LIMIT = 500_000_000  # bytes


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: yield a temporary path and rename it to `path` if the block succeeds.

    A killed or failed writer leaves the old file, or none; the next one deletes its temporary file. Missing parent
    folders are created. The temporary name keeps the suffix, by which Keras and numpy choose the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.(\d+)-[0-9a-f]{{8}}{re.escape(path.suffix)}")
    for leftover in path.parent.iterdir():
        if (match := pattern.fullmatch(leftover.name)) and not _is_running(int(match[1])):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a full disk has no file name
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it is another user's
    return True


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold an exclusive lock on a folder during the block; the operating system frees the lock of a dead process.

    A missing folder is created. Blocks of one thread may be nested. If another process has the lock, say so once and
    wait, or with `wait=False` raise a `UserError`.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock", is_singleton=True), folder / ".lock.txt"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        writer = holder.read_text(errors="replace")[:100] if holder.exists() else "another process"
        if not wait:
            raise UserError(f"{folder} is being written by {writer}; wait until it ends") from None
        say(f"{folder}: waiting for {writer}")
        lock.acquire()
    try:
        if lock.lock_counter == 1:
            write_text(holder, f"process {os.getpid()}, since {time.strftime('%F %T')}")
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; line ends are written as they are in `text`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def reading(path: Path, content: str, remedy: str) -> Iterator[None]:
    """Read and check a file in the block; any exception becomes a `UserError` that names the file and the remedy."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"expected {content} as {path}, found none; {remedy}") from None
    except Exception as error:  # noqa: BLE001 - parsers raise anything on damaged and malicious files
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = "".join(letter if letter.isprintable() else " " for letter in text[:200])  # it can quote the file
        raise UserError(f"expected {content} as {path}, found something else ({reason}); {remedy}") from None


def read_json(path: Path, content: str = "JSON", remedy: str = "move it away and make it again") -> Any:
    """Read a JSON file; raise a `UserError` if it is missing or invalid."""
    with reading(path, content, remedy):
        value = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair cannot be printed
        return value


def load_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file by name; a damaged file raises anything, see `reading`."""
    import numpy as np

    with path.open("rb") as file:
        check_unpacked_size(file)
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


def read_unpacked(path: Path, name: str) -> bytes:
    """Return the content of a file, unpacked if it is gzip or zip by its content: of several files that called `name`.

    A damaged file raises anything, see `reading`; of a very large one the end is missing.
    """
    content = path.read_bytes()
    file = io.BytesIO(content)
    if content.startswith(b"\x1f\x8b"):
        content = gzip.GzipFile(fileobj=file).read(UNPACKED_LIMIT)
    elif content.startswith(b"PK\3\4"):
        check_unpacked_size(file)
        archive = zipfile.ZipFile(file)
        members = [member for member in archive.namelist() if not re.search(r"/$|(^|/)\.", member)]  # ._ files of macOS
        chosen = [member for member in members if Path(member).name == name] or members
        if len(chosen) != 1:
            raise ValueError(f"a zip archive of {len(members)} files, which is the {name}?")
        content = archive.read(chosen[0])
    return content


def check_unpacked_size(file: IO[bytes]) -> None:
    """Raise a `ValueError` if a zip archive unpacks to more than `UNPACKED_LIMIT` bytes."""
    size = sum(member.file_size for member in zipfile.ZipFile(file).infolist())
    if size > UNPACKED_LIMIT:
        raise ValueError(f"{size:,} unpacked bytes, more than {UNPACKED_LIMIT:,}")
    file.seek(0)
