"""Worker processes: a pool whose workers exit with their parent, and tasks distributed over devices."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from digit_recognizer.errors import UserError

Result = TypeVar("Result")
Report = Callable[[Any], None]
ENDING = signal.SIGHUP, signal.SIGTERM
# A fork of a process with TensorFlow's threads can deadlock.
CONTEXT = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def _starting_processes() -> Iterator[None]:
    """Put off signals that end this process to the end of the block, so that none leaves a half-started worker.

    In workers SIGINT stays blocked, as only this process handles Ctrl+C.
    """
    resource_tracker.ensure_running()  # it unblocks SIGINT when it starts, which it does with the first process
    received: list[int] = []
    numbers: tuple[int, ...] = (signal.SIGINT, *ENDING)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)  # of this thread; others can receive them
    handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number in received:
            signal.raise_signal(number)


@contextlib.contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Open a process pool whose workers exit when this process does, even if it is killed.

    If the block is interrupted, they finish the few tasks that they have begun: one that ended while it sends a result
    would block the pool for ever.

    Raises:
        UserError: A worker was killed.
    """
    reader, writer = CONTEXT.Pipe(duplex=False)
    try:
        pool = ProcessPoolExecutor(processes, CONTEXT, _exit_with_parent, (reader,))
    except OSError as error:  # from the creation of a semaphore, without a name
        error.filename = error.filename or "shared memory, /dev/shm"
        raise
    with reader, writer:
        try:
            with _starting_processes():
                for _ in range(processes):
                    pool.submit(os.getpid)  # starts a worker if none is idle
            yield pool
        except BrokenProcessPool:
            raise UserError(
                "a worker process was killed, probably because memory ran out; close other programs and try again"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def run_tasks(
    function: Callable[[int, Report], Result],
    tasks: Iterator[int],
    *,
    devices: Sequence[Mapping[str, str]],
    report: Report,
) -> Iterator[Result]:
    """Call a picklable function for each task in worker processes, one per device (`split_devices`).

    The function also gets a callback for progress messages, with which `report` is called in this process.

    Yields:
        Results in the order in which they are completed. An exception ends the other workers. If a worker is killed,
        only its task fails: a new worker takes the next one.

    Raises:
        UserError: Workers were killed; the message names their tasks.
    """
    killed, processes = dict[int, str](), list[Any]()
    running: dict[Any, tuple[Any, Mapping[str, str], int]] = {}  # connection to process, device and task
    parent, writer = CONTEXT.Pipe(duplex=False)

    def start(device: Mapping[str, str]) -> tuple[Any, Any]:
        here, there = CONTEXT.Pipe()
        with there, _starting_processes():
            processes.append(CONTEXT.Process(target=_work, args=(function, device, there, parent), daemon=True))
            processes[-1].start()
        return here, processes[-1]

    idle: list[Any] = [(None, None, device) for device in devices]  # their processes start with the first task
    try:
        while True:
            while idle and (task := next(tasks, None)) is not None:
                connection, process, device = idle.pop()
                if connection is None:
                    connection, process = start(device)
                running[connection] = process, device, task
                with contextlib.suppress(BrokenPipeError):  # killed: see below
                    connection.send(task)
            if not running:
                break
            ready: list[Any] = wait(list(running))
            for connection in ready:
                process, device, task = running[connection]
                try:
                    kind, value = connection.recv()
                except (EOFError, ConnectionResetError):
                    kind, value = "killed", None
                if kind == "report":
                    report(value)
                    continue
                del running[connection]
                if kind == "killed":
                    process.join()
                    killed[task] = _describe_end(process.exitcode)
                    connection = None
                if kind == "error":
                    raise value
                idle.append((connection, process, device))
                if kind == "result":
                    yield value
    finally:
        writer.close()  # ends the workers
        for process in processes:
            process.join()
        parent.close()
    if killed:
        ends = ", ".join(f"member {task} {end}" for task, end in sorted(killed.items()))
        raise UserError(f"{ends}; run the command again to go on")


def _describe_end(status: int) -> str:
    """Return how a process ended that had more to do, from its exit status."""
    if status == -signal.SIGKILL:
        return "was killed, probably because memory ran out"
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _exit_with_parent(parent: Connection) -> None:
    """Prepare a worker: it ignores SIGINT and exits when the parent's end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def watch() -> None:
        parent.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(
    function: Callable[[int, Report], Any], device: Mapping[str, str], connection: Connection, parent: Connection
) -> None:
    """Work off tasks in a worker, which is restricted to one device before TensorFlow is imported."""
    _exit_with_parent(parent)
    os.environ.update(device)
    with contextlib.suppress(EOFError):  # no task is left
        while True:
            task = connection.recv()
            try:
                answer = "result", function(task, lambda message: connection.send(("report", message)))
            except (UserError, OSError) as error:
                answer = "error", error
            except Exception:  # noqa: BLE001 - raised in the parent; some exceptions cannot be pickled
                answer = "error", RuntimeError(f"task {task} failed\n{traceback.format_exc()}")
            connection.send(answer)
