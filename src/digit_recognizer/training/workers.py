"""Worker processes: a pool whose workers exit with their parent, and tasks distributed over devices."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import Connection
from typing import Any, TypeVar

Result = TypeVar("Result")
Report = Callable[[Any], None]
_state: dict[str, Any] = {}  # of a worker process: the function to call and the queue for its messages


@contextlib.contextmanager
def worker_pool(
    processes: int, initializer: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Open a process pool whose workers exit when this process does, even if it is killed.

    They also exit at once if the block is interrupted. Workers ignore SIGINT: only this process handles Ctrl+C.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with TensorFlow's threads can deadlock
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _start_worker, (reader, initializer, arguments))
    with reader, writer:
        try:
            yield pool
        except BaseException:
            writer.close()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def run_tasks(
    function: Callable[[int, Report], Result],
    tasks: Iterable[int],
    devices: Sequence[Mapping[str, str]],
    *,
    report: Report,
) -> Iterator[Result]:
    """Call a picklable function for each task in worker processes, one per device (`split_devices`).

    The function also gets a callback for progress messages, with which `report` is called in this process.

    Yields:
        Results in the order in which they are completed. After an exception no further task starts; it is raised when
        the running ones have finished.
    """
    context = multiprocessing.get_context("spawn")
    free, messages = context.SimpleQueue(), context.SimpleQueue()
    for device in devices:
        free.put(device)
    waiting, running = deque(tasks), set[Future[Result]]()
    error: BaseException | None = None
    with worker_pool(len(devices), _take_device, function, free, messages) as pool:
        while running or (waiting and error is None):
            while waiting and error is None and len(running) < len(devices):
                running.add(pool.submit(_run_task, waiting.popleft()))
            done, running = wait(running, 0.2, FIRST_COMPLETED)  # seconds until the next look for messages
            while not messages.empty():
                report(messages.get())
            for future in done:
                if future.exception():
                    error = error or future.exception()
                else:
                    yield future.result()
    if error is not None:
        raise error


def _start_worker(parent: Connection, initializer: Callable[..., None] | None, arguments: Sequence[Any]) -> None:
    """Prepare a worker: it ignores SIGINT and exits when the parent's end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exit_with_parent() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    if initializer:
        initializer(*arguments)


def _take_device(function: Callable[[int, Report], Any], free: Any, messages: Any) -> None:
    """Restrict this worker to one device, before TensorFlow is imported."""
    os.environ.update(free.get())
    _state.update(function=function, messages=messages)


def _run_task(task: int) -> Any:
    return _state["function"](task, _state["messages"].put)
