"""Worker processes: every GPU is busy, and nothing that they say or raise is lost."""

import io
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest
from rich.console import Console

from digit_recognizer import workers


def always():
    return True


def task(folder, index, console):
    """Waits until two tasks run at once; says and returns on which GPU it is."""
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    (folder / f"{index}-{gpu}").touch()
    deadline = time.monotonic() + 30
    while len({path.name[-1] for path in folder.iterdir()}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    console.print(f"epoch 1/1 of {index}")
    return index, gpu


def fail(index, console):
    raise ValueError(f"task {index}")


def test_all_gpus_are_busy_at_once_and_each_task_is_done_once(tmp_path):
    text = io.StringIO()
    console = Console(file=text, width=100)
    results = list(workers.share_out(partial(task, tmp_path), range(5), ["3", "7"], may_begin=always, console=console))
    assert sorted(index for index, _ in results) == [0, 1, 2, 3, 4]
    assert {gpu for _, gpu in results} == {"3", "7"}
    lines = text.getvalue().splitlines()
    assert sorted(lines) == sorted(f"member-{index} on GPU {gpu}  epoch 1/1 of {index}" for index, gpu in results)


def test_what_a_task_raises_is_raised_and_later_ones_do_not_begin():
    with pytest.raises(ValueError, match="task 0"):
        list(workers.share_out(fail, range(100), ["0"], may_begin=always, console=Console(quiet=True)))


def test_tasks_that_may_not_begin_are_left_out(tmp_path):
    allowed = iter([True, True, False, False, False, False])
    results = workers.share_out(
        partial(task, tmp_path), range(9), ["0", "1"], may_begin=lambda: next(allowed), console=Console(quiet=True)
    )
    assert sorted(index for index, _ in results) == [0, 1]


def leave(index, console):
    """Leaves a pool of processes open, as an augmentation that was not used up does."""
    pools.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    return pools[-1].submit(abs, -index).result()


pools = []


def test_a_task_that_leaves_processes_behind_keeps_nothing_waiting():
    assert list(workers.share_out(leave, [7], ["0"], may_begin=always, console=Console(quiet=True))) == [7]
