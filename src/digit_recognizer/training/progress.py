"""Training progress: a live bar on a terminal, one plain line per epoch otherwise."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from digit_recognizer.training.member import Step

METRICS = {  # Keras' names of the logged values, and the printed ones
    "loss": "loss",
    "accuracy": "accuracy",
    "val_loss": "validation loss",
    "val_accuracy": "validation accuracy",
}


class TrainingDisplay:
    """Progress of all members of a run, as a context manager."""

    def __init__(self, *, members: Sequence[int], epochs: int, steps: int, batch_size: int, console: Console) -> None:
        """Prepare the display.

        Args:
            members: Indices of the members to train.
            epochs: Epochs per member.
            steps: Batches per epoch.
            batch_size: Images per batch.
            console: Output; a bar if it is a terminal.
        """
        self._epochs, self._steps, self._batch_size = epochs, steps, batch_size
        self._console = console
        self._done = dict.fromkeys(members, 0)  # steps of each member
        self._total = len(members) * epochs * steps
        self._started = time.monotonic()
        self.first_step: float | None = None  # end of the first step, on the monotonic clock
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

    def update(self, member: int, step: Step) -> None:
        """Show that a member has finished a training step."""
        self.first_step = self.first_step or time.monotonic()
        # Folds can differ by a batch from the one that set `steps`.
        within_epoch = self._steps if step.last else min(step.step + 1, self._steps)
        self._done[member] = step.epoch * self._steps + within_epoch
        epoch = f"epoch {step.epoch + 1}/{self._epochs}"
        count, complete = len(self._done), sum(done == self._epochs * self._steps for done in self._done.values())
        if self._console.is_terminal:
            description = f"{complete}/{count} members  {epoch}" if count > 1 else epoch
            completed = sum(self._done.values())
            self._bar.update(self._task, completed=completed, description=description, status=self._status(step))
        elif step.last:
            prefix = f"member {member}, {complete}/{count} done  " if count > 1 else ""
            self._console.print(f"{prefix}{epoch}  {self._status(step)}", soft_wrap=True)

    def _status(self, step: Step) -> str:
        seconds, done = time.monotonic() - self._started, sum(self._done.values())
        values = [
            f"{METRICS[name]} {value:{'.2%' if name.endswith('accuracy') else '.4f'}}"
            for name, value in step.logs.items()
            if name in METRICS
        ]
        minutes, left = divmod(int(seconds / done * (self._total - done)), 60)
        return "  ".join([*values, f"{done * self._batch_size / seconds:,.0f} images/s", f"{minutes}:{left:02d} left"])
