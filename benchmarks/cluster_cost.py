"""Measure what a Ray cluster costs for each network: `python -m benchmarks.cluster_cost --data-dir data`.

The cluster is one that was started before, on this machine alone for a comparison with its own processes.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from digit_recognizer import pipeline
from digit_recognizer.config import PRESETS
from digit_recognizer.errors import UserError
from digit_recognizer.training import runs
from digit_recognizer.training.workers import Report

TASKS, REPORTS = 8, 500  # of the measurement of the driver
MEMBER_BYTES = 2_000_000  # about the files of a member of `single`


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder of train.csv.")] = Path("data"),
    cluster: Annotated[str, typer.Option(help="Address of the cluster.")] = "auto",
    members: Annotated[int, typer.Option(help="Networks of the preset `fast`.")] = 8,
    epochs: Annotated[int, typer.Option(help="Epochs of each.")] = 1,
) -> None:
    """Train the same networks in processes of this machine and on a cluster; print the difference for each of them."""
    config = replace(PRESETS["fast"], folds=2, members=members // 2, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        seconds, found = list[float](), list[Any]()
        for name, where in (("here", None), ("there", cluster)):
            run_dir, record = pipeline.train(config, data_dir, Path(folder) / name, Console(stderr=True), cluster=where)
            seconds.append(record["training_seconds"])
            found.append(runs.read_predictions(run_dir).probabilities)
        sizes = [path.stat().st_size for path in run_dir.glob("member-0/*")]
    typer.echo(f"processes: {seconds[0]:.1f} s, cluster: {seconds[1]:.1f} s for {members} networks")
    typer.echo(f"difference: {(seconds[1] - seconds[0]) / members:.2f} s for each network")
    typer.echo(f"predictions: {'equal bit for bit' if (found[0] == found[1]).all() else 'not equal'}")
    typer.echo(f"files of a network: {sum(sizes) / 1e6:.2f} MB")
    _measure_driver(cluster)


def _measure_driver(address: str) -> None:
    """Print the time of the driver for each report and each result."""
    from digit_recognizer.training import cluster

    shown: dict[str, Any] = {"report": lambda *_: None, "notice": print, "watch": lambda _: None}
    with cluster.connected(address):
        for text, function, count in (("report", _send_reports, REPORTS), ("result of 2 MB", _make_result, 1)):
            tasks: Iterator[tuple[str, list[Any]]] = ((str(index), []) for index in range(TASKS))
            started = time.process_time()
            for _ in cluster.run_tasks(function, tasks, {"num_cpus": 1}, **shown):
                pass
            cost = (time.process_time() - started) / TASKS / count
            typer.echo(f"CPU time of the driver for a {text}: {1000 * cost:.2f} ms")


def _send_reports(report: Report) -> None:
    for step in range(REPORTS):
        report((0, 0, step, {"loss": 0.5, "accuracy": 0.9}, False))


def _make_result(report: Report) -> bytes:  # noqa: ARG001 - the callback of a task
    return bytes(MEMBER_BYTES)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"cluster_cost: {error}")
