"""A process for each part of the machine, a GPU or some cores, so that all are busy: each does one task at a time."""

import contextlib
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, TypeVar

POLL_SECONDS = 0.2  # between two looks for what is told

Result = TypeVar("Result")
Tell = Callable[[Any], None]
_worker: dict[str, Any] = {}  # of this process, where it is one


def share_out(
    function: Callable[[int, Tell], Result],
    tasks: Iterable[int],
    parts: Sequence[Mapping[str, str]],
    *,
    may_begin: Callable[[], bool],
    tell: Tell,
) -> Iterator[Result]:
    """Calls a function for each task, on as many parts of the machine at once as there are.

    Args:
        function: does a task and tells of it; pickled, as is what it is bound to.
        tasks: what it is called with.
        parts: the environment variables that make a process use its part alone (`session.machine_parts`).
        may_begin: whether one more task may begin now; those that never may are left out. Asked often.
        tell: is called in this process with what the tasks tell.

    Yields:
        The results as they come. An exception of a task is raised once the others that had begun have ended.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process in which TensorFlow runs can hang
    free, told = context.SimpleQueue(), context.Queue()
    for part in parts:
        free.put(part)
    waiting = deque(tasks)
    running: set[Future[Result]] = set()
    with ProcessPoolExecutor(len(parts), context, _take_part, (function, free, told)) as pool:
        try:
            while True:
                while waiting and len(running) < len(parts) and may_begin():
                    running.add(pool.submit(_do, waiting.popleft()))
                if not running:
                    return
                done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                with contextlib.suppress(queue.Empty):
                    while True:
                        tell(told.get(timeout=0.01))
                for future in done:
                    yield future.result()
        except (KeyboardInterrupt, GeneratorExit):  # a worker can miss its own interruption, and would be waited for
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def end_with_parent() -> None:
    """Lets this process end with the one that started it, also where that is killed: its workers would wait forever."""
    parent = multiprocessing.parent_process()

    def wait_and_end() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


def _take_part(function: Callable[[int, Tell], Any], free: Any, told: Any) -> None:
    """Prepares a worker process, before TensorFlow looks for devices and cores in it."""
    end_with_parent()
    os.environ.update(free.get())
    _worker.update(function=function, told=told)


def _do(task: int) -> Any:
    try:
        return _worker["function"](task, _worker["told"].put)
    finally:
        for process in multiprocessing.active_children():  # such as the task has left: this one could never end
            process.terminate()
