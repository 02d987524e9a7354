"""GPUs, processor cores and precision."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from digit_recognizer.training import devices


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an nvidia-smi with a given output first in PATH."""

    def install(output, status=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {status}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


@pytest.fixture
def gpu_tensorflow(monkeypatch):
    """TensorFlow is installed with GPU support."""

    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
    ],
)
def test_gpus_are_those_of_the_driver_unless_hidden(gpu_tensorflow, nvidia_smi, variables, expected):
    nvidia_smi("0\\n1\\n")
    assert devices.find_gpus(variables) == expected


def test_a_failing_or_missing_driver_means_no_gpus(gpu_tensorflow, nvidia_smi, monkeypatch):
    nvidia_smi("no driver", status=9)
    assert devices.find_gpus({}) == []
    monkeypatch.setenv("PATH", "")
    assert devices.find_gpus({}) == []


def test_tensorflow_for_cpus_has_no_gpus(nvidia_smi, monkeypatch):
    nvidia_smi("0\\n")
    monkeypatch.setattr(importlib.metadata, "distribution", {"tensorflow-cpu": None}.__getitem__)
    assert devices.find_gpus({}) == []


def test_cores_are_those_that_the_process_may_use():
    """A container's quota is read by joblib."""
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    program += "from digit_recognizer.training import devices; print(devices.count_cores())"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"1\n"


def test_the_machine_is_divided_among_members(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 8)
    assert devices.split_devices(5, ["0", "3"]) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    for members, expected, threads in ((10, 8, "1"), (3, 3, "2"), (2, 2, "4"), (1, 1, "8")):
        found = devices.split_devices(members, [])
        assert len(found) == expected
        assert {device["TF_NUM_INTRAOP_THREADS"] for device in found} == {threads}
        assert {device["CUDA_VISIBLE_DEVICES"] for device in found} == {"-1"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("8.6\\n7.0\\n", "float32"),
        ("[N/A]\\n", "float32"),
        ("8.0\\n9.0\\n", "mixed_bfloat16"),
    ],
)
def test_gpus_train_in_bfloat16_from_compute_capability_8(nvidia_smi, output, expected):
    nvidia_smi(output)
    assert devices.choose_precision(["0"]) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512f", "float32"),
        ("flags\t\t: fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags\t\t: fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("Features\t: asimd", "float32"),
    ],
)
def test_processors_train_in_bfloat16_if_they_compute_in_it(tmp_path, monkeypatch, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"model name\t: x\n{flags}\n")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    assert devices.choose_precision([]) == expected
