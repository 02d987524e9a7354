"""Worker processes: every part of the machine is busy, and nothing that they tell or raise is lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from digit_recognizer.training import workers


def always():
    return True


PARTS = [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "7"}]


def task(folder, index, tell):
    """Waits until two tasks run at once; tells of itself and returns on which GPU it is."""
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    (folder / f"{index}-{gpu}").touch()
    deadline = time.monotonic() + 30
    while len({path.name[-1] for path in folder.iterdir()}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    tell((index, gpu))
    return index, gpu


def fail(index, tell):
    raise ValueError(f"task {index}")


def test_all_parts_are_busy_at_once_and_each_task_is_done_once(tmp_path):
    told = []
    results = list(workers.share_out(partial(task, tmp_path), range(5), PARTS, may_begin=always, tell=told.append))
    assert sorted(index for index, _ in results) == [0, 1, 2, 3, 4]
    assert {gpu for _, gpu in results} == {"3", "7"}
    assert sorted(told) == sorted(results)


def test_what_a_task_raises_is_raised_and_later_ones_do_not_begin():
    with pytest.raises(ValueError, match="task 0"):
        list(workers.share_out(fail, range(100), PARTS[:1], may_begin=always, tell=print))


def test_tasks_that_may_not_begin_are_left_out(tmp_path):
    allowed = iter([True, True, False, False, False, False])
    results = workers.share_out(
        partial(task, tmp_path), range(9), PARTS, may_begin=lambda: next(allowed), tell=lambda _: None
    )
    assert sorted(index for index, _ in results) == [0, 1]


def leave(index, tell):
    """Leaves a pool of processes open, as an augmentation that was not used up does."""
    pools.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return pools[-1].submit(abs, -index).result()


pools = []


def test_a_task_that_leaves_processes_behind_keeps_nothing_waiting():
    assert list(workers.share_out(leave, [7], PARTS[:1], may_begin=always, tell=print)) == [7]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent_even_deaf_to_interruptions(tmp_path, sent):
    program = """
from digit_recognizer.training import workers
from test_workers import sleep_on
if __name__ == "__main__":
    parts = [{"TF_NUM_INTRAOP_THREADS": "1"}]
    list(workers.share_out(sleep_on, [0], parts, may_begin=lambda: True, tell=lambda pid: print(pid, flush=True)))
"""
    (tmp_path / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(sent)
        parent.wait(timeout=20)
    worker.wait(timeout=20)


def sleep_on(index, tell):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tell(os.getpid())
    time.sleep(60)
