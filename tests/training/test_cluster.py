"""Members on a real Ray cluster: a head and a second node, processes of this machine on loopback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray_nodes

import digit_recognizer

pytestmark = pytest.mark.cluster
TESTS = Path(__file__).parents[1]
SETTINGS = "train", "--preset=fast", "--folds=2", "--epochs=3", "--augment"


def find_processes(folder, name=""):
    """Processes of the cluster that was started in a folder; Ray overwrites their environment and their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.cwd() == str(folder)
                and process.status() != psutil.STATUS_ZOMBIE
                and process.name().startswith(name)
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.fixture
def start():
    """Start a cluster; return its process. At the end none of its processes is left."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the path of a socket is short
    nodes = []

    def start_nodes(*arguments):
        nodes.append(
            subprocess.Popen(
                [sys.executable, TESTS / "ray_nodes.py", *arguments],
                cwd=folder,
                env=os.environ | ray_nodes.environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        nodes[0].folder, nodes[0].address = folder, nodes[0].stdout.readline().strip()
        return nodes[0]

    try:
        yield start_nodes
        nodes[0].communicate(timeout=60)
        deadline = time.monotonic() + 20
        while find_processes(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [process.cmdline() for process in find_processes(folder)] == []
    finally:
        for process in find_processes(folder):
            process.kill()
        shutil.rmtree(folder)


def start_training(data_dir, models_dir, *arguments, cluster=None):
    """Start a training on one machine, or on a cluster."""
    where = [f"--cluster={cluster.address}"] if cluster else []
    variables = ray_nodes.environment(cluster.folder) if cluster else {}
    return subprocess.Popen(
        [
            Path(sys.executable).with_name("digit-recognizer"),
            *(*SETTINGS, *arguments, *where, f"--data-dir={data_dir}", f"--models-dir={models_dir}"),
        ],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where pytest inherited that
    )


@pytest.fixture
def train(tmp_path, demo_dir):
    """Start a training in the folder of models `there`."""
    return partial(start_training, demo_dir, tmp_path / "there")


@pytest.fixture(scope="module")
def here(demo_dir, tmp_path_factory):
    """A folder of models that were trained on this machine alone: four members."""
    models_dir = tmp_path_factory.mktemp("here")
    finish(start_training(demo_dir, models_dir, "--members=2"))
    return models_dir


def finish(process):
    """Wait for a training; return its output and its lines of progress."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def wait_for(process, text):
    """Return the lines of progress up to one with a text."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"no {text!r} in {lines}")


def read_predictions(models):
    """Return the predictions of all members of all runs."""
    return {
        str(path.parent.relative_to(models)): np.load(path)["probabilities"]
        for path in sorted(models.glob("*/member-*/validation.npz"))
    }


def check_same(models, other, *, count):
    one, two = read_predictions(models), read_predictions(other)
    assert len(one) == count
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)


def test_a_cluster_gives_the_predictions_of_one_machine_bit_for_bit(start, train, demo_dir, tmp_path):
    finish(start_training(demo_dir, tmp_path / "here", "--seeds=3-4"))
    cluster = start()
    out, err = finish(train("--seeds=3-4", "--json", cluster=cluster))
    check_same(tmp_path / "here", tmp_path / "there", count=4)
    records = json.loads(out)
    assert [record["config"]["seed"] for record in records] == [3, 4]
    for record in records:
        assert record["scores"]["validation_rows"] == 1437
        assert record["processor_seconds"] > 1
        assert "unlike_members" not in record
    lines = err.splitlines()
    assert lines[0] == "4 networks, up to 4 at once on 2 nodes, each with 1 CPU"
    assert len(lines) == 1 + 4 * 3  # one for each epoch, and none of Ray
    # The last network trains alone, on one node, if the others were faster.
    assert re.search(r"4/4 done  epoch 3/3  .* [12] nodes?  [\d,]+ images/s  \d+:\d\d left$", lines[-1])
    again, _ = finish(train("--seeds=3-4", "--json", cluster=cluster))
    assert json.loads(again) == records


def test_members_of_a_lost_node_and_of_a_killed_process_are_trained_elsewhere(start, train, here, tmp_path):
    cluster = start()
    training = train("--members=2", cluster=cluster)
    wait_for(training, "epoch 1/3")
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    wait_for(training, "the node was lost; trying again")
    find_processes(cluster.folder, "ray::_work")[0].kill()
    wait_for(training, "its process was killed; trying again")
    finish(training)
    check_same(here, tmp_path / "there", count=4)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_ends_the_remote_tasks_and_the_same_command_goes_on(start, train, here, tmp_path, sent):
    cluster = start()
    training = train("--members=2", cluster=cluster)
    deadline = time.monotonic() + 200
    while not read_predictions(tmp_path / "there") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert find_processes(cluster.folder, "ray::_work")
    training.send_signal(sent)
    _, err = training.communicate(timeout=60)
    assert training.returncode == (-sent if sent == signal.SIGKILL else 128 + sent), err
    deadline = time.monotonic() + 30
    while find_processes(cluster.folder, "ray::_work"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    done = len(read_predictions(tmp_path / "there"))
    assert 1 <= done < 4
    _, err = finish(train("--members=2", cluster=cluster))
    assert err.startswith(f"{4 - done} networks")
    check_same(here, tmp_path / "there", count=4)


def test_a_node_with_other_code_is_refused_and_the_difference_is_named(start, train, tmp_path):
    source = Path(digit_recognizer.__file__).parent
    shutil.copytree(source, tmp_path / "other" / "digit_recognizer")
    with (tmp_path / "other" / "digit_recognizer" / "config.py").open("a") as file:
        file.write("# changed\n")
    training = train(cluster=start(str(tmp_path / "other")))
    _, err = training.communicate(timeout=300)
    assert training.returncode == 1
    (line,) = err.splitlines()
    assert "digit-recognizer: expected the code and versions of this machine on all nodes, found on " in line
    assert re.search(r"node \w{6}\) code \w{12} instead of \w{12}; install the same there", line)


def test_without_a_cluster_there_is_one_line(train, tmp_path):
    nowhere = type("Nowhere", (), {"address": "127.0.0.1:9", "folder": tmp_path})
    training = train(cluster=nowhere)
    _, err = training.communicate(timeout=300)
    assert training.returncode == 1
    (line,) = err.splitlines()
    assert "expected a Ray cluster that this machine is part of at '127.0.0.1:9', found none (Failed to" in line


FAILING = """
import errno, os, sys
from digit_recognizer.training import cluster

def fail_first(report, folder):
    import ray
    attempt = len(os.listdir(folder))
    (open(f"{folder}/{attempt}-{ray.get_runtime_context().get_node_id()}", "w")).close()
    if attempt < int(sys.argv[3]):
        raise OSError(errno.ENOSPC, "No space left on device", "/full")
    return attempt

with cluster.connected(sys.argv[1]):
    tasks = [("member 0", [sys.argv[2]])]
    shown = {"report": print, "notice": print, "watch": lambda count: None}
    print(list(cluster.run_tasks(fail_first, tasks, {"num_cpus": 1}, **shown)))
"""


@pytest.mark.parametrize("failures", [1, 3])
def test_a_task_that_fails_on_a_node_with_a_full_disk_is_tried_on_another_one_and_three_times_at_most(
    start, tmp_path, failures
):
    cluster, tried = start(), tmp_path / "tried"
    tried.mkdir()
    program = FAILING.replace("sys.argv[3]", str(failures))
    done = subprocess.run(
        [sys.executable, "-c", program, cluster.address, tried],
        env=os.environ | ray_nodes.environment(cluster.folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    attempts = sorted(path.name.split("-")[0] for path in tried.iterdir())
    nodes = {path.name.split("-")[1] for path in tried.iterdir()}
    assert len(nodes) == 2
    assert attempts == list("012"[: failures + 1])
    assert "could not read or write /full: No space left on device; free some space; trying again" in done.stdout
    if failures == 1:
        assert done.stdout.endswith("[('member 0', 1)]\n"), done.stderr
    else:
        assert (
            "UserError: expected all networks to be trained, found that in the last of 3 tries member 0" in done.stderr
        )
