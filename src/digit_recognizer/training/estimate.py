"""Estimate how long a run takes on this machine, from a measurement of a few seconds."""

import functools
import importlib
import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from digit_recognizer.config import CLASSES, IMAGE_SIZE, Config, count_members
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.augmentation import augment
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.data.folds import Fold
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices
from digit_recognizer.training.workers import Report, run_tasks

STEPS = 20  # measured, after the first one, which also traces the network
HELD_OUT, AUGMENTED = 200, 200  # images
START = 2  # the other imports, the reading of the data and the end, relative to the import of TensorFlow
UNITS = {"h": 3600, "min": 60, "s": 1}
FORWARD = 1 / 3  # prediction of an image relative to a training step on it, which has a backward pass of twice that


@functools.cache
def start_tensorflow() -> float:
    """Import TensorFlow and the training; return the seconds that this took."""
    started = time.perf_counter()
    with hide_native_messages():
        importlib.import_module("digit_recognizer.training.member")
    return time.perf_counter() - started


def estimate_on_this_machine(config: Config, rows: int) -> float:
    """Return the expected wall time of `make train` on this many rows, after a measurement of a few seconds."""
    gpus = find_gpus()
    cost = measure_steps(config, config.precision or choose_precision(gpus))
    return estimate_seconds(config, rows, cost, cores=count_cores(), gpus=len(gpus))


class Cost(NamedTuple):
    """What parts of a training cost, in seconds."""

    start: float  # imports, reading the data, writing the results
    step: float  # wall time of a training step on all cores, or on a GPU
    step_cpu: float  # CPU time of that step: its wall time on one core
    member: float  # building, tracing and exporting a network
    augmentation: float  # CPU time per image


def measure_steps(config: Config, precision: str) -> Cost:
    """Train the networks of a preset for a few steps on random images, as `train_member` does, and time that.

    `precision` is from `choose_precision`.
    """
    start = START * start_tensorflow()
    same = replace(config, preset="measured", folds=1, members=1, epochs=1, augment=False)
    networks = [_measure_network(replace(same, architectures=(name,)), precision) for name in config.architectures]
    image_seconds = _measure_augmentation() if config.augmented_epochs else 0.0
    step, step_cpu, member = np.mean(networks, axis=0).tolist()
    return Cost(start, step, step_cpu, member, image_seconds)


@functools.cache  # the runs of a sweep
def measure_apart(config: Config, precision: str, gpus: tuple[str, ...]) -> Cost:
    """Call `measure_steps` in a process of its own, which leaves the GPUs free."""
    measure = functools.partial(_measure, config, precision)
    (cost,) = run_tasks(measure, [0], split_devices(1, gpus), report=lambda _: None)
    return cost


def _measure(config: Config, precision: str, _index: int, _report: Report) -> Cost:
    return measure_steps(config, precision)


@functools.cache  # presets share networks
def _measure_network(config: Config, precision: str) -> tuple[float, float, float]:
    from digit_recognizer.training.member import train_member

    rows, random, times = (STEPS + 1) * config.batch_size, np.random.default_rng(0), []
    images = random.integers(0, 256, (rows + HELD_OUT, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    labels = random.integers(0, CLASSES, len(images), np.uint8)
    fold = Fold(np.arange(rows), np.arange(rows, len(images)))
    started = time.perf_counter()
    train_member(
        config,
        Dataset(images, labels, ""),
        [fold],
        0,
        precision=precision,
        augmented=iter(()),
        report=lambda *_: times.append((time.perf_counter(), time.process_time())),
    )
    seconds = time.perf_counter() - started
    # The last report follows the validation.
    step, step_cpu = (np.subtract(times[-2], times[0]) / (STEPS - 1)).tolist()
    images_predicted = 2 * HELD_OUT
    steps = STEPS + 1 + FORWARD * images_predicted / config.batch_size
    return step, step_cpu, max(0.0, seconds - steps * step)


@functools.cache
def _measure_augmentation() -> float:
    images = np.zeros((AUGMENTED, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    augment(images[:1], 0)  # imports the library
    started = time.process_time()
    augment(images, 0)
    return (time.process_time() - started) / AUGMENTED


def estimate_seconds(
    config: Config, rows: int, cost: Cost, *, cores: int, gpus: int = 0, members: int | None = None
) -> float:
    """Return the expected wall time of a run.

    Args:
        config: The settings.
        rows: Rows of train.csv.
        cost: From `measure_steps`, on the same machine.
        cores: From `count_cores`.
        gpus: Number of GPUs, of which each trains one member at a time.
        members: Number of networks that are still to be trained; None: all.
    """
    members = members or count_members(config.to_dict())
    parallel = min(gpus or cores, members)
    step = cost.step if gpus else max(cost.step, cost.step_cpu / (cores // parallel))
    held_out = {0: 0.0, 1: config.validation}.get(config.folds, 1 / max(config.folds, 1)) * rows
    predicted = held_out * (config.epochs + 1) / config.batch_size
    steps = config.steps_per_epoch(round(rows - held_out)) * config.epochs + FORWARD * predicted
    augmentation = config.augmented_epochs * rows * cost.augmentation / cores
    return cost.start + augmentation + math.ceil(members / parallel) * (cost.member + steps * step)


def describe_seconds(seconds: float) -> str:
    """Return an estimate in words, rounded to what it is worth: "about 2.5 min"."""
    unit, length = next((unit, length) for unit, length in UNITS.items() if seconds >= 1.5 * length or unit == "s")
    value = max(1.0, seconds / length)
    digits = 5 if value >= 20 else 1 if value >= 10 or unit == "s" else 0.5
    return f"about {digits * round(value / digits):g} {unit}"
