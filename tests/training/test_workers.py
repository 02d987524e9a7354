"""Worker processes: tasks run on all devices at once, and no process outlives its parent."""

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import psutil
import pytest

from digit_recognizer.errors import UserError
from digit_recognizer.training import workers
from digit_recognizer.training.workers import run_tasks, worker_pool

DEVICES = [{"CUDA_VISIBLE_DEVICES": "3"}, {"CUDA_VISIBLE_DEVICES": "7"}]


def meet(folder, index, report):
    """Wait until tasks run on both devices; report and return the task and its device."""
    gpu = os.environ["CUDA_VISIBLE_DEVICES"]
    (folder / f"{index}-{gpu}").touch()
    deadline = time.monotonic() + 30
    while len({path.name[-1] for path in folder.iterdir()}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    report((index, gpu))
    return index, gpu


def test_tasks_run_once_each_on_all_devices_at_once(tmp_path):
    reported = []
    results = list(run_tasks(partial(meet, tmp_path), iter(range(5)), devices=DEVICES, report=reported.append))
    assert sorted(index for index, _ in results) == [0, 1, 2, 3, 4]
    assert {gpu for _, gpu in results} == {"3", "7"}
    assert sorted(reported) == sorted(results)  # no message is lost


def fail_first(folder, index, report):
    (folder / str(index)).touch()
    if index == 0:
        raise ValueError("task 0")
    time.sleep(60)


def test_an_exception_ends_all_workers(tmp_path):
    with pytest.raises(RuntimeError, match="ValueError: task 0"):
        list(run_tasks(partial(fail_first, tmp_path), iter(range(100)), devices=DEVICES, report=print))
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1"}


def test_an_interrupted_pool_works_off_only_the_tasks_that_its_workers_have_begun(tmp_path):
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pid = pool.submit(os.getpid).result()
        for index in range(50):
            pool.submit(Path.touch, tmp_path / str(index))
            pool.submit(time.sleep, 0.5)
        raise KeyboardInterrupt
    assert not psutil.pid_exists(pid)
    assert len(list(tmp_path.iterdir())) < 10


def test_an_interruption_while_a_result_is_sent_ends():
    """A worker that ends in the middle of a result would leave the pool waiting for the rest of it."""
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), worker_pool(2) as pool:
            for _ in range(4):
                pool.submit(bytes, 50_000_000)
            time.sleep(0.3)
            raise KeyboardInterrupt


def die_first(index, report):
    if index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return index


def test_killed_worker_fails_its_task_alone_and_the_reason_is_named():
    results = []
    with pytest.raises(UserError, match=r"^member 0 was killed, probably because memory ran out; run the"):
        for result in run_tasks(die_first, iter(range(4)), devices=DEVICES, report=print):
            results.append(result)
    assert sorted(results) == [1, 2, 3]


def test_read_only_shared_memory_is_named(monkeypatch):
    monkeypatch.setattr(workers, "ProcessPoolExecutor", mock.Mock(side_effect=OSError(errno.EROFS, "Read-only")))
    with pytest.raises(OSError, match="Read-only") as error, worker_pool(1):
        pass
    assert error.value.filename == "shared memory, /dev/shm"


def test_error_of_the_user_or_the_system_keeps_its_type():
    with pytest.raises(FileNotFoundError):
        list(run_tasks(open_missing_file, iter([0]), devices=DEVICES, report=print))


def open_missing_file(index, report):
    Path("/missing").read_text()


def sleep_on(index, report):
    report(os.getpid())
    time.sleep(60)


@pytest.mark.parametrize(
    ("sent", "inherited"),
    [(signal.SIGKILL, "default_int_handler"), (signal.SIGINT, "default_int_handler"), (signal.SIGTERM, "SIG_IGN")],
)
def test_workers_exit_with_their_parent_even_if_sigint_is_ignored(tmp_path, sent, inherited):
    program = f"""
import signal
from digit_recognizer.errors import UserError
from digit_recognizer.training.workers import run_tasks
from test_workers import sleep_on
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.{inherited})
    device = {{"TF_NUM_INTRAOP_THREADS": "1"}}
    list(run_tasks(sleep_on, iter([0]), devices=[device], report=lambda pid: print(pid, flush=True)))
"""
    (tmp_path / "program.py").write_text(program)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )
    try:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(sent)
        parent.wait(timeout=20)
        worker.wait(timeout=20)
    finally:
        parent.kill()
        parent.communicate()
