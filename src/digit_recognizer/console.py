"""Console output: progress bars, plain lines where the output is piped, and no messages from TensorFlow's libraries."""

import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# The names of Keras' logs, and what people call them.
METRICS = {
    "loss": "loss",
    "accuracy": "accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
}


# Is told what is being done, and which share of the whole, 0..1, is done before it.
Step = Callable[[str, float], None]


@contextlib.contextmanager
def show_steps(console: Console) -> Iterator[Step]:
    """Gives what shows a bar on a terminal, gone at the end, and nothing where the output goes elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda description, done: bar.update(task, description=description, completed=done)


def track(items: Iterable[Any], text: str, total: int, console: Console) -> Iterator[Any]:
    """Yields the items with a bar on a terminal, gone at the end; nothing is shown where the output goes elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield from bar.track(items, total=total, description=text)


@contextlib.contextmanager
def show_spinner(text: str) -> Iterator[Callable[[str], None]]:
    """Shows a text, what it is told to add, and the time passed while the block runs; on a terminal's stderr only."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda more: progress.update(task, description=f"{text}: {more}")


def make_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str | None = None
) -> Table:
    """Returns a rich table of right-aligned cells; cells are text, not rich markup.

    Args:
        title: printed above the table.
        columns: column headings.
        rows: one string per column.
        caption: printed below the table.
    """
    table = Table(title=title, title_justify="left", caption=caption, box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


@contextlib.contextmanager
def hide_native_messages() -> Iterator[None]:
    """Hides what the block writes to the file descriptor of stderr, unless it raises.

    TensorFlow 2.21 prints two notices about oneDNN as it is imported, from C++ and before any log level is read. Later
    it warns of functions built again and again, which is what a network a member means.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            os.dup2(original, 2)
            hidden.seek(0)
            os.write(2, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)


class TrainingDisplay:
    """One display for all members of a run, used as a context manager."""

    def __init__(self, *, members: Sequence[int], epochs: int, steps: int, batch_size: int, console: Console) -> None:
        """Prepares a display.

        Args:
            members: the numbers of those that are to be trained, from 0.
            epochs: of each member.
            steps: batches of an epoch.
            batch_size: images of a batch.
            console: where to show it.
        """
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._console = console
        self._done = dict.fromkeys(members, 0)  # steps of each member
        self._total = len(members) * epochs * steps
        self._started = time.monotonic()
        self.first_step: float | None = None  # when it ended, by the same clock
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self._total, status="")

    def __enter__(self) -> Self:
        """Starts the display."""
        self._bar.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the display and leaves its last line."""
        self._bar.stop()

    def show(self, member: int, epoch: int, step: int, logs: Mapping[str, float], *, last: bool) -> None:
        """Shows that a member has done one more step; where there is no terminal, a line an epoch.

        Args:
            member: one of those that the display was prepared for.
            epoch: from 0.
            step: of the epoch, from 0.
            logs: Keras' running means of the epoch.
            last: whether it was the epoch's last step.
        """
        self.first_step = self.first_step or time.monotonic()
        # A fold may be a batch shorter than the one that the display was prepared for.
        self._done[member] = (epoch + 1) * self._steps if last else epoch * self._steps + min(step + 1, self._steps)
        of_epoch = f"epoch {epoch + 1}/{self._epochs}"
        if self._console.is_terminal:
            members = f"{self._members_done()}/{len(self._done)} members  " if len(self._done) > 1 else ""
            description, status = f"{members}{of_epoch}", self._status(logs)
            self._bar.update(self._task, completed=sum(self._done.values()), description=description, status=status)
        elif last:
            name = f"member {member}, {self._members_done()}/{len(self._done)} done  " if len(self._done) > 1 else ""
            self._console.print(f"{name}{of_epoch}  {self._status(logs)}", soft_wrap=True)

    def _members_done(self) -> int:
        return sum(done == self._epochs * self._steps for done in self._done.values())

    def _status(self, logs: Mapping[str, float]) -> str:
        seconds, done = time.monotonic() - self._started, sum(self._done.values())
        left = seconds / done * (self._total - done)
        values = [f"{METRICS[name]} {_format(name, value)}" for name, value in logs.items() if name in METRICS]
        rate = done * self._batch_size / seconds
        return "  ".join([*values, f"{rate:,.0f} images/s", f"{int(left) // 60}:{int(left) % 60:02d} left"])


def _format(name: str, value: float) -> str:
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}"
