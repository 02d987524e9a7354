"""The precision to train in: the fastest that the hardware is made for."""

import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from digit_recognizer.console import hide_native_messages

REPETITIONS = 5
SHAPE = (64, 14, 14, 64)  # of the images that are convolved to measure
WORTHWHILE = 1.1  # times as fast as float32


def choose_precision(gpus: Sequence[str]) -> str:
    """Returns the dtype policy of Keras to train with.

    A GPU tells what it is made for: half precision by its tensor cores, bfloat16 where these know it (compute
    capability 8.0) and float16 before (7.0). Processors differ more than their names tell, so that there a convolution
    is measured, forward and backward, which takes a few tenths of a second.

    Args:
        gpus: out of `session.find_gpus`; TensorFlow is not asked when there are some.

    Returns:
        "float32", "mixed_bfloat16" or "mixed_float16".
    """
    if gpus:
        capability = _compute_capability()
        return "mixed_bfloat16" if capability >= 8 else "mixed_float16" if capability >= 7 else "float32"
    with hide_native_messages():
        import tensorflow as tf

        worthwhile = _convolution_seconds(tf.float32) > WORTHWHILE * _convolution_seconds(tf.bfloat16)
    return "mixed_bfloat16" if worthwhile else "float32"


def _convolution_seconds(dtype: Any) -> float:
    """Returns the time that a 3x3 convolution takes, forward and backward: the shortest of some."""
    import tensorflow as tf

    channels = SHAPE[-1]
    images, kernel = tf.ones(SHAPE, dtype), tf.Variable(tf.ones((3, 3, channels, channels), dtype))

    @tf.function
    def step() -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            total = tf.reduce_sum(tf.nn.conv2d(images, kernel, 1, "SAME"))
        return tape.gradient(total, [images, kernel])

    step()
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        step()[-1].numpy()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _compute_capability() -> float:
    """Returns the least compute capability of the GPUs; 0 where the driver does not tell."""
    if shutil.which("nvidia-smi") is None:
        return 0.0
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    values = answer.stdout.split() if answer.returncode == 0 else []
    return min(map(float, values), default=0.0)
