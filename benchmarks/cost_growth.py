"""Measure and plot how costs grow: `python -m benchmarks.cost_growth --data-dir data`."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from matplotlib.figure import Figure

from benchmarks.benchmark import Options, _run_isolated, _train, describe_machine
from digit_recognizer import files
from digit_recognizer.config import PRESETS
from digit_recognizer.console import hide_native_messages
from digit_recognizer.errors import UserError
from digit_recognizer.training.devices import count_cores

EPOCHS, ROWS = 2, 6_000  # of the trainings, where these do not vary
BATCHES, NETWORKS = (1, 3, 10, 30, 100, 300, 1000, 3000), (1, 10)
LABELS = {  # of the horizontal and the vertical axis
    "rows": ("rows of train.csv", "training, s"),
    "epochs": ("epochs", "training, s"),
    "members": ("members", "training, s"),
    "cores": ("cores, four members", "training, s"),
    "memory": ("members", "peak memory, GB"),
    **{f"answers {count}": ("images per call", f"answers per second, {count} networks") for count in NETWORKS},
}


def measure(data_dir: Path) -> dict[str, Any]:
    """Return the measured points of each curve of `LABELS`: lists of x and y."""
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        number = iter(range(100))

        def train(rows: int, epochs: int, members: int) -> tuple[float, float]:
            part = work_dir / f"data-{rows}"
            if not part.exists():
                part.mkdir()
                with (data_dir / "train.csv").open() as whole:
                    (part / "train.csv").write_text(
                        "".join(line for _, line in zip(range(rows + 1), whole, strict=False))
                    )
            arguments = "--preset=single", f"--epochs={epochs}", f"--members={members}", "--folds=0"
            record, memory = _train(Options(part, work_dir), f"run-{next(number)}", *arguments)
            return record["training_seconds"], memory / 1e9

        def curve(values: Iterable[int], one: Callable[[int], float]) -> dict[str, list[float]]:
            points = [(float(value), one(value)) for value in values]
            return {"x": [x for x, _ in points], "y": [y for _, y in points]}

        whole = len((data_dir / "train.csv").read_text().splitlines()) - 1
        train(ROWS, EPOCHS, 1)  # fills the caches
        memory: dict[int, float] = {}

        def members(count: int) -> float:
            seconds, memory[count] = train(ROWS, EPOCHS, count)
            return seconds

        result = {
            "rows": curve((whole // 8, whole // 4, whole // 2, whole), lambda rows: train(rows, EPOCHS, 1)[0]),
            "epochs": curve((2, 4, 8), lambda epochs: train(ROWS, epochs, 1)[0]),
            "members": curve((1, 2, 4, 8), members),
            "cores": curve(
                range(1, count_cores() + 1), lambda cores: _on_cores(cores, lambda: train(ROWS, EPOCHS, 4)[0])
            ),
        }
        result["memory"] = {"x": [float(count) for count in memory], "y": list(memory.values())}
    for networks in NETWORKS:
        rates = _run_isolated(time_answers, networks)
        result[f"answers {networks}"] = {"x": [float(batch) for batch in BATCHES], "y": rates}
    return {"machine": describe_machine(), "epochs": EPOCHS, "rows_of_others": ROWS, "curves": result}


def _on_cores(cores: int, function: Callable[[], float]) -> float:
    """Call a function while this process and its children may use only some cores."""
    process = psutil.Process()
    allowed = process.cpu_affinity()
    process.cpu_affinity(allowed[:cores])
    try:
        return function()
    finally:
        process.cpu_affinity(allowed)


def time_answers(networks: int) -> list[float]:
    """Return the images per second that untrained networks of `single` predict, for each of `BATCHES`."""
    with hide_native_messages():
        from digit_recognizer.model.networks import build_model
        from digit_recognizer.model.prediction import make_predictor

    config = PRESETS["single"]
    build = partial(build_model, architecture="residual", channels=config.channels, dropout=config.dropout, folded=True)
    predict, rates = make_predictor([build() for _ in range(networks)]), []
    for batch in BATCHES:
        images, calls = np.zeros((batch, 28, 28), np.uint8), max(3, 300 // batch)
        predict(images)
        started = time.perf_counter()
        for _ in range(calls):
            predict(images)
        rates.append(calls * batch / (time.perf_counter() - started))
    return rates


def draw(result: dict[str, Any]) -> Figure:
    """Return a figure with a plot for each curve."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes: list[Any] = list(figure.subplots(2, 4).flat)
    for axis, (name, curve) in zip(axes, result["curves"].items(), strict=False):
        axis.plot(curve["x"], curve["y"], marker="o")
        axis.set(xlabel=LABELS[name][0], ylabel=LABELS[name][1], ylim=0)
        axis.grid(alpha=0.3)
        if name.startswith("answers"):
            axis.set_xscale("log")
        else:
            axis.set_xlim(0)
    for axis in axes[len(result["curves"]) :]:
        axis.axis("off")
    return figure


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv.")] = Path("data"),
    work_dir: Annotated[Path, typer.Option(help="Folder for cost-growth.json and cost-growth.png.")] = Path("bench"),
) -> None:
    """Measure how the cost grows; takes five minutes."""
    result = measure(data_dir)
    files.write_json(work_dir / "cost-growth.json", result)
    draw(result).savefig(work_dir / "cost-growth.png", dpi=110)
    for name, curve in result["curves"].items():
        points = ", ".join(f"{x:g}: {y:,.3g}" for x, y in zip(curve["x"], curve["y"], strict=True))
        typer.echo(f"{LABELS[name][1]} by {LABELS[name][0]}: {points}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"cost_growth: {error}")
