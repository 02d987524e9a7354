"""Benchmark the kit against other people's recipes on this machine, or compare settings of the kit (ablation).

Run as `python -m benchmarks.benchmark --data-dir data`. Recipes run one after the other on the same rows. Finished
parts are kept in the working folder and not measured again.
"""

import functools
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import psutil
import typer
from rich.console import Console

from benchmarks import engine, tables
from digit_recognizer import files
from digit_recognizer.config import CLASSES, COMPETITION, PRESETS, Config
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import metrics
from digit_recognizer.training import ensemble, records, runs, workers
from digit_recognizer.training.devices import choose_precision, count_cores, find_gpus, split_devices

FOLDS = 2  # for the comparison of ensembles: all rows count, and few networks have to be trained
HALF = 0.5  # fraction of the rows in a fold of two, and held out in the ablation
REPETITIONS = 3  # of everything that takes minutes at most

SAMPLE_SECONDS = 5.0  # between two measurements of memory, which slow the processes down

Say = Callable[[str], None]


class Job(NamedTuple):
    """Settings that all of Deotte's networks share."""

    data: Dataset
    folds: list[Fold]
    networks: int  # per fold
    precision: str
    epochs: int


class Variation(NamedTuple):
    """Difference of a setting to the preset `single` without test-time augmentation."""

    changes: dict[str, Any]  # fields of `Config`
    kept: str  # the preset that uses it


VARIATIONS = {
    "as it is": Variation({}, "`single`"),
    "a residual and an upright network": Variation({"architectures": ("residual", "upright")}, "`best`"),
    "upright networks": Variation({"architectures": ("upright",)}, "no"),
    "plain networks": Variation({"architectures": ("plain",)}, "`fast`"),
    "no augmentation": Variation({"augment": False}, "`fast`"),
    "6 epochs": Variation({"epochs": 6}, "no"),
    "nine views": Variation({"views": 9}, "`single`"),
}


def measure(
    data_dir: Path, work_dir: Path, *, networks: int, members: int, rival_epochs: int, say: Say
) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        data_dir: Folder of train.csv and test.csv.
        work_dir: Folder for the runs and the results of each part.
        networks: Number of Deotte's networks to train to their end, per fold.
        members: Number of networks of the preset `best`, per fold.
        rival_epochs: Epochs of Deotte's networks; 45 in his recipe.
        say: Prints the name of each part.

    Returns:
        The results, ready for JSON: one key per part.
    """
    parts: dict[str, Callable[[], Any]] = {
        "engine": measure_engine,
        "fast": functools.partial(measure_fast, data_dir, work_dir),
        "single": functools.partial(measure_single, data_dir, work_dir),
        "deotte_stock": functools.partial(_run_isolated, time_deotte, data_dir),
        "best": functools.partial(measure_best, data_dir, work_dir, members),
        "deotte": functools.partial(measure_deotte, data_dir, networks, rival_epochs),
    }
    result: dict[str, Any] = {"machine": describe_machine()}
    for name, part in parts.items():
        path = work_dir / f"{name}.json"
        if not path.exists():
            say(f"benchmark: {name}")
            files.write_json(path, part())
        result[name] = files.read_json(path)
    deotte, best = (np.array(result[name].pop("right"), bool) for name in ("deotte", "best"))
    result["difference"] = compare_paired(deotte, best)
    halves = [fold.validation for fold in _make_halves(load_train(data_dir))]
    result["halves"] = [compare_paired(deotte[rows], best[rows]) for rows in halves]
    return result


def ablate(data_dir: Path, work_dir: Path, *, say: Say) -> dict[str, Any]:
    """Train two members of each of `VARIATIONS` on one half of the rows; skip finished runs.

    Returns:
        Per variation: mean accuracy of its members on the other half, paired difference to the first variation,
        accuracy of the ensemble of both, and CPU time.
    """
    result, first = {}, None
    for number, (name, (changes, kept)) in enumerate(VARIATIONS.items()):
        say(f"ablation: {name}")
        config = replace(PRESETS["single"], members=2, validation=HALF, **{"views": 1} | changes)
        run_dir = work_dir / f"ablation-{number}"
        record = _run_isolated(_train_variation, data_dir, run_dir, config)
        labels = runs.read_predictions(run_dir).labels
        members = np.array([runs.read_member_predictions(folder).probabilities for folder in runs.member_dirs(run_dir)])
        correct = (members.argmax(axis=2) == labels).mean(axis=0)
        first = correct if first is None else first
        result[name] = {
            "changes": changes,
            "kept": kept,
            "accuracy": float(correct.mean()),
            "difference": compare_paired(first, correct),
            "together": metrics.accuracy(labels, members.mean(axis=0)).value,
            "processor_seconds": record["processor_seconds"],
        }
    return {"machine": describe_machine(), "rows": len(labels), "variations": result}


def _train_variation(data_dir: Path, run_dir: Path, config: Config) -> dict[str, Any]:
    train = load_train(data_dir)
    record = records.new_record(
        config,
        run=run_dir.name,
        competition=COMPETITION,
        data={"train.csv": train.sha256, "test.csv": None},
        git_commit=runs.git_commit(),
    )
    return ensemble.train_members(config, train, run_dir, record, Console(stderr=True), gpus=find_gpus())


def describe_machine() -> dict[str, Any]:
    """Return processor, versions, date and git commit."""
    record = records.new_record(PRESETS["single"], run="", competition="", data={}, git_commit=runs.git_commit())
    versions = record["versions"]
    names = ["python", "keras", "numpy", *(name for name in versions if name.startswith("tensorflow"))]
    return {
        "processor": record["machine"]["processor"],
        "cores": count_cores(),
        "system": platform.platform(),
        "versions": {name: versions[name] for name in names},
        "measured_on": records.now()[:10],
        "git_commit": record["git_commit"],
    }


def measure_engine() -> dict[str, Any]:
    """Compare the training throughput of `single` with that of its convolutions alone."""
    precision = choose_precision(find_gpus())
    repetitions = [_run_isolated(engine.measure_training, precision) for _ in range(REPETITIONS)]
    return {"precision": precision} | _describe_processes(1) | _summarise(repetitions)


def measure_fast(data_dir: Path, work_dir: Path) -> dict[str, Any]:
    """Train the preset `fast` and the small CNN in stock Keras in turn."""
    fast, small = [], []
    for seed in range(REPETITIONS):
        record, _ = _train(data_dir, work_dir, f"fast-{seed}", "--preset=fast", f"--seed={seed}")
        seconds = float(runs.read_history(work_dir / f"fast-{seed}" / "member-0")["seconds"].sum())
        fast.append({"accuracy": record["scores"]["validation_accuracy"], "seconds": seconds})
        small.append(_run_isolated(_train_predecessor, data_dir, seed))
    return {"fast": _summarise(fast), "predecessor": _summarise(small)} | _describe_processes(1)


def _train_predecessor(data_dir: Path, seed: int) -> dict[str, float]:
    with hide_native_messages():
        from benchmarks.peers import train_predecessor

    train, config = load_train(data_dir), PRESETS["fast"]
    folds = make_folds(train.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    accuracy, measured = train_predecessor(train, folds[0], seed=seed)
    return {"accuracy": accuracy, "seconds": measured.seconds}


def measure_single(data_dir: Path, work_dir: Path) -> dict[str, Any]:
    """Train the preset `single` on all rows, then time its predictions."""
    repetitions = []
    for seed in range(REPETITIONS):
        run = f"single-{seed}"
        record, memory = _train(data_dir, work_dir, run, "--preset=single", "--folds=0", f"--seed={seed}")
        member = work_dir / run / "member-0"
        rate = _run_isolated(engine.measure_prediction, data_dir, member / "model.keras", record["precision"])
        repetitions.append(
            {
                "seconds": float(runs.read_history(member)["seconds"].sum()),
                "all_seconds": record["training_seconds"],
                "first_step_seconds": record["first_step_seconds"],
                "memory_bytes": memory,
                "predictions_per_second": rate,
            }
        )
    return _describe_processes(1) | _summarise(repetitions)


def time_deotte(data_dir: Path) -> dict[str, float]:
    """Time Deotte's recipe in stock Keras and extrapolate to his ensemble, on the rows that `best` is trained on."""
    with hide_native_messages():
        from benchmarks import peers

    train = load_train(data_dir)
    (fold, *_), rows = _make_halves(train), len(train.labels)
    measured = peers.time_deotte(train, fold, steps=engine.STEPS)
    images_per_epoch = int(peers.DEOTTE_FRACTION * (FOLDS - 1) * rows)  # of all folds
    factor = tables.DEOTTE_NETWORKS * peers.DEOTTE_EPOCHS * images_per_epoch / measured.images
    return {
        "images_per_second": measured.images / measured.seconds,
        "timed_images": measured.images,
        "seconds": factor * measured.seconds,
        "processor_seconds": factor * measured.cpu_seconds,
    } | _describe_processes(1)


def measure_best(data_dir: Path, work_dir: Path, members: int) -> dict[str, Any]:
    """Train members of the preset `best` on each half of the rows and evaluate them on the other."""
    record, memory = _train(data_dir, work_dir, "best", "--preset=best", f"--folds={FOLDS}", f"--members={members}")
    train = load_train(data_dir)
    networks = [runs.read_member_predictions(folder).probabilities for folder in runs.member_dirs(work_dir / "best")]
    return {
        "members": members,
        "seconds": record["training_seconds"],
        "processor_seconds": record["processor_seconds"],
        "memory_bytes": memory,
        **_describe_processes(FOLDS * members),
        **score_folds(train.labels, _make_halves(train), networks),
    }


def measure_deotte(data_dir: Path, networks: int, epochs: int) -> dict[str, Any]:
    """Train some of Deotte's networks on each half of the rows with the kit's engine; evaluate them on the other."""
    train, gpus = load_train(data_dir), find_gpus()
    job = Job(train, _make_halves(train), networks, choose_precision(gpus), epochs)
    function, count = functools.partial(_train_deotte, job), FOLDS * networks
    started = time.perf_counter()
    trained = workers.run_tasks(function, range(count), split_devices(count, gpus), report=lambda _: None)
    probabilities = [values for _, values in sorted(trained, key=lambda pair: pair[0])]
    return {
        "networks": networks,
        "epochs": epochs,
        "seconds": time.perf_counter() - started,
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
    return make_folds(train.labels, folds=FOLDS, validation=HALF, seed=PRESETS["best"].split_seed)


def _train(data_dir: Path, work_dir: Path, run: str, *arguments: str) -> tuple[dict[str, Any], int]:
    """Run `digit-recognizer train`; return the record of the run and the peak memory of all processes in bytes."""
    command = [sys.executable, "-c", "from digit_recognizer.cli import main; main()", "train", *arguments]
    command += [f"--run={run}", f"--data-dir={data_dir}", f"--models-dir={work_dir}", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = 0
    while process.returncode is None:
        try:
            process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            memory = max(memory, _measure_memory(process.pid))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return runs.read_finished_record(work_dir / run), memory


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


def main(
    *,
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv and test.csv.")] = Path("data"),
    work_dir: Annotated[Path, typer.Option(help="Folder for runs and results; finished parts are kept.")] = Path(
        "bench"
    ),
    networks: Annotated[int, typer.Option(help="Deotte's networks to train to their end, per fold.")] = 3,
    members: Annotated[int, typer.Option(help="Networks of the preset best, per fold.")] = 6,
    rival_epochs: Annotated[int, typer.Option(help="Epochs of Deotte's networks.")] = 45,
    ablation: Annotated[bool, typer.Option("--ablation", help="Compare settings of the kit instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """Benchmark the kit against other people's recipes, or compare settings; takes two hours."""
    say = functools.partial(typer.echo, err=True)
    if ablation:
        name, make_text = "ablation", tables.ablation_table
        result = ablate(data_dir, work_dir, say=say)
    else:
        name, make_text = "benchmark", tables.benchmark_tables
        result = measure(data_dir, work_dir, networks=networks, members=members, rival_epochs=rival_epochs, say=say)
    files.write_json(work_dir / f"{name}-result.json", result)
    typer.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else make_text(result))


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"benchmark: {error}")
