"""Members on a real Ray cluster: a head and a second node, processes of this machine on loopback."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray_nodes
from waiting import wait_until

import digit_recognizer

pytestmark = pytest.mark.cluster
TESTS = Path(__file__).parents[1]
SETTINGS = "train", "--preset=fast", "--folds=2", "--members=2", "--epochs=3", "--augment"


def find_processes(folder, name=""):
    """Processes of the cluster that was started in a folder; Ray overwrites their environment and their arguments."""
    processes = []
    for process in psutil.process_iter():
        try:
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if process.cwd() == str(folder) and is_alive and process.name().startswith(name):
                processes.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return processes


@pytest.fixture(scope="module")
def cluster():
    """A running cluster of one node, to whose process commands are sent. At the end none of its processes is left."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the path of a socket is short
    try:
        nodes = subprocess.Popen(
            [sys.executable, TESTS / "ray_nodes.py"],
            cwd=folder,
            env=os.environ | ray_nodes.environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        nodes.folder, nodes.address = folder, nodes.stdout.readline().strip()
        yield nodes
        nodes.communicate(timeout=60)
        wait_until(lambda: not find_processes(folder), 20)
    finally:
        for process in find_processes(folder):
            process.kill()
        shutil.rmtree(folder)


def send(cluster, line):
    cluster.stdin.write(f"{line}\n")
    cluster.stdin.flush()
    assert cluster.stdout.readline() == "done\n"


def start_training(data_dir, models_dir, cluster=None, address=None):
    """Start a training of four members on this machine, or on a cluster."""
    where = [f"--cluster={address or cluster.address}"] if cluster else []
    return subprocess.Popen(
        [Path(sys.executable).with_name("digit-recognizer"), *SETTINGS, *where, f"--data-dir={data_dir}"],
        cwd=models_dir,
        env=os.environ | (ray_nodes.environment(cluster.folder) if cluster else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where pytest inherited that
    )


def finish(training):
    out, err = training.communicate(timeout=300)
    assert training.returncode == 0, err
    return out, err


def read_predictions(models):
    """Return the predictions of all members of all runs."""
    return {
        str(path.parent.relative_to(models)): np.load(path)["probabilities"]
        for path in sorted(models.glob("models/*/member-*/validation.npz"))
    }


@pytest.fixture(scope="module")
def here(demo_dir, tmp_path_factory):
    """The predictions of four members that were trained on this machine alone."""
    models_dir = tmp_path_factory.mktemp("here")
    finish(start_training(demo_dir, models_dir))
    return read_predictions(models_dir)


def check_same(models, here):
    there = read_predictions(models)
    assert there.keys() == here.keys()
    assert len(there) == 4
    assert all((there[name] == here[name]).all() for name in here)


def test_a_cluster_gives_the_predictions_of_one_machine_bit_for_bit(cluster, here, demo_dir, tmp_path):
    """Although the process of a member is killed."""
    training = start_training(demo_dir, tmp_path, cluster)
    wait_until(lambda: find_processes(cluster.folder, "ray::_work"))
    find_processes(cluster.folder, "ray::_work")[0].kill()
    _, err = finish(training)
    check_same(tmp_path, here)
    lines = err.splitlines()
    assert lines[0] == "fast: 4 networks, 3 epochs on 718 images"
    assert "4/4 done  epoch 3/3" in lines[-1]  # and no line of Ray


def test_an_interruption_ends_the_remote_tasks_and_the_same_command_goes_on_when_a_node_is_lost(
    cluster, here, demo_dir, tmp_path
):
    training = start_training(demo_dir, tmp_path, cluster)
    wait_until(lambda: read_predictions(tmp_path), 200)
    training.send_signal(signal.SIGTERM)
    _, err = training.communicate(timeout=60)
    assert training.returncode == 128 + signal.SIGTERM, err
    assert err.splitlines()[-1].startswith("digit-recognizer: ended by SIGTERM; run the same command again")
    wait_until(lambda: not find_processes(cluster.folder, "ray::_work"), 30)
    assert 1 <= len(read_predictions(tmp_path)) < 4
    send(cluster, "add")
    training = start_training(demo_dir, tmp_path, cluster)
    wait_until(lambda: find_processes(cluster.folder, "ray::_work"))
    send(cluster, "kill")
    finish(training)
    check_same(tmp_path, here)


def test_a_node_with_other_code_is_refused_and_the_difference_is_named(cluster, demo_dir, tmp_path):
    shutil.copytree(Path(digit_recognizer.__file__).parent, tmp_path / "other" / "digit_recognizer")
    with (tmp_path / "other" / "digit_recognizer" / "config.py").open("a") as file:
        file.write("CHANGED = True\n")
    send(cluster, f"add {tmp_path / 'other'}")
    training = start_training(demo_dir, tmp_path, cluster)
    _, err = training.communicate(timeout=300)
    assert training.returncode == 1
    line = err.splitlines()[-1]
    assert line.startswith(f"digit-recognizer: the node 127.0.0.1: {platform.node()} has code ")
    assert line.endswith("; install there what this machine has")
    assert not find_processes(cluster.folder, "ray::_work")  # nothing was sent


def test_without_a_cluster_there_is_one_line(cluster, demo_dir, tmp_path):
    training = start_training(demo_dir, tmp_path, cluster, address="127.0.0.1:9")
    _, err = training.communicate(timeout=300)
    assert training.returncode == 1
    line = err.splitlines()[-1]
    assert "expected a Ray cluster that this machine is part of at '127.0.0.1:9', found none (Failed to" in line
    assert "or copy ~/.ray/auth_token from its first machine, see docs/scaling.md" in line
