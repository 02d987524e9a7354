"""The cost of a cluster."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import ray_nodes

TESTS = Path(__file__).parents[1]


@pytest.mark.cluster
def test_the_difference_to_processes_of_one_machine_is_printed(demo_dir):
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # the path of a socket is short
        options = {"env": os.environ | ray_nodes.environment(folder), "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([sys.executable, TESTS / "ray_nodes.py"], stdin=subprocess.PIPE, **options) as nodes:
            address = nodes.stdout.readline().strip()
            command = ["benchmarks.cluster_cost", f"--data-dir={demo_dir}", f"--cluster={address}", "--members=2"]
            run = [sys.executable, "-m", *command]
            done = subprocess.run(run, cwd=TESTS.parent, check=True, timeout=300, **options)
            nodes.communicate(timeout=60)
    assert re.fullmatch(
        r"processes: [\d.]+ s, cluster: [\d.]+ s for 2 networks\n"
        r"difference: -?[\d.]+ s for each network\n"
        r"predictions: equal bit for bit\n"
        r"files of a network: [\d.]+ MB\n"
        r"CPU time of the driver for a report: [\d.]+ ms\n"
        r"CPU time of the driver for a result of 2 MB: [\d.]+ ms\n",
        done.stdout,
    )
