"""Benchmark the kit against other people's recipes on this machine: `python -m benchmarks.benchmark --data-dir data`.

Recipes run one after the other on the same rows. Finished parts are kept in the working folder and not measured again.
"""

import functools
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console

from benchmarks import engine, tables
from digit_recognizer import files, pipeline
from digit_recognizer.config import PRESETS, make_config
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training import environment, run_folder, workers
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices, uses_onednn

FOLDS = 2  # for the comparison of ensembles: all rows count, and few networks have to be trained
BEST_NETWORKS, DEOTTE_NETWORKS = 4, 1  # per fold, which cost about the same
SINGLE_FOLDS, SINGLE_SEEDS = 5, 2  # for the out-of-fold accuracy of `single`
SPLIT_SEED = 2  # of all accuracies: settings were chosen on the splits of the seeds 0 and 1
REPETITIONS, SMALL_REPETITIONS = 2, 5  # of what takes minutes, and of the small networks


class Folders(NamedTuple):
    """Where the parts of the benchmark read and write."""

    data: Path  # train.csv and test.csv
    work: Path  # the runs, and the result of each part


def measure(folders: Folders, parts: Sequence[str]) -> dict[str, Any]:
    """Run parts of the benchmark that the working folder lacks; return the results of all that it has, for JSON."""
    result: dict[str, Any] = {"machine": describe_machine()}
    for name, part in PARTS.items():
        path = folders.work / f"{name}.json"
        if name in parts and not path.exists():
            click.echo(f"benchmark: {name}", err=True)
            files.write_json(path, part(folders))
        if path.exists():
            result[name] = files.read_json(path)
    if "best" in result and "deotte" in result:
        best, deotte = (np.array(result[name].pop("right"), bool) for name in ("best", "deotte"))
        result["difference"] = compare_paired(deotte, best)
    return result


def describe_machine() -> dict[str, Any]:
    """Return processor, precision, versions, date and git commit."""
    versions, machine = environment.find_versions(), environment.find_machine()
    names = ["python", "keras", "numpy", *(name for name in versions if name.startswith("tensorflow"))]
    return {
        "processor": machine["processor"],
        "features": machine["features"],
        "cores": machine["threads"],
        "precision": choose_precision(find_gpus()),
        "onednn": uses_onednn(),
        "system": platform.platform(),
        "versions": {name: versions[name] for name in names},
        "measured_on": environment.now()[:10],
        "git_commit": environment.git_commit(),
    }


def measure_engine(_folders: Folders) -> dict[str, Any]:
    """Compare the throughput of the training of `single` with those of its convolutions and of a matrix product."""
    precision = choose_precision(find_gpus())
    repetitions = [_run_isolated(engine.measure_training, precision) for _ in range(REPETITIONS)]
    return _describe_processes(1) | _summarise(repetitions)


def measure_small(folders: Folders) -> dict[str, Any]:
    """Train the preset `fast` and the small CNN in stock Keras in turn, each in the environment of its own."""
    fast, small_cnn = [], []
    for seed in range(SMALL_REPETITIONS):
        fast.append(_train(folders, f"fast-{seed}", "fast", seed=seed))
        small_cnn.append(_run_isolated(_train_small_cnn, folders.data, seed))
    return {"fast": _summarise(fast), "small_cnn": _summarise(small_cnn)} | _describe_processes(1)


def _train_small_cnn(data_dir: Path, seed: int) -> dict[str, float]:
    with hide_native_messages():
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS")  # as in other programs, TensorFlow decides about oneDNN
        from benchmarks.peers import train_small_cnn

    train, config = load_train(data_dir), PRESETS["fast"]
    (fold,) = make_folds(train.labels, folds=config.folds, validation=config.validation, seed=SPLIT_SEED)
    accuracy, seconds = train_small_cnn(train, fold, seed=seed)
    return {"accuracy": accuracy, "seconds": seconds}


def measure_single(folders: Folders) -> dict[str, Any]:
    """Train the preset `single`."""
    repetitions = [_train(folders, f"single-{seed}", "single", seed=seed) for seed in range(REPETITIONS)]
    return _describe_processes(1) | _summarise(repetitions)


def measure_folds(folders: Folders) -> dict[str, Any]:
    """Train the preset `single` on five folds with two seeds."""
    repetitions = [
        _train(folders, f"folds-{seed}", "single", folds=SINGLE_FOLDS, seed=seed) for seed in range(SINGLE_SEEDS)
    ]
    return {"folds": SINGLE_FOLDS} | _describe_processes(SINGLE_FOLDS) | _summarise(repetitions)


def measure_best(folders: Folders) -> dict[str, Any]:
    """Train members of the preset `best` on each half of the rows and evaluate them on the other."""
    costs = _train(folders, "best", "best", folds=FOLDS, members=BEST_NETWORKS)
    train, members = load_train(folders.data), run_folder.member_dirs(folders.work / "best")
    probabilities = [run_folder.read_member_predictions(member).probabilities for member in members]
    scores = score_folds(train.labels, _make_halves(train), probabilities)
    return {"networks": BEST_NETWORKS} | costs | _describe_processes(len(members)) | scores


def measure_deotte(folders: Folders) -> dict[str, Any]:
    """Train some of Deotte's networks on each half of the rows with the kit's engine; evaluate them on the other."""
    train, gpus, count = load_train(folders.data), find_gpus(), FOLDS * DEOTTE_NETWORKS
    halves = _make_halves(train)
    function = functools.partial(_train_deotte, train, halves, choose_precision(gpus))
    started, before = time.perf_counter(), _measure_children()
    trained = workers.run_tasks(function, iter(range(count)), devices=split_devices(count, gpus), report=lambda _: None)
    probabilities = [values for _, values in sorted(trained, key=lambda pair: pair[0])]
    costs = {"all_seconds": time.perf_counter() - started, "processor_seconds": _measure_children() - before}
    scores = score_folds(train.labels, halves, probabilities)
    return {"networks": DEOTTE_NETWORKS} | costs | _describe_processes(count) | scores


def _measure_children() -> float:
    """Return the CPU time of the ended child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _train_deotte(
    train: Dataset, halves: list[Fold], precision: str, index: int, _report: workers.Report
) -> tuple[int, np.ndarray]:
    with hide_native_messages():
        from benchmarks.peers import train_deotte

        return index, train_deotte(train, halves[index // DEOTTE_NETWORKS], seed=index, precision=precision)


def score_folds(labels: np.ndarray, folds: Sequence[Fold], networks: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the accuracy of the ensembles of some folds on their held-out rows, and for each row if it is right.

    Args:
        labels: uint8 [n], of train.csv.
        folds: Together they hold out every row.
        networks: Probabilities of each network for the held-out rows of its fold, ordered by fold.
    """
    count, right = len(networks) // len(folds), np.zeros(len(labels), int)
    for number, fold in enumerate(folds):
        mean = np.mean(networks[number * count : (number + 1) * count], axis=0)
        right[fold.validation] = mean.argmax(axis=1) == labels[fold.validation]
    return {"accuracy": float(right.mean()), "right": right.tolist()}


def compare_paired(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Return the difference of two accuracies on the same rows, bool [n] each, with its standard error."""
    difference = ours.astype(float) - theirs.astype(float)
    return {
        "accuracy": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def _make_halves(train: Dataset) -> list[Fold]:
    """Return the folds of a run of `best` with FOLDS=2."""
    return make_folds(train.labels, folds=FOLDS, validation=PRESETS["best"].validation, seed=SPLIT_SEED)


def _train(folders: Folders, run: str, preset: str, **settings: int) -> dict[str, float]:
    """Train a run as `make train` does, in a process of its own; return its accuracy and its costs."""
    record = _run_isolated(_train_run, folders, run, preset, settings)
    return {
        "accuracy": record["scores"]["validation_accuracy"],
        "seconds": float(run_folder.read_history(folders.work / run / "member-0")["seconds"].sum()),  # of its epochs
        "all_seconds": record["training_seconds"],
        "processor_seconds": record["processor_seconds"],
    }


def _train_run(folders: Folders, run: str, preset: str, settings: dict[str, int]) -> dict[str, Any]:
    config = make_config(preset, split_seed=SPLIT_SEED, **settings)
    return pipeline.train(config, folders.data, folders.work, Console(stderr=True), run=run)[1]


def _run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that it inherits neither memory nor threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _describe_processes(networks: int) -> dict[str, int]:
    """Return the number of processes that train some networks, and the threads of each."""
    devices = split_devices(networks, find_gpus())
    threads = int(devices[0].get("TF_NUM_INTRAOP_THREADS", count_cores()))
    return {"processes": len(devices), "threads": threads}


def _summarise(repetitions: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the number of repetitions, and the mean and standard deviation of each value."""
    result: dict[str, Any] = {"repetitions": len(repetitions)}
    for name in repetitions[0]:
        values = [repetition[name] for repetition in repetitions]
        result[name] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
    return result


PARTS: dict[str, Callable[[Folders], dict[str, Any]]] = {
    "engine": measure_engine,
    "small": measure_small,
    "single": measure_single,
    "folds": measure_folds,
    "best": measure_best,
    "deotte": measure_deotte,
}


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of train.csv and test.csv.")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default="bench", help="Folder for results; finished parts are kept."
)
@click.option("--parts", default=" ".join(PARTS), help="Parts to measure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
def main(data_dir: Path, work_dir: Path, parts: str, as_json: bool) -> None:
    """Benchmark the kit against other people's recipes on this machine; all parts take 90 minutes."""
    if unknown := sorted(set(parts.split()) - set(PARTS)):
        raise UserError(f"expected parts out of {', '.join(PARTS)}, received {unknown[0]!r}")
    result = measure(Folders(data_dir, work_dir), parts.split())
    files.write_json(work_dir / "benchmark.json", result)
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else tables.make_benchmark_tables(result))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"benchmark: {error}")
