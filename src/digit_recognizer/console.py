"""Console output: progress bars, tables, and silence for TensorFlow's native messages."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import rich.progress
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Item = TypeVar("Item")
DISCARD, SHOW = b"\0", b"\1"  # at the end of hidden messages
HOLD_MESSAGES = f"""
import os
text = b""
while not text.endswith(({DISCARD!r}, {SHOW!r})) and (more := os.read(0, 4096)):
    text += more
if not text.endswith({DISCARD!r}):
    os.write(2, text.removesuffix({SHOW!r}))
"""
Step = Callable[[str, float], None]  # progress callback: description, fraction done in [0, 1]

PIPE_WIDTH = 100_000  # characters: no line is wrapped for another program


def make_console() -> Console:
    """Return the console of stdout. In a pipe or a file, each row of a table is one line, also with FORCE_COLOR."""
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def printable(text: str) -> str:
    """Return a text on one line, with escapes for control characters and for bytes that are not UTF-8.

    File names can have any bytes; raw ones could control the terminal.
    """
    text = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def say(line: str, *, error: bool = False) -> None:
    """Print a line of progress; through `sys.stdout`, so that rich puts it above a live display."""
    print(printable(line), file=sys.stderr if error else sys.stdout, flush=True)


@contextlib.contextmanager
def show_steps(console: Console) -> Iterator[Step]:
    """Show a progress bar on a terminal during the block; yield the callback that moves it."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda description, done: bar.update(task, description=description, completed=done)


def track(items: Iterable[Item], text: str, total: int, console: Console) -> Iterator[Item]:
    """Yield the items and show a progress bar on a terminal."""
    quiet = not console.is_terminal
    yield from rich.progress.track(items, text, total, console=console, transient=True, disable=quiet)


def make_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str | None = None
) -> Table:
    """Return a table of right-aligned cells, which are plain text on one line; the caption is below the table."""
    table = Table(title=title, title_justify="left", caption=caption, box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    return table


@contextlib.contextmanager
def hide_native_messages() -> Iterator[None]:
    """Hide what native libraries write to stderr during the block; show it if the block raises or the process aborts.

    TensorFlow prints notices about oneDNN on import, from C++ and before it reads any log level. Keep the block to the
    import: another process holds the messages until it has ended. Settings of other projects do not reach the import.
    """
    for name in ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "RAY_ADDRESS", "TF_USE_LEGACY_KERAS"):
        os.environ.pop(name, None)
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull}  # there is no keras.json
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # By itself TensorFlow uses oneDNN only on processors with VNNI, bfloat16 or AMX; on others it is twice as fast too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    sys.stderr.flush()
    original = os.dup(2)
    # In a session of its own, Ctrl+C does not reach it.
    hidden = subprocess.Popen(
        [sys.executable, "-ISc", HOLD_MESSAGES], stdin=subprocess.PIPE, stderr=original, start_new_session=True
    )
    assert hidden.stdin is not None  # noqa: S101 - for the type checker
    os.dup2(hidden.stdin.fileno(), 2)
    hidden.stdin.close()
    end = DISCARD
    try:
        yield
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # retracing warnings: one network per member
    except Exception:  # not an interruption
        end = SHOW
        raise
    finally:
        sys.stderr.flush()
        os.write(2, end)
        os.dup2(original, 2)
        os.close(original)
        hidden.wait()
