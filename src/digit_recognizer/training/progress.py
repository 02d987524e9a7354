"""Training progress: one line per epoch, and on a terminal a live bar."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from digit_recognizer.config import Config


class TrainingDisplay:
    """Progress of all members of a run, as a context manager."""

    def __init__(self, config: Config, members: Mapping[int, int], rows: int, console: Console) -> None:
        """Prepare the display for members, given as index and finished epochs, of this number of training rows."""
        self._epochs, self._steps, self._batch_size = config.epochs, config.steps_per_epoch(rows), config.batch_size
        self._console = console
        self._done = {index: epoch * self._steps for index, epoch in members.items()}  # steps
        self._before = sum(self._done.values())  # steps of an interrupted training
        self._total = len(members) * self._epochs * self._steps
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=self._total, status="")

    def __enter__(self) -> Self:
        """Start the display."""
        self._bar.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display; the last state stays on the terminal."""
        self._bar.stop()

    def update(self, message: tuple[int, int, int, Mapping[str, float], bool]) -> None:
        """Show that a member has finished a step: its index, and the arguments of `training.member.ReportStep`."""
        index, epoch, step, logs, last = message
        # Folds can differ by a batch from the one that set `steps`.
        self._done[index] = epoch * self._steps + (self._steps if last else min(step + 1, self._steps))
        position = f"epoch {epoch + 1}/{self._epochs}"
        count, complete = len(self._done), sum(done == self._epochs * self._steps for done in self._done.values())
        description, status = f"{complete}/{count} members  {position}" if count > 1 else position, self._status(logs)
        self._bar.update(self._task, completed=sum(self._done.values()), description=description, status=status)
        if last:
            prefix = f"member {index}, {complete}/{count} done  " if count > 1 else ""
            self._console.print(f"{prefix}{position}  {status}", soft_wrap=True)

    def _status(self, logs: Mapping[str, float]) -> str:
        seconds, done = time.monotonic() - self._started, sum(self._done.values())
        parts = []
        for name, value in logs.items():
            parts.append(f"{name.replace('val_', 'validation ')} {value:{'.2%' if 'accuracy' in name else '.4f'}}")
        trained = max(done - self._before, 1)
        minutes, rest = divmod(int(seconds / trained * (self._total - done)), 60)
        speed = f"{trained * self._batch_size / seconds:,.0f} images/s"
        return "  ".join([*parts, speed, f"{minutes}:{rest:02d} left"])
