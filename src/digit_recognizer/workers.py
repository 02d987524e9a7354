"""A process for each of several GPUs, so that all are busy: each does one task at a time."""

import contextlib
import io
import multiprocessing
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

from rich.console import Console

POLL_SECONDS = 0.2  # between two looks for lines to show

Result = TypeVar("Result")
_worker: dict[str, Any] = {}  # of this process, where it is one


class _Lines(io.TextIOBase):
    """A file whose text the parent process shows, each piece behind the name of its task."""

    def __init__(self, lines: Any, name: str) -> None:
        self._lines, self._name = lines, name

    def write(self, text: str) -> int:
        self._lines.put(f"{self._name}  {text.rstrip()}")
        return len(text)


def share_out(
    function: Callable[[int, Console], Result],
    tasks: Iterable[int],
    gpus: Sequence[str],
    *,
    may_begin: Callable[[], bool],
    console: Console,
) -> Iterator[Result]:
    """Calls a function for each task, on as many GPUs at once as there are.

    Args:
        function: does a task and tells the console of it; pickled, as is what it is bound to.
        tasks: what it is called with.
        gpus: a name for each, as CUDA_VISIBLE_DEVICES takes it.
        may_begin: whether one more task may begin now; those that never may are left out.
        console: where to show what the tasks tell.

    Yields:
        The results as they come. An exception of a task is raised once the others that had begun have ended.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process in which TensorFlow runs can hang
    free, lines = context.SimpleQueue(), context.Queue()
    for gpu in gpus:
        free.put(gpu)
    waiting = deque(tasks)
    running: set[Future[Result]] = set()
    with ProcessPoolExecutor(len(gpus), context, _take_gpu, (function, free, lines)) as pool:
        while True:
            while waiting and len(running) < len(gpus) and may_begin():
                running.add(pool.submit(_do, waiting.popleft()))
            if not running:
                return
            done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            with contextlib.suppress(queue.Empty):
                while True:
                    console.print(lines.get(timeout=0.01), soft_wrap=True)
            for future in done:
                yield future.result()


def _take_gpu(function: Callable[[int, Console], Any], free: Any, lines: Any) -> None:
    """Prepares a worker process, before TensorFlow looks for devices in it."""
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu = free.get()
    _worker.update(function=function, lines=lines, gpu=gpu)


def _do(task: int) -> Any:
    name = f"member-{task} on GPU {_worker['gpu']}"
    try:
        return _worker["function"](task, Console(file=_Lines(_worker["lines"], name), width=200))
    finally:
        for process in multiprocessing.active_children():  # such as the task has left: this one could never end
            process.terminate()
