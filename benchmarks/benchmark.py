"""The benchmark: the kit beside other people's recipes, each side in turn on this machine and the same rows."""

import functools
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.config import CLASSES, COMPETITION, PRESETS, Config
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import Dataset, load_test, load_train
from digit_recognizer.data.folds import Fold, make_folds
from digit_recognizer.evaluation import metrics
from digit_recognizer.training import devices, ensemble, runs, workers
from digit_recognizer.training.precision import choose_precision

HALVES = 2  # folds where two ensembles are compared: all rows decide, and few networks have to be trained
HALF = 0.5  # of the rows is held out where settings are compared
REPETITIONS = 3  # of what takes minutes at most
STEPS = 150  # of a recipe that is timed and not trained to its end
SAMPLE_SECONDS = 5.0  # between two looks at the memory, each of which holds the processes up

Say = Callable[[str], None]


class Job(NamedTuple):
    """What the trainings of Deotte's networks have in common."""

    data: Dataset
    folds: list[Fold]
    networks: int  # of each fold
    precision: str
    epochs: int


def measure(
    data_dir: Path, work_dir: Path, *, networks: int, members: int, rival_epochs: int, say: Say
) -> dict[str, Any]:
    """Runs the benchmark.

    Args:
        data_dir: the folder of train.csv and test.csv.
        work_dir: where the runs go; a part that is there is not measured again.
        networks: how many of Deotte's networks to train in full, on each of two folds.
        members: of the preset `best`, on each of the same folds.
        rival_epochs: of Deotte's networks; 45 are his.
        say: is told of each part.

    Returns:
        A value for JSON: a part a key.
    """
    parts: dict[str, Callable[[], Any]] = {
        "engine": _engine,
        "fast": functools.partial(_fast, data_dir, work_dir),
        "single": functools.partial(_single, data_dir, work_dir),
        "deotte_stock": functools.partial(_alone, _time_deotte, data_dir),
        "best": functools.partial(_best, data_dir, work_dir, members),
        "deotte": functools.partial(_deotte, data_dir, networks, rival_epochs),
    }
    result: dict[str, Any] = {"machine": _machine()}
    for name, part in parts.items():
        path = work_dir / f"{name}.json"
        if not path.exists():
            say(f"benchmark: {name}")
            files.write_json(path, part())
        result[name] = files.read_json(path)
    right = {name: np.array(result[name].pop("right"), bool) for name in ("best", "deotte")}
    result["difference"] = _difference(right["deotte"], right["best"])
    rows = [fold.validation for fold in _halves(load_train(data_dir))]
    result["halves"] = [_difference(right["deotte"][half], right["best"][half]) for half in rows]
    return result


class Variation(NamedTuple):
    """What differs from the preset `single` with one view of an image."""

    changes: dict[str, Any]  # fields of `Config`
    kept: str  # where


VARIATIONS = {
    "as it is": Variation({}, "`single`"),
    "a residual and an upright network": Variation({"architectures": ("residual", "upright")}, "`best`"),
    "upright networks": Variation({"architectures": ("upright",)}, "no"),
    "plain networks": Variation({"architectures": ("plain",)}, "`fast`"),
    "no augmentation": Variation({"augment": False}, "`fast`"),
    "6 epochs": Variation({"epochs": 6}, "no"),
    "nine views": Variation({"views": 9}, "`single`"),
}


def ablate(data_dir: Path, work_dir: Path, *, say: Say) -> dict[str, Any]:
    """Trains two members of each of `VARIATIONS` on one half of the rows; a run that is there is not trained again.

    Returns:
        For each the mean accuracy of its members on the other half, by how much more that is than of the first
        variation on the same rows, the accuracy of both together, and the time of all processors.
    """
    result, first = {}, None
    for number, (name, (changes, kept)) in enumerate(VARIATIONS.items()):
        say(f"ablation: {name}")
        config = replace(PRESETS["single"], members=2, validation=HALF, **{"views": 1} | changes)
        run_dir = work_dir / f"ablation-{number}"
        record = _alone(_train_variation, data_dir, run_dir, config)
        labels = runs.read_predictions(run_dir).labels
        each = np.array([runs.read_member_predictions(folder).probabilities for folder in runs.member_dirs(run_dir)])
        right = (each.argmax(axis=2) == labels).mean(axis=0)
        first = right if first is None else first
        result[name] = {
            "changes": changes,
            "kept": kept,
            "accuracy": float(right.mean()),
            "difference": _difference(first, right),
            "together": metrics.accuracy(labels, each.mean(axis=0)).value,
            "processor_seconds": record["processor_seconds"],
        }
    return {"machine": _machine(), "rows": len(labels), "variations": result}


def _train_variation(data_dir: Path, run_dir: Path, config: Config) -> dict[str, Any]:
    train, test = load_train(data_dir), load_test(data_dir)
    hashes = {"train.csv": train.sha256, "test.csv": test.sha256}
    record = runs.new_record(config, run=run_dir.name, competition=COMPETITION, data=hashes)
    console = Console(stderr=True)
    return ensemble.train_run(config, train, test.images, run_dir, record, console, gpus=devices.find_gpus())


def _machine() -> dict[str, Any]:
    record = runs.new_record(PRESETS["single"], run="", competition="", data={})
    return {
        "processor": record["machine"]["processor"],
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "versions": {name: record["versions"][name] for name in ("python", "keras", "numpy")}
        | {name: value for name, value in record["versions"].items() if name.startswith("tensorflow")},
        "measured_on": runs.now()[:10],
        "git_commit": record["git_commit"],
    }


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a new process, so that none takes memory or threads over from another."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _threads(networks: int) -> dict[str, int]:
    """Returns in how many processes at once as many networks are trained, and the threads of each."""
    parts = devices.machine_parts(networks, devices.find_gpus())
    return {"processes": len(parts), "threads": int(parts[0].get("TF_NUM_INTRAOP_THREADS", os.cpu_count() or 1))}


def _engine() -> dict[str, Any]:
    """Compares the arithmetic rate of a training step with that of the same convolutions alone."""
    precision = choose_precision(devices.find_gpus())
    repetitions = [_alone(_engine_rates, precision) for _ in range(REPETITIONS)]
    return {"precision": precision} | _threads(1) | _summary(repetitions)


def _engine_rates(precision: str) -> dict[str, float]:
    with hide_native_messages():
        import keras
        import tensorflow as tf

        from digit_recognizer.training.member import make_dataset

    config, model = PRESETS["single"], _build_single(precision)
    model.compile(keras.optimizers.AdamW(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images = np.random.default_rng(0).random((config.batch_size, 28, 28, 1), np.float32)
    labels = np.zeros(config.batch_size, np.uint8)
    ends: list[float] = []
    model.fit(
        make_dataset(lambda: iter([(images, labels)] * (STEPS + 10))),
        steps_per_epoch=STEPS + 10,
        callbacks=[
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))  # noqa: ARG005
        ],
        verbose=0,
    )
    step = statistics.median(np.diff(ends)[10:])
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    dtype = tf.as_dtype(keras.DTypePolicy(precision).compute_dtype)
    operations, alone = 0, 0.0
    for number, layer in enumerate(convolutions):
        shape = (config.batch_size, *layer.input.shape[1:])
        seconds, passes = _convolution_seconds(shape, layer.kernel.shape, dtype, first=number == 0)
        alone += seconds
        operations += (
            passes * 2 * config.batch_size * int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
        )
    return {
        "images_per_second": config.batch_size / step,
        "gflops": operations / step / 1e9,
        "convolutions_gflops": operations / alone / 1e9,
        "share": alone / step,
    }


def _build_single(precision: str, *, folded: bool = False) -> Any:
    """Builds the network of `single`, as it is trained or as it answers."""
    from digit_recognizer.model.networks import build_model

    config = PRESETS["single"]
    return build_model(
        architecture=config.architectures[0],
        channels=config.channels,
        dropout=config.dropout,
        precision=precision,
        folded=folded,
    )


def _convolution_seconds(
    shape: Sequence[int], kernel_shape: Sequence[int], dtype: Any, *, first: bool
) -> tuple[float, int]:
    """Returns the seconds of a convolution, forward and backward, and its passes: the first has none of images.

    Each pass is repeated inside of one graph, so that starting it costs nothing.
    """
    import tensorflow as tf

    images = tf.cast(tf.random.normal(shape), dtype)
    kernel = tf.cast(tf.random.normal(kernel_shape), dtype)
    gradient = tf.cast(tf.random.normal((*shape[:3], kernel_shape[-1])), dtype)
    options = {"strides": [1, 1, 1, 1], "padding": "SAME"}
    passes = [
        lambda: tf.raw_ops.Conv2D(input=images, filter=kernel, **options),
        lambda: tf.raw_ops.Conv2DBackpropFilter(
            input=images, filter_sizes=kernel_shape, out_backprop=gradient, **options
        ),
    ]
    if not first:
        passes.append(
            lambda: tf.raw_ops.Conv2DBackpropInput(input_sizes=shape, filter=kernel, out_backprop=gradient, **options)
        )
    total, repeats = 0.0, 20
    for one_pass in passes:

        @tf.function
        def repeat(count: Any, one_pass: Callable[[], Any] = one_pass) -> Any:
            last = tf.zeros([], dtype)
            for _ in tf.range(count):
                last += tf.reshape(one_pass(), [-1])[0]  # so that no pass is left out
            return last

        repeat(tf.constant(2))
        seconds = []
        for _ in range(REPETITIONS):
            started = time.perf_counter()
            repeat(tf.constant(repeats)).numpy()
            seconds.append((time.perf_counter() - started) / repeats)
        total += min(seconds)
    return total, len(passes)


def _fast(data_dir: Path, work_dir: Path) -> dict[str, Any]:
    """Trains `fast` and the predecessor's network in turn."""
    ours, theirs = [], []
    for seed in range(REPETITIONS):
        record, _ = _train(data_dir, work_dir, f"fast-{seed}", "--preset=fast", f"--seed={seed}")
        seconds = float(runs.read_history(work_dir / f"fast-{seed}" / "member-0")["seconds"].sum())
        ours.append({"accuracy": record["scores"]["validation_accuracy"], "seconds": seconds})
        theirs.append(_alone(_train_predecessor, data_dir, seed))
    return {"fast": _summary(ours), "predecessor": _summary(theirs)} | _threads(1)


def _train_predecessor(data_dir: Path, seed: int) -> dict[str, float]:
    with hide_native_messages():
        from benchmarks.peers import train_predecessor

    train = load_train(data_dir)
    config = PRESETS["fast"]
    folds = make_folds(train.labels, folds=config.folds, validation=config.validation, seed=config.split_seed)
    accuracy, measured = train_predecessor(train, folds[0], seed=seed)
    return {"accuracy": accuracy, "seconds": measured.seconds}


def _single(data_dir: Path, work_dir: Path) -> dict[str, Any]:
    """Trains `single` on all rows, then times its answers."""
    repetitions = []
    for seed in range(REPETITIONS):
        run = f"single-{seed}"
        record, memory = _train(data_dir, work_dir, run, "--preset=single", "--folds=0", f"--seed={seed}")
        member = work_dir / run / "member-0"
        repetitions.append(
            {
                "seconds": float(runs.read_history(member)["seconds"].sum()),
                "all_seconds": record["training_seconds"],
                "first_step_seconds": record["first_step_seconds"],
                "memory_bytes": memory,
                "predictions_per_second": _alone(
                    _prediction_rate, data_dir, member / "model.keras", record["precision"]
                ),
            }
        )
    return _threads(1) | _summary(repetitions)


def _prediction_rate(data_dir: Path, path: Path, precision: str) -> float:
    """Returns the images of test.csv that one member answers in a second, from one view of each."""
    with hide_native_messages():
        import keras

        from digit_recognizer.model.networks import make_predictor

    images, model = load_test(data_dir).images, _build_single(precision, folded=True)
    model.set_weights(keras.models.load_model(path, compile=False).get_weights())
    predict = make_predictor([model])
    predict(images[:1000])
    seconds = []
    for _ in range(REPETITIONS):
        started = time.perf_counter()
        predict(images)
        seconds.append(time.perf_counter() - started)
    return len(images) / min(seconds)


def _time_deotte(data_dir: Path) -> dict[str, float]:
    """Times Deotte's recipe in stock Keras and extrapolates it to his bag, on the rows that `best` is trained on."""
    with hide_native_messages():
        from benchmarks.peers import DEOTTE_EPOCHS, DEOTTE_NETWORKS, DEOTTE_SHARE, time_deotte

        train = load_train(data_dir)
        (fold, *_), rows = _halves(train), len(train.labels)
        measured = time_deotte(train, fold, steps=STEPS)
    images = DEOTTE_NETWORKS * DEOTTE_EPOCHS * int(DEOTTE_SHARE * (HALVES - 1) * rows)  # of all folds
    return {
        "images_per_second": measured.images / measured.seconds,
        "timed_images": measured.images,
        "seconds": images * measured.seconds / measured.images,
        "processor_seconds": images * measured.processor_seconds / measured.images,
    } | _threads(1)


def _best(data_dir: Path, work_dir: Path, members: int) -> dict[str, Any]:
    """Trains the members of `best` on each half of the rows and scores them on the other."""
    arguments = ("--preset=best", f"--folds={HALVES}", f"--members={members}")
    record, memory = _train(data_dir, work_dir, "best", *arguments)
    train = load_train(data_dir)
    each = [runs.read_member_predictions(folder).probabilities for folder in runs.member_dirs(work_dir / "best")]
    return {
        "members": members,
        "seconds": record["training_seconds"],
        "processor_seconds": record["processor_seconds"],
        "memory_bytes": memory,
        **_threads(HALVES * members),
        **_fold_scores(train.labels, _halves(train), each),
    }


def _deotte(data_dir: Path, networks: int, epochs: int) -> dict[str, Any]:
    """Trains some of Deotte's networks on each half of the rows by the fast engine and scores them on the other."""
    train, gpus = load_train(data_dir), devices.find_gpus()
    job = Job(train, _halves(train), networks, choose_precision(gpus), epochs)
    function, count = functools.partial(_train_deotte, job), HALVES * networks
    started = time.perf_counter()
    parts = devices.machine_parts(count, gpus)
    trained = workers.share_out(function, range(count), parts, may_begin=lambda: True, tell=lambda _: None)
    each = [answer for _, answer in sorted(trained, key=lambda pair: pair[0])]
    return {
        "networks": networks,
        "epochs": epochs,
        "seconds": time.perf_counter() - started,
        **_threads(count),
        **_fold_scores(train.labels, job.folds, each),
    }


def _train_deotte(job: Job, index: int, _tell: workers.Tell) -> tuple[int, np.ndarray]:
    with hide_native_messages():
        from benchmarks.peers import train_deotte

        fold = job.folds[index // job.networks]
        return index, train_deotte(job.data, fold, seed=index, precision=job.precision, epochs=job.epochs)


def _fold_scores(labels: np.ndarray, folds: Sequence[Fold], each: Sequence[np.ndarray]) -> dict[str, Any]:
    """Scores the ensembles of some folds on the rows that each has not seen.

    Args:
        labels: uint8 [n], of train.csv.
        folds: which together hold out every row.
        each: of each network its probabilities for the rows that its fold holds out; those of a fold follow each other.

    Returns:
        The share of right rows; the mean of it of the networks and its deviation; for each row whether it is right.
    """
    count = len(each) // len(folds)
    mean, alone = np.zeros((len(labels), CLASSES), np.float32), []
    for number, fold in enumerate(folds):
        networks = each[number * count : (number + 1) * count]
        mean[fold.validation] = np.mean(networks, axis=0)
        alone += [metrics.accuracy(labels[fold.validation], one).value for one in networks]
    return {
        "accuracy": metrics.accuracy(labels, mean).value,
        "alone": {"mean": statistics.mean(alone), "deviation": statistics.stdev(alone)},
        "right": (mean.argmax(axis=1) == labels).astype(int).tolist(),
    }


def _difference(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Returns by how much more of the same rows ours are right, with the standard error of the paired difference.

    Args:
        theirs: [n] in [0, 1]: whether a row's answer is right, or the share of several.
        ours: the same.
    """
    difference = ours.astype(float) - theirs.astype(float)
    return {
        "rows": len(difference),
        "only_ours_right": int((difference > 0).sum()),
        "only_theirs_right": int((difference < 0).sum()),
        "accuracy": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
    }


def _halves(train: Dataset) -> list[Fold]:
    """Returns the folds of a run of `best` with as many."""
    return make_folds(train.labels, folds=HALVES, validation=HALF, seed=PRESETS["best"].split_seed)


def _train(data_dir: Path, work_dir: Path, run: str, *arguments: str) -> tuple[dict[str, Any], int]:
    """Runs `digit-recognizer train` as a user would; returns the run's record and the most memory of all processes."""
    command = [sys.executable, "-c", "from digit_recognizer.cli import main; main()", "train", *arguments]
    command += [f"--run={run}", f"--data-dir={data_dir}", f"--models-dir={work_dir}", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    memory = 0
    while process.returncode is None:
        try:
            process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            memory = max(memory, _memory(process.pid))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return runs.read_finished_record(work_dir / run), memory


def _memory(pid: int) -> int:
    """Returns the bytes that a process and its descendants hold, shared pages counted once."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.NoSuchProcess:  # one has ended between the two looks
        return 0
    return total


def _summary(repetitions: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Returns mean and standard deviation of each value, and of how many."""
    return {"repetitions": len(repetitions)} | {
        name: {
            "mean": statistics.mean(one[name] for one in repetitions),
            "deviation": statistics.stdev(one[name] for one in repetitions),
        }
        for name in repetitions[0]
    }


def ablation_to_markdown(result: Mapping[str, Any]) -> str:
    """Returns the ablation as a table in Markdown."""
    rows = [
        ("`single`, one view", "one network", "against the first", "two together", "processor time of two", "kept"),
        *(
            (
                name,
                f"{values['accuracy']:.3%}",
                _points(values["difference"]),
                f"{values['together']:.3%}",
                f"{values['processor_seconds'] / 60:.1f} min",
                values["kept"],
            )
            for name, values in result["variations"].items()
        ),
    ]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows, the first of which is the header, as a table in Markdown."""
    header, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *others))


def _points(difference: Mapping[str, float]) -> str:
    return f"{100 * difference['accuracy']:+.3f} ± {100 * difference['standard_error']:.3f} points"


def to_markdown(result: Mapping[str, Any]) -> str:
    """Returns the benchmark as the tables that stand in the README."""
    fast, single, engine = result["fast"], result["single"], result["engine"]
    best, deotte, stock, difference = (result[name] for name in ("best", "deotte", "deotte_stock", "difference"))

    def spread(value: Mapping[str, float], form: Callable[[float], str]) -> str:
        return f"{form(value['mean'])} ± {form(value['deviation'])}"

    def percent(value: float) -> str:
        return f"{value:.2%}"

    def seconds(value: float) -> str:
        return f"{value:,.1f} s"

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def threads(part: Mapping[str, Any]) -> str:
        return f"{part['processes']} x {part['threads']}"

    rows = [
        (
            "each half of the rows held out in turn",
            f"right of {difference['rows']:,}",
            "each network alone",
            "threads",
            "processor time",
            "clock",
        ),
        (
            f"`best`, {best['members']} networks a half",
            f"{best['accuracy']:.3%}",
            spread(best["alone"], percent),
            threads(best),
            f"{best['processor_seconds'] / 60:,.0f} min",
            f"{best['seconds'] / 60:,.0f} min",
        ),
        (
            f"Deotte's recipe, {deotte['networks']} of 15 networks a half trained, cost of 15 in stock Keras",
            f"{deotte['accuracy']:.3%}",
            spread(deotte["alone"], percent),
            threads(stock),
            f"{stock['processor_seconds'] / 60:,.0f} min",
            f"{stock['seconds'] / 60:,.0f} min",
        ),
        (
            "difference, ratio",
            _points(difference),
            "",
            "",
            f"{stock['processor_seconds'] / best['processor_seconds']:.0f} times",
            f"{stock['seconds'] / best['seconds']:.0f} times",
        ),
        ("on the first half, on the second", ", ".join(map(_points, result["halves"])), "", "", "", ""),
    ]
    ratio = fast["fast"]["seconds"]["mean"] / fast["predecessor"]["seconds"]["mean"]
    more = [
        ("a tenth of the rows held out", "validation accuracy", "threads", "training"),
        (
            "`fast`",
            spread(fast["fast"]["accuracy"], percent),
            threads(fast),
            f"{spread(fast['fast']['seconds'], seconds)}: {ratio:.2f} of the other",
        ),
        (
            "a small CNN in stock Keras, 5 epochs",
            spread(fast["predecessor"]["accuracy"], percent),
            threads(fast),
            spread(fast["predecessor"]["seconds"], seconds),
        ),
    ]
    figures = [
        (f"`single` on all rows, {threads(single)} threads", ""),
        ("training", spread(single["seconds"], seconds)),
        ("from the loaded data to the end of the first step", spread(single["first_step_seconds"], seconds)),
        (
            "most memory, all processes (`best`)",
            f"{single['memory_bytes']['mean'] / 1e9:.1f} GB ({best['memory_bytes'] / 1e9:.1f} GB)",
        ),
        ("images of test.csv answered in a second", spread(single["predictions_per_second"], count)),
        (f"images trained on in a second, {engine['precision']}", spread(engine["images_per_second"], count)),
        (
            "arithmetic rate of a training step, of the same convolutions alone",
            f"{spread(engine['gflops'], count)} and {spread(engine['convolutions_gflops'], count)} GFLOP/s: "
            f"{engine['share']['mean']:.0%}",
        ),
    ]
    return "\n\n".join(map(_table, (rows, more, figures)))
