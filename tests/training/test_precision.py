"""The precision to train in."""

import os

import pytest

from digit_recognizer.training import precision


@pytest.fixture
def capabilities(tmp_path, monkeypatch):
    """Puts an nvidia-smi that names compute capabilities before all other programs."""

    def put(text):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\nprintf '{text}'\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.0\\n", "mixed_bfloat16"),
        ("7.5\\n7.5\\n", "mixed_float16"),
        ("8.6\\n7.0\\n", "mixed_float16"),
        ("6.0\\n", "float32"),
    ],
)
def test_gpus_say_what_they_are_made_for(capabilities, text, expected):
    capabilities(text)
    assert precision.choose_precision(["0"]) == expected


def test_gpus_without_a_driver_program_train_in_full_precision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert precision.choose_precision(["0"]) == "float32"


@pytest.mark.parametrize(("ratio", "expected"), [(1.6, "mixed_bfloat16"), (1.05, "float32"), (0.1, "float32")])
def test_a_processor_is_measured(monkeypatch, ratio, expected):
    monkeypatch.setattr(precision, "_convolution_seconds", lambda dtype: ratio if dtype.name == "float32" else 1.0)
    assert precision.choose_precision([]) == expected


def test_a_measurement_takes_less_than_a_second():
    import tensorflow as tf

    assert 0 < precision.REPETITIONS * precision._convolution_seconds(tf.float32) < 1
