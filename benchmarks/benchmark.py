"""Benchmark the kit against other people's recipes on this machine: `python -m benchmarks.benchmark --data-dir data`.

Recipes run one after the other on the same rows. Finished parts are kept in the working folder and not measured again.
"""

import functools
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import psutil
import typer

from benchmarks import engine, tables
from digit_recognizer import files
from digit_recognizer.config import CLASSES, PRESETS
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import metrics
from digit_recognizer.training import devices, records, runs, workers
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices

FOLDS = 2  # for the comparison of ensembles: all rows count, and few networks have to be trained
SINGLE_FOLDS, SINGLE_SEEDS = 5, 2  # for the out-of-fold accuracy of `single`
SPLIT_SEED = 2  # of all accuracies: settings were chosen on the splits of the seeds 0 and 1
REPETITIONS, SMALL_REPETITIONS = 2, 5  # of what takes minutes, and of the small networks

SAMPLE_SECONDS = 5.0  # between two measurements of memory, which slow the processes down

Say = Callable[[str], None]


class Job(NamedTuple):
    """Settings that all of Deotte's networks share."""

    data: Dataset
    folds: list[Fold]
    networks: int  # per fold
    precision: str
    epochs: int


class Options(NamedTuple):
    """What the parts of the benchmark need."""

    data_dir: Path  # of train.csv and test.csv
    work_dir: Path  # of the runs and the results of each part
    networks: int = 1  # of Deotte's to train to their end, per fold
    members: int = 4  # of the preset `best`, per fold
    rival_epochs: int = 45  # of Deotte's networks


def measure(options: Options, parts: Sequence[str], *, say: Say) -> dict[str, Any]:
    """Run parts of the benchmark that the working folder lacks; return the results of all that it has, for JSON."""
    result: dict[str, Any] = {"machine": describe_machine()}
    for name, part in PARTS.items():
        path = options.work_dir / f"{name}.json"
        if name in parts and not path.exists():
            say(f"benchmark: {name}")
            files.write_json(path, part(options))
        if path.exists():
            result[name] = files.read_json(path)
    if "best" in result and "deotte" in result:
        best, deotte = (np.array(result[name].pop("right"), bool) for name in ("best", "deotte"))
        result["difference"] = compare_paired(deotte, best)
    return result


def describe_machine() -> dict[str, Any]:
    """Return processor, precision, versions, date and git commit."""
    record = records.new_record(PRESETS["single"], run="", competition="", data={}, git_commit=runs.git_commit())
    versions, machine = record["versions"], record["machine"]
    names = ["python", "keras", "numpy", *(name for name in versions if name.startswith("tensorflow"))]
    return {
        "processor": machine["processor"],
        "features": machine["features"],
        "limited": devices.limited_to_avx2(),  # oneDNN imitates a processor with AVX2 only
        "cores": machine["threads"],
        "precision": choose_precision(find_gpus()),
        "onednn": record["onednn"],
        "system": platform.platform(),
        "versions": {name: versions[name] for name in names},
        "measured_on": records.now()[:10],
        "git_commit": record["git_commit"],
    }


def measure_engine(_options: Options) -> dict[str, Any]:
    """Compare the throughput of the training of `single` with those of its convolutions and of a matrix product."""
    precision = choose_precision(find_gpus())
    repetitions = [_run_isolated(engine.measure_training, precision) for _ in range(REPETITIONS)]
    return {"precision": precision} | _describe_processes(1) | _summarise(repetitions)


def measure_small(options: Options) -> dict[str, Any]:
    """Train the preset `fast` and the small CNN in stock Keras in turn, each in the environment of its own."""
    fast, small = [], []
    for seed in range(SMALL_REPETITIONS):
        record, _ = _train(options, f"fast-{seed}", "--preset=fast", f"--seed={seed}")
        seconds = float(runs.read_history(options.work_dir / f"fast-{seed}" / "member-0")["seconds"].sum())
        accuracy, first = record["scores"]["validation_accuracy"], record["first_step_seconds"]
        fast.append({"accuracy": accuracy, "seconds": seconds, "first_step_seconds": first})
        small.append(_run_isolated(_train_predecessor, options.data_dir, seed))
    return {"fast": _summarise(fast), "predecessor": _summarise(small)} | _describe_processes(1)


def _train_predecessor(data_dir: Path, seed: int) -> dict[str, float]:
    _import_peers()
    from benchmarks.peers import train_predecessor

    train, config = load_train(data_dir), PRESETS["fast"]
    (fold,) = make_folds(train.labels, folds=config.folds, validation=config.validation, seed=SPLIT_SEED)
    accuracy, measured = train_predecessor(train, fold, seed=seed)
    return {"accuracy": accuracy, "seconds": measured.seconds}


def _import_peers() -> None:
    """Import TensorFlow as other programs do: it decides about oneDNN."""
    with hide_native_messages():
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS")
        if devices.limited_to_avx2():  # it looks at the processor, not at the limit
            os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
        importlib.import_module("benchmarks.peers")


def measure_single(options: Options) -> dict[str, Any]:
    """Train the preset `single`, then time its predictions."""
    repetitions = []
    for seed in range(REPETITIONS):
        run = f"single-{seed}"
        record, memory = _train(options, run, "--preset=single", f"--seed={seed}")
        member = options.work_dir / run / "member-0"
        path = member / "model.keras"
        rate = _run_isolated(engine.measure_prediction, options.data_dir, path, record["precision"])
        repetitions.append(
            {
                "accuracy": record["scores"]["validation_accuracy"],
                "seconds": float(runs.read_history(member)["seconds"].sum()),
                "all_seconds": record["training_seconds"],
                "first_step_seconds": record["first_step_seconds"],
                "memory_bytes": memory,
                "predictions_per_second": rate,
            }
        )
    return _describe_processes(1) | _summarise(repetitions)


def measure_folds(options: Options) -> dict[str, Any]:
    """Train the preset `single` on five folds with two seeds."""
    repetitions = []
    for seed in range(SINGLE_SEEDS):
        record, _ = _train(options, f"folds-{seed}", "--preset=single", f"--folds={SINGLE_FOLDS}", f"--seed={seed}")
        accuracy = record["scores"]["validation_accuracy"]
        seconds, cpu_seconds = record["training_seconds"], record["processor_seconds"]
        repetitions.append({"accuracy": accuracy, "seconds": seconds, "processor_seconds": cpu_seconds})
    return {"folds": SINGLE_FOLDS} | _describe_processes(SINGLE_FOLDS) | _summarise(repetitions)


def time_deotte(options: Options) -> dict[str, Any]:
    """Time a part of Deotte's recipe in stock Keras, on the rows that `best` is trained on."""
    return _run_isolated(_time_deotte, options.data_dir) | _describe_processes(1)


def _time_deotte(data_dir: Path) -> dict[str, float]:
    _import_peers()
    from benchmarks import peers

    train = load_train(data_dir)
    (fold, *_), rows = _make_halves(train), len(train.labels)
    measured = peers.time_deotte(train, fold, steps=engine.STEPS)
    images_per_epoch = int(peers.DEOTTE_FRACTION * (FOLDS - 1) * rows)  # of all folds
    factor = peers.DEOTTE_EPOCHS * images_per_epoch / measured.images
    return {
        "images_per_second": measured.images / measured.seconds,
        "timed_images": measured.images,
        "seconds": factor * measured.seconds,  # extrapolated to one network per fold
        "processor_seconds": factor * measured.cpu_seconds,
    }


def measure_best(options: Options) -> dict[str, Any]:
    """Train members of the preset `best` on each half of the rows and evaluate them on the other."""
    members = options.members
    record, memory = _train(options, "best", "--preset=best", f"--folds={FOLDS}", f"--members={members}")
    train, folders = load_train(options.data_dir), runs.member_dirs(options.work_dir / "best")
    networks = [runs.read_member_predictions(folder).probabilities for folder in folders]
    return {
        "networks": members,
        "seconds": record["training_seconds"],
        "processor_seconds": record["processor_seconds"],
        "memory_bytes": memory,
        **_describe_processes(FOLDS * members),
        **score_folds(train.labels, _make_halves(train), networks),
    }


def measure_deotte(options: Options) -> dict[str, Any]:
    """Train some of Deotte's networks on each half of the rows with the kit's engine; evaluate them on the other."""
    train, gpus = load_train(options.data_dir), find_gpus()
    job = Job(train, _make_halves(train), options.networks, choose_precision(gpus), options.rival_epochs)
    function, count = functools.partial(_train_deotte, job), FOLDS * options.networks
    started, before = time.perf_counter(), psutil.Process().cpu_times()
    trained = workers.run_tasks(function, range(count), split_devices(count, gpus), report=lambda _: None)
    probabilities = [values for _, values in sorted(trained, key=lambda pair: pair[0])]
    used = psutil.Process().cpu_times()  # of the ended workers too
    return {
        "networks": options.networks,
        "epochs": options.rival_epochs,
        "seconds": time.perf_counter() - started,
        "processor_seconds": used.children_user + used.children_system - before.children_user - before.children_system,
        **_describe_processes(count),
        **score_folds(train.labels, job.folds, probabilities),
    }


def _train_deotte(job: Job, index: int, _report: workers.Report) -> tuple[int, np.ndarray]:
    with hide_native_messages():
        from benchmarks.peers import train_deotte

        fold = job.folds[index // job.networks]
        return index, train_deotte(job.data, fold, seed=index, precision=job.precision, epochs=job.epochs)


def score_folds(labels: np.ndarray, folds: Sequence[Fold], networks: Sequence[np.ndarray]) -> dict[str, Any]:
    """Score the ensembles of some folds on their held-out rows.

    Args:
        labels: uint8 [n], of train.csv.
        folds: Together they hold out every row.
        networks: Probabilities of each network for the held-out rows of its fold, ordered by fold.

    Returns:
        Accuracy of the ensembles; mean and standard deviation of the accuracy of single networks; for each row whether
        its prediction is correct.
    """
    count = len(networks) // len(folds)
    mean, single = np.zeros((len(labels), CLASSES), np.float32), []
    for number, fold in enumerate(folds):
        members = networks[number * count : (number + 1) * count]
        mean[fold.validation] = np.mean(members, axis=0)
        single += [metrics.accuracy(labels[fold.validation], one).value for one in members]
    return {
        "accuracy": metrics.accuracy(labels, mean).value,
        "alone": {"mean": statistics.mean(single), "deviation": statistics.stdev(single)},
        "right": (mean.argmax(axis=1) == labels).astype(int).tolist(),
    }


def compare_paired(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Return the difference of two accuracies on the same rows with its standard error.

    Args:
        theirs: [n] in [0, 1]: whether the prediction of a row is correct, or the mean over several networks.
        ours: same.
    """
    difference = ours.astype(float) - theirs.astype(float)
    return {
        "rows": len(difference),
        "only_ours_right": int((difference > 0).sum()),
        "only_theirs_right": int((difference < 0).sum()),
        "accuracy": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def _make_halves(train: Dataset) -> list[Fold]:
    """Return the folds of a run of `best` with FOLDS=2."""
    return make_folds(train.labels, folds=FOLDS, validation=PRESETS["best"].validation, seed=SPLIT_SEED)


def _train(options: Options, run: str, *arguments: str) -> tuple[dict[str, Any], int]:
    """Run `digit-recognizer train`; return the record of the run and the peak memory of all processes in bytes."""
    command = [sys.executable, "-c", "from digit_recognizer.cli import main; main()", "train", *arguments]
    command += [f"--run={run}", f"--data-dir={options.data_dir}", f"--models-dir={options.work_dir}", "--json"]
    command += [f"--split-seed={SPLIT_SEED}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = 0
    while process.returncode is None:
        try:
            process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            memory = max(memory, _measure_memory(process.pid))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return runs.read_finished_record(options.work_dir / run), memory


def _measure_memory(pid: int) -> int:
    """Return the memory of a process and its descendants in bytes; shared pages count once."""
    try:
        parent = psutil.Process(pid)
        return sum(process.memory_full_info().pss for process in [parent, *parent.children(recursive=True)])
    except psutil.NoSuchProcess:  # one has ended meanwhile
        return 0


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
        values = [one[name] for one in repetitions]
        result[name] = {"mean": statistics.mean(values), "deviation": statistics.stdev(values)}
    return result


PARTS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "engine": measure_engine,
    "small": measure_small,
    "single": measure_single,
    "deotte_stock": time_deotte,
    "folds": measure_folds,
    "best": measure_best,
    "deotte": measure_deotte,
}


def main(
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv and test.csv.")] = Path("data"),
    work_dir: Annotated[Path, typer.Option(help="Folder for runs and results; finished parts are kept.")] = Path(
        "bench"
    ),
    parts: Annotated[str, typer.Option(help="Parts to measure.")] = " ".join(PARTS),
    networks: Annotated[int, typer.Option(help="Deotte's networks to train to their end, per fold.")] = 1,
    members: Annotated[int, typer.Option(help="Networks of the preset best, per fold.")] = 4,
    rival_epochs: Annotated[int, typer.Option(help="Epochs of Deotte's networks.")] = 45,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """Benchmark the kit against other people's recipes on this machine; all parts take 90 minutes."""
    if unknown := sorted(set(parts.split()) - set(PARTS)):
        raise UserError(f"expected parts out of {', '.join(PARTS)}, received {unknown[0]!r}")
    options = Options(data_dir, work_dir, networks, members, rival_epochs)
    result = measure(options, parts.split(), say=functools.partial(typer.echo, err=True))
    files.write_json(work_dir / "benchmark.json", result)
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else tables.benchmark_tables(result))


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"benchmark: {error}")
