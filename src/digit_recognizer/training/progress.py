"""Training progress: one line per epoch, and on a terminal a live bar."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from digit_recognizer.config import Config


class TrainingDisplay(Progress):
    """Progress of all members of a run, as a context manager; the last state stays on the terminal."""

    def __init__(self, config: Config, members: Mapping[int, int], rows: int, console: Console) -> None:
        """Prepare the display for members, given as index and finished epochs, of this number of training rows."""
        bar = TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TimeElapsedColumn()
        super().__init__(*bar, console=console, expand=True, disable=not console.is_terminal)
        self._epochs, self._steps, self._batch_size = config.epochs, config.steps_per_epoch(rows), config.batch_size
        self._done = {index: epoch * self._steps for index, epoch in members.items()}  # steps
        self._before = sum(self._done.values())  # steps of an interrupted training
        self._task = self.add_task("starting", total=len(members) * self._epochs * self._steps)
        self._started = time.monotonic()

    def show(self, message: tuple[int, int, int, Mapping[str, float], bool]) -> None:
        """Show that a member has finished a step: its index, and the arguments of `training.member.ReportStep`."""
        index, epoch, step, logs, last = message
        # Folds can differ by a batch from the one that set `steps`.
        self._done[index] = epoch * self._steps + (self._steps if last else min(step + 1, self._steps))
        count, whole, done = len(self._done), self._epochs * self._steps, sum(self._done.values())
        complete = sum(steps == whole for steps in self._done.values())
        trained, seconds = max(done - self._before, 1), time.monotonic() - self._started
        minutes, rest = divmod(int(seconds / trained * (count * whole - done)), 60)
        parts = [f"member {index}, {complete}/{count} done"] if count > 1 else []
        parts.append(f"epoch {epoch + 1}/{self._epochs}")
        for name, value in logs.items():
            parts.append(f"{name.replace('val_', 'validation ')} {value:{'.2%' if 'accuracy' in name else '.4f'}}")
        parts += [f"{trained * self._batch_size / seconds:,.0f} images/s", f"{minutes}:{rest:02d} left"]
        self.update(self._task, completed=done, description="  ".join(parts))
        if last:
            self.console.print("  ".join(parts), soft_wrap=True)
