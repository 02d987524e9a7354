"""Training progress: a live bar on a terminal, one plain line per epoch otherwise."""

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from digit_recognizer.config import Config


class TrainingDisplay:
    """Progress of all members of a run, as a context manager."""

    def __init__(self, config: Config, members: Mapping[str, tuple[int, int]], rows: int, console: Console) -> None:
        """Prepare the display for members, given as the name and the next epoch and step, of this number of rows."""
        self._epochs, self._steps, self._batch_size = config.epochs, config.steps_per_epoch(rows), config.batch_size
        self._console = console
        self._done = {member: epoch * self._steps + step for member, (epoch, step) in members.items()}  # steps
        self._before = sum(self._done.values())  # steps of an interrupted training
        self._total = len(members) * self._epochs * self._steps
        self._started = time.monotonic()
        self.first_step: float | None = None  # end of the first step, on the monotonic clock
        self.nodes: int | None = None  # of a cluster, that train now
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
        """Start the display; name the members that are resumed."""
        for member, done in self._done.items():
            if done:
                epoch, step = divmod(done, self._steps)
                place = f"epoch {epoch + 1}, step {step + 1}" if epoch < self._epochs else "the last step"
                self._console.print(f"{member} is resumed from its checkpoint at {place}", soft_wrap=True)
        self._bar.start()
        self._started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the display; the last state stays on the terminal."""
        self._bar.stop()

    def update(self, member: str, epoch: int, step: int, logs: Mapping[str, float], last: bool) -> None:
        """Show that a member has finished a training step; the arguments are those of `training.member.ReportStep`."""
        self.first_step = self.first_step or time.monotonic()
        # Folds can differ by a batch from the one that set `steps`.
        self._done[member] = epoch * self._steps + (self._steps if last else min(step + 1, self._steps))
        position = f"epoch {epoch + 1}/{self._epochs}"
        count, complete = len(self._done), sum(done == self._epochs * self._steps for done in self._done.values())
        if self._console.is_terminal:
            description = f"{complete}/{count} members  {position}" if count > 1 else position
            completed = sum(self._done.values())
            self._bar.update(self._task, completed=completed, description=description, status=self._status(logs))
        elif last:
            prefix = f"{member}, {complete}/{count} done  " if count > 1 else ""
            self._console.print(f"{prefix}{position}  {self._status(logs)}", soft_wrap=True)

    def _status(self, logs: Mapping[str, float]) -> str:
        seconds, done = time.monotonic() - self._started, sum(self._done.values())
        values = [
            f"{name.replace('val_', 'validation ')} {value:{'.2%' if name.endswith('accuracy') else '.4f'}}"
            for name, value in logs.items()
        ]
        trained = max(done - self._before, 1)
        minutes, left = divmod(int(seconds / trained * (self._total - done)), 60)
        nodes = [] if self.nodes is None else [f"{self.nodes} node{'s' * (self.nodes != 1)}"]
        speed = f"{trained * self._batch_size / seconds:,.0f} images/s"
        return "  ".join([*values, *nodes, speed, f"{minutes}:{left:02d} left"])
