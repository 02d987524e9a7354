"""Benchmark the kit against other people's recipes on this machine: `python -m benchmarks.benchmark --data-dir data`.

Recipes run one after the other on the same rows. Finished parts are kept in the working folder and not measured again.
"""

import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
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
from digit_recognizer.data.csv_files import load_train, normalise
from digit_recognizer.data.folds import make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.training import environment, run_folder
from digit_recognizer.training.devices import choose_precision, find_gpus, uses_onednn

# Other people's networks: the modules of `train_NAME`.
PEERS = {"small_cnn": "peers", "pytorch_example": "torch_peers", "ttdoucet": "torch_peers", "deotte": "peers"}
PEERS_VALIDATION = 0.2  # of the rows: 8,400, for a small standard error
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
    return result


def describe_machine() -> dict[str, Any]:
    """Return processor, precision, versions, date and git commit."""
    versions, machine = environment.find_versions(), environment.find_machine()
    versions |= {"torch": importlib.metadata.version("torch")} if importlib.util.find_spec("torch") else {}
    names = ("python", "keras", "numpy", "tensorflow", "tensorflow-cpu", "torch")
    return {
        "processor": machine["processor"],
        "features": machine["features"],
        "cores": machine["threads"],
        "precision": choose_precision(find_gpus()),
        "onednn": uses_onednn(),
        "system": platform.platform(),
        "versions": {name: versions[name] for name in names if name in versions},
        "measured_on": environment.now()[:10],
        "git_commit": environment.git_commit(),
    }


def measure_engine(_folders: Folders) -> dict[str, Any]:
    """Compare the throughput of the training of `single` with those of its convolutions and of a matrix product."""
    precision = choose_precision(find_gpus())
    repetitions = [_run_isolated(engine.measure_training, precision) for _ in range(REPETITIONS)]
    return _summarise(repetitions)


def measure_small(folders: Folders) -> dict[str, Any]:
    """Train the preset `fast` and the small CNN in stock Keras in turn, each in the environment of its own."""
    fast, small_cnn, validation = [], [], PRESETS["fast"].validation
    for seed in range(SMALL_REPETITIONS):
        fast.append(_train(folders, f"fast-{seed}", "fast", seed=seed))
        trained = _run_isolated(_train_peer, folders, "small_cnn", validation, seed)
        small_cnn.append({name: trained[name] for name in ("accuracy", "seconds")})
    return {"fast": _summarise(fast), "small_cnn": _summarise(small_cnn)}


def measure_single(folders: Folders) -> dict[str, Any]:
    """Train the preset `single` with several seeds."""
    return _summarise([_train(folders, f"single-{seed}", "single", seed=seed) for seed in range(REPETITIONS)])


def measure_best(folders: Folders) -> dict[str, Any]:
    """Train the preset `best`; score all rows out of fold, and each of its networks alone."""
    result, config = _train(folders, "best", "best"), PRESETS["best"]
    members = map(run_folder.read_member_predictions, run_folder.member_dirs(folders.work / "best"))
    networks = [{"accuracy": _score(probabilities, labels)["accuracy"]} for _, labels, probabilities in members]
    return {"folds": config.folds, "members": config.members, "networks": _summarise(networks)} | result


def measure_peers(folders: Folders) -> dict[str, Any]:
    """Train the presets `fast` and `single` and other people's networks on the same rows, each in a new process.

    CPU time and wall time are those of the whole process, from its start to the predictions for the held-out rows.
    """
    networks: dict[str, dict[str, Any]] = {}
    for name in ("fast", "single", *PEERS):
        path = folders.work / f"peer-{name}.json"  # so that an interrupted part goes on
        if not path.exists():
            started, before = time.perf_counter(), environment.measure_usage()[0]
            result = _run_isolated(_train_peer if name in PEERS else _train_preset, folders, name, PEERS_VALIDATION)
            seconds, usage = time.perf_counter() - started, environment.measure_usage()[0] - before
            files.write_json(path, result | {"all_seconds": seconds, "processor_seconds": usage})
        networks[name] = files.read_json(path)
    right = {name: np.array(network.pop("right"), bool) for name, network in networks.items()}
    for name, network in networks.items():
        network["difference"] = compare_paired(right[name], right["single"])
    return {"rows": len(right["single"]), "networks": networks}


def _train_preset(folders: Folders, name: str, validation: float) -> dict[str, Any]:
    _train_run(folders, f"peer-{name}", name, {"validation": validation})
    _, labels, probabilities = run_folder.read_member_predictions(folders.work / f"peer-{name}" / "member-0")
    return _score(probabilities, labels)


def _train_peer(folders: Folders, name: str, validation: float, seed: int = 0, **options: int) -> dict[str, Any]:
    with hide_native_messages():
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS")  # as in other programs, TensorFlow decides about oneDNN
        train_network = getattr(importlib.import_module(f"benchmarks.{PEERS[name]}"), f"train_{name}")
    train = load_train(folders.data)
    (fold,) = make_folds(train.labels, folds=1, validation=validation, seed=SPLIT_SEED)
    images, held_out = normalise(train.images[fold.train]), normalise(train.images[fold.validation])
    started = time.perf_counter()
    probabilities, parameters = train_network(images, train.labels[fold.train], held_out, seed=seed, **options)
    seconds = time.perf_counter() - started
    return {"parameters": parameters, "seconds": seconds, **_score(probabilities, train.labels[fold.validation])}


def _score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the accuracy, and for each row if it is right."""
    right = probabilities.argmax(axis=1) == labels
    return {"accuracy": float(right.mean()), "right": right.tolist()}


def compare_paired(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Return the difference of two accuracies on the same rows, bool [n] each, with its standard error."""
    difference = ours.astype(float) - theirs.astype(float)
    return {
        "accuracy": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def _train(folders: Folders, run: str, preset: str, **settings: int) -> dict[str, float]:
    """Train a run as `make train` does, in a process of its own; return its accuracy and its costs."""
    record = _run_isolated(_train_run, folders, run, preset, settings)
    return {
        "accuracy": record["scores"]["validation_accuracy"],
        "seconds": float(run_folder.read_history(folders.work / run / "member-0")["seconds"].sum()),  # of its epochs
        "all_seconds": record["training_seconds"],
        "processor_seconds": record["processor_seconds"],
    }


def _train_run(folders: Folders, run: str, preset: str, settings: Mapping[str, float]) -> dict[str, Any]:
    config = make_config(preset, split_seed=SPLIT_SEED, **settings)
    return pipeline.train(config, folders.data, folders.work, Console(stderr=True), run=run)[1]


def _run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, so that it inherits neither memory nor threads."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


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
    "best": measure_best,
    "peers": measure_peers,
}


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of train.csv and test.csv.")
@click.option(
    "--work-dir", type=click.Path(path_type=Path), default="bench", help="Folder for results; finished parts are kept."
)
@click.option("--parts", default=" ".join(PARTS), help="Parts to measure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout and nothing else.")
def main(data_dir: Path, work_dir: Path, parts: str, as_json: bool) -> None:
    """Benchmark the kit against other people's recipes on this machine; all parts take two hours."""
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
