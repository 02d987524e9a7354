"""Comparison of runs: settings, validation accuracies, the spread over seeds, and McNemar's test of two runs."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from digit_recognizer.console import make_table
from digit_recognizer.data.folds import Predictions
from digit_recognizer.evaluation import metrics
from digit_recognizer.training import run_folder


class Comparison(NamedTuple):
    """Values for JSON that compare runs."""

    runs: list[dict[str, Any]]  # run, settings (those that differ), accuracy (None without rows), training_seconds
    groups: list[dict[str, Any]]  # of runs that differ in their seeds only: settings, runs, mean, deviation
    paired_test: dict[str, Any] | None  # of two runs, on the rows that both held out; None without any

    def to_tables(self) -> list[Table]:
        """Return a table of the runs and, if some differ in their seeds only, one of their means."""
        rows, caption = [], None
        for run in self.runs:
            accuracy = ["none", "", "0"]
            if run["accuracy"]:
                value, low, high, count = run["accuracy"].values()
                accuracy = [f"{value:.2%}", f"{low:.2%} to {high:.2%}", f"{count:,}"]
            rows.append([run["run"], *accuracy, f"{run['training_seconds']:,.0f}", _to_text(run["settings"])])
        if test := self.paired_test:
            caption = (
                f"Of {test['rows']:,} images that both held out, {len(test['broken']):,} are correct only with "
                f"{self.runs[0]['run']}, {len(test['fixed']):,} only with {self.runs[1]['run']}: "
                f"p = {test['p_value']:.2g} (McNemar's exact test)"
            )
        columns = ["run", "accuracy", "95% interval", "rows", "seconds", "settings"]
        tables = [make_table("Validation accuracy and training time", columns, rows, caption=caption)]
        tables[0].columns[0].no_wrap = True
        if self.groups:
            rows = []
            for settings, names, mean, deviation in (group.values() for group in self.groups):
                rows.append([_to_text(settings), f"{len(names):,}", f"{mean:.3%}", f"{deviation:.3%}"])
            columns = ["settings", "runs", "mean accuracy", "standard deviation"]
            tables.append(make_table("Runs that differ in their seeds only", columns, rows))
        return tables


def compare_runs(run_dirs: Sequence[Path]) -> Comparison:
    """Compare finished runs, each on the rows that it held out; two runs also on the rows that both held out.

    Raises:
        UserError: A run is not finished, or its files are damaged.
    """
    compared, predictions = [], []
    for run_dir in run_dirs:
        record = run_folder.read_finished_record(run_dir)
        predictions.append(run_folder.read_predictions(run_dir))
        _, labels, probabilities = predictions[-1]
        compared.append(
            {
                "run": run_dir.name,
                "settings": _collect_settings(record),
                "accuracy": metrics.accuracy(labels, probabilities)._asdict() if len(labels) else None,
                "training_seconds": record["training_seconds"],
            }
        )
    settings = [run["settings"] for run in compared]
    names = dict.fromkeys(name for values in settings for name in values)
    different = [name for name in names if any(values.get(name) != settings[0].get(name) for values in settings)]
    for run in compared:
        run["settings"] = {name: run["settings"].get(name) for name in different}
    is_pair = len(compared) == 2 and "train.csv" not in different
    return Comparison(compared, _summarise_seeds(compared), paired_test(*predictions) if is_pair else None)


def paired_test(first: Predictions, second: Predictions) -> dict[str, Any] | None:
    """Apply McNemar's exact test (doi:10.1007/BF02295996) to the rows that two runs held out; None if there are none.

    Only the second run predicts the rows in `fixed` correctly, only the first one those in `broken`. The null
    hypothesis is that both have the same accuracy.
    """
    from scipy.stats import binomtest

    rows, in_first, in_second = np.intersect1d(first.rows, second.rows, assume_unique=True, return_indices=True)
    if not len(rows):
        return None
    before = (first.probabilities.argmax(axis=1) == first.labels)[in_first]
    after = (second.probabilities.argmax(axis=1) == second.labels)[in_second]
    fixed, broken = rows[~before & after].tolist(), rows[before & ~after].tolist()
    return {
        "rows": len(rows),
        "both_correct": int((before & after).sum()),
        "both_wrong": int((~before & ~after).sum()),
        "fixed": fixed,
        "broken": broken,
        "p_value": float(binomtest(len(fixed), len(fixed + broken)).pvalue) if fixed + broken else 1.0,
    }


def format_setting(value: Any) -> str:
    """Return a value from a record as text."""
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _collect_settings(record: dict[str, Any]) -> dict[str, Any]:
    """Return what the weights of a run depend on: settings, data, versions, code and arithmetic."""
    hashes = {name: str(value)[:12] for name, value in (record["data"] | {"code": record.get("code")}).items()}
    used = {name: record.get(name) for name in ("precision", "onednn")}
    return record["config"] | hashes | record["versions"] | used


def _summarise_seeds(compared: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and sample standard deviation of the accuracies of runs that differ in nothing but their seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in compared:
        if run["accuracy"]:
            settings = {name: value for name, value in run["settings"].items() if name != "seed"}
            groups.setdefault(repr(settings), []).append(run | {"settings": settings})
    return [
        {
            "settings": group[0]["settings"],
            "runs": [run["run"] for run in group],
            "mean": statistics.mean(run["accuracy"]["value"] for run in group),
            "deviation": statistics.stdev(run["accuracy"]["value"] for run in group),
        }
        for group in groups.values()
        if len(group) > 1
    ]


def _to_text(settings: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {format_setting(value)}" for name, value in settings.items())
