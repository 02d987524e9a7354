"""Run named tasks in other processes, side by side in lanes, with a time limit for each task."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What became of a task."""

    task: str
    line: str  # its answer, "" if there is none
    ended: str = ""  # why there is none
    message: str = ""  # the last line of stderr of a process that ended


def run_lanes(command: Sequence[str], lanes: list[list[str]], *, limit: float) -> Iterator[Answer]:
    """Run the tasks of each lane one after the other in a process, and yield their answers as they come.

    A process is the command with the names of the tasks as arguments, for each of which it prints a line. If it ends or
    exceeds the limit, the lane goes on in a new process after the task. A caller can clear a lane, which ends it.

    Args:
        command: Program and arguments.
        lanes: The tasks of each lane, which are removed from the list when they are done.
        limit: Seconds for each task; the first one of a process includes its start.
    """
    running: dict[Any, tuple[list[str], subprocess.Popen[bytes], float]] = {}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    starting = [lane for lane in lanes if lane]
    try:
        while starting or running:
            for lane in starting:
                child = subprocess.Popen([*command, *lane], bufsize=0, process_group=0, **pipes)
                running[child.stdout] = lane, child, time.monotonic() + limit
            wait = min(end for *_, end in running.values()) - time.monotonic()
            ready, starting = select.select(list(running), [], [], max(0, wait))[0], []
            late = [stream for stream, (*_, end) in running.items() if end <= time.monotonic() and stream not in ready]
            for stream in ready + late:
                lane, child, _ = running[stream]
                line = stream.readline() if stream in ready else b""
                task = lane.pop(0)
                yield Answer(task, line.decode()) if line else Answer(task, "", *_end(child, stream in late, limit))
                if line and lane:
                    running[stream] = lane, child, time.monotonic() + limit
                else:
                    del running[stream]
                    _end(child)
                    starting += [lane] if lane else []
    finally:
        for _, child, _ in running.values():
            _end(child)


def _end(child: subprocess.Popen[bytes], is_late: bool = True, limit: float = 0) -> tuple[str, str]:
    """End a process; return why it gave no answer, and the last line of its stderr."""
    if not is_late:
        child.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # with what it started
    written = child.communicate()[1].decode(errors="replace").strip().split("\n")
    if is_late:
        return f"no result within {limit:g} s", ""
    if child.returncode < 0:
        return f"aborted by signal {-child.returncode} ({signal.strsignal(-child.returncode)})", written[-1]
    return f"ended with exit status {child.returncode}", written[-1]
