"""What a session offers: the input in each of Kaggle's layouts, and GPUs."""

import importlib.metadata
import os

import pytest

from digit_recognizer.errors import UserError
from digit_recognizer.training import devices
from digit_recognizer.training.devices import HEADERS


def lay(folder, **headers):
    """Makes train.csv and test.csv with the right headers, or others."""
    folder.mkdir(parents=True)
    for name, header in HEADERS.items():
        (folder / name).write_bytes(headers.get(name.partition(".")[0], header) + b"\r\n0\r\n")
    return folder


@pytest.mark.parametrize(
    "place", ["digit-recognizer", "competitions/digit-recognizer", "datasets/somebody/a-copy", "a-copy"]
)
def test_the_input_is_found_wherever_kaggle_mounts_it(tmp_path, place):
    lay(tmp_path / "input" / "another-competition", train=b"PassengerId,Survived")
    folder = lay(tmp_path / "input" / place)
    assert devices.find_input(tmp_path) == folder


def test_kaggles_own_place_comes_before_a_copy(tmp_path):
    lay(tmp_path / "input" / "a-copy")
    folder = lay(tmp_path / "input" / "competitions" / "digit-recognizer")
    assert devices.find_input(tmp_path) == folder


@pytest.mark.parametrize("headers", [{"train": b"label,pixel1"}, {"test": HEADERS["train.csv"]}], ids=str)
def test_no_input_is_one_message_that_names_the_step(tmp_path, headers):
    lay(tmp_path / "input" / "digit-recognizer", **headers)
    with pytest.raises(UserError, match="choose Add input, Competition Dataset, Digit Recognizer, and run") as caught:
        devices.find_input(tmp_path)
    assert "\n" not in str(caught.value)


def test_outside_of_kaggle_the_data_folder_is_taken(tmp_path):
    assert str(devices.find_input(tmp_path / "kaggle")) == "data"


@pytest.fixture
def with_gpu_tensorflow(monkeypatch):
    def distribution(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def fake_driver(folder, text, status=0):
    """A folder whose nvidia-smi says something."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\nprintf '{text}'\nexit {status}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_gpus_are_those_of_the_driver_unless_some_are_hidden(with_gpu_tensorflow, tmp_path):
    variables = fake_driver(tmp_path, "0\\n1\\n")
    assert devices.find_gpus(variables) == ["0", "1"]
    assert devices.find_gpus(variables | {"CUDA_VISIBLE_DEVICES": "1"}) == ["1"]
    assert devices.find_gpus(variables | {"CUDA_VISIBLE_DEVICES": ""}) == []
    assert devices.find_gpus(variables | {"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert devices.find_gpus(fake_driver(tmp_path, "no driver", status=9)) == []
    assert devices.find_gpus({"PATH": ""}) == []


def test_a_tensorflow_for_processors_has_no_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "distribution", {"tensorflow-cpu": None}.__getitem__)
    assert devices.find_gpus(fake_driver(tmp_path, "0\\n")) == []


@pytest.mark.parametrize(
    ("gpus", "variables", "beginning"),
    [
        ([], {}, "no GPU: training on the processor's"),
        (["0"], {}, "1 GPU"),
        (["0", "1"], {}, "2 GPUs, a member on each at a time"),
        ([], {"TPU_WORKER_ID": "0"}, "a TPU, which this TensorFlow, made for processors alone, cannot use: training"),
    ],
)
def test_the_hardware_is_said(gpus, variables, beginning):
    assert devices.describe_hardware(gpus, variables).startswith(beginning)


def test_a_machine_is_shared_out_among_the_members_of_a_run(monkeypatch):
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 8)
    assert devices.machine_parts(5, ["0", "3"]) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    for members, parts, threads in ((10, 8, "1"), (3, 3, "2"), (2, 2, "4")):
        found = devices.machine_parts(members, [])
        assert len(found) == parts
        assert {part["TF_NUM_INTRAOP_THREADS"] for part in found} == {threads}
        assert {part["CUDA_VISIBLE_DEVICES"] for part in found} == {"-1"}
