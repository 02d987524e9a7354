"""What a training shows while it runs: a live bar on a terminal, plain lines where the output goes elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

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
def steps_shown(console: Console) -> Iterator[Step]:
    """Gives what shows a bar on a terminal, gone at the end, and nothing where the output goes elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=None), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda description, done: bar.update(task, description=description, completed=done)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Shows a text, what it is told to add, and the time passed while the block runs; on a terminal's stderr only."""
    console = Console(stderr=True)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda more: progress.update(task, description=f"{text}: {more}")


class TrainingDisplay:
    """One display for all members of a run, used as a context manager."""

    def __init__(
        self,
        *,
        members: int,
        epochs: int,
        steps: int,
        batch_size: int,
        console: Console,
        after_epoch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepares a display.

        Args:
            members: how many members are to be trained.
            epochs: of each member.
            steps: batches of an epoch.
            batch_size: images of a batch.
            console: where to show it.
            after_epoch: is told of each epoch's end, from 0 in each member.
        """
        self._after_epoch = after_epoch
        self._members, self._epochs, self._steps, self._batch_size = members, epochs, steps, batch_size
        self._console = console
        self._done = 0  # steps of this run
        self._member = 0
        self._started = time.monotonic()
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
        self._task = self._bar.add_task("starting", total=members * epochs * steps, status="")

    def __enter__(self) -> Self:
        """Starts the display."""
        self._bar.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the display and leaves its last line."""
        self._bar.stop()

    def step(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Shows one more batch.

        Args:
            epoch: from 0, in the present member.
            logs: Keras' running means of the epoch.
        """
        self._done += 1
        self._bar.update(self._task, completed=self._done, description=self._position(epoch), status=self._status(logs))

    def epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Shows the end of an epoch: a line where there is no terminal."""
        if not self._console.is_terminal:
            self._console.print(f"{self._position(epoch)}  {self._status(logs)}", soft_wrap=True)
        self._after_epoch(epoch)

    def member_done(self) -> None:
        """Counts a member as trained."""
        self._member += 1

    def _position(self, epoch: int) -> str:
        member = f"member {self._member + 1}/{self._members}  " if self._members > 1 else ""
        return f"{member}epoch {epoch + 1}/{self._epochs}"

    def _status(self, logs: Mapping[str, float]) -> str:
        seconds = time.monotonic() - self._started
        left = seconds / self._done * (self._members * self._epochs * self._steps - self._done)
        values = [f"{METRICS[name]} {_format(name, value)}" for name, value in logs.items() if name in METRICS]
        rate = self._done * self._batch_size / seconds
        return "  ".join([*values, f"{rate:,.0f} images/s", f"{int(left) // 60}:{int(left) % 60:02d} left"])


def _format(name: str, value: float) -> str:
    return f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}"
