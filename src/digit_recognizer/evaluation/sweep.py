"""Several runs in one table: those that differ in their seeds only are repetitions of the same settings."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from digit_recognizer.console import make_table
from digit_recognizer.evaluation import metrics
from digit_recognizer.evaluation.comparison import read_common
from digit_recognizer.evaluation.documents import format_setting


class RunRow(NamedTuple):
    """One run."""

    run: str
    seed: int
    accuracy: metrics.Accuracy
    p_value: float | None  # McNemar's exact test against the first run; None for that run itself


class SettingsRow(NamedTuple):
    """Runs with the same settings."""

    settings: dict[str, Any]  # those that are not the same in all runs
    runs: int
    mean: float  # of the accuracies
    deviation: float | None  # sample standard deviation of the accuracies; None of a single run
    difference: float | None  # mean over the seeds that the first settings have too; None for these, or without any
    p_value: float | None  # paired t-test over these seeds; None with fewer than two


class Sweep(NamedTuple):
    """Runs on the same rows of train.csv, in groups of the same settings."""

    rows: int
    runs: list[RunRow]
    settings: list[SettingsRow]

    def to_dict(self) -> dict[str, Any]:
        """Return a value for JSON."""
        runs = [row._asdict() | {"accuracy": row.accuracy._asdict()} for row in self.runs]
        return {"rows": self.rows, "runs": runs, "settings": [row._asdict() for row in self.settings]}

    def to_tables(self) -> list[Table]:
        """Return a table of the runs and one of their settings."""
        runs = [
            (row.run, f"{one.value:.2%}", f"{one.low:.2%} to {one.high:.2%}", _format_p(row.p_value))
            for row in self.runs
            for one in [row.accuracy]
        ]
        settings = [
            (
                ", ".join(f"{name} {format_setting(value)}" for name, value in row.settings.items()) or "all",
                str(row.runs),
                f"{row.mean:.3%}",
                "" if row.deviation is None else f"{row.deviation:.3%}",
                "" if row.difference is None else f"{row.difference * 100:+.3f}",
                _format_p(row.p_value),
            )
            for row in self.settings
        ]
        columns = ("settings", "runs", "mean accuracy", "standard deviation", "difference in points", "p")
        return [
            make_table(
                f"On the same {self.rows:,} images",
                ("run", "accuracy", "95% interval", "p"),
                runs,
                caption="p: McNemar's exact test against the first run",
            ),
            make_table(
                "By settings",
                columns,
                settings,
                caption="difference: to the first settings, same seeds; p: paired t-test over these seeds",
            ),
        ]


def tabulate_runs(run_dirs: Sequence[Path]) -> Sweep:
    """Compare finished runs on the rows that all of them held out; the first one, and its settings, are the baseline.

    Raises:
        UserError: The runs were trained on different files, or held out no common row.
    """
    records, predictions = read_common(run_dirs)
    first = predictions[0]
    rows, groups = list[RunRow](), dict[str, dict[int, float]]()
    configs = [record["config"] for record in records]
    varied = [
        name
        for name in dict.fromkeys(name for config in configs for name in config)
        if name != "seed" and any(config.get(name) != configs[0].get(name) for config in configs)
    ]
    settings: dict[str, dict[str, Any]] = {}
    for run_dir, config, one in zip(run_dirs, configs, predictions, strict=True):
        accuracy = metrics.accuracy(one.labels, one.probabilities)
        test = metrics.paired_test(first.labels, first.probabilities, one.probabilities) if rows else None
        rows.append(RunRow(run_dir.name, config["seed"], accuracy, test and test.p_value))
        chosen = {name: config.get(name) for name in varied}
        settings.setdefault(repr(chosen), chosen)
        groups.setdefault(repr(chosen), {})[config["seed"]] = accuracy.value
    baseline = next(iter(groups.values()))
    return Sweep(len(first.rows), rows, [_summarise(settings[name], found, baseline) for name, found in groups.items()])


def _summarise(settings: dict[str, Any], found: dict[int, float], baseline: dict[int, float]) -> SettingsRow:
    """Summarise the accuracies of runs with the same settings, by seed."""
    values = list(found.values())
    deviation = statistics.stdev(values) if len(values) > 1 else None
    common = [seed for seed in found if seed in baseline] if found is not baseline else []
    differences = [found[seed] - baseline[seed] for seed in common]
    return SettingsRow(
        settings,
        len(values),
        statistics.mean(values),
        deviation,
        statistics.mean(differences) if differences else None,
        test_mean(differences) if len(differences) > 1 else None,
    )


def test_mean(differences: list[float]) -> float:
    """Return the two-sided p-value of Student's t-test that the mean of paired differences is 0."""
    from scipy.stats import ttest_1samp

    if np.ptp(differences) < 1e-12:  # no variance: SciPy would divide by it
        return float(abs(differences[0]) < 1e-12)
    return float(ttest_1samp(differences, 0).pvalue)


def _format_p(p_value: float | None) -> str:
    return "" if p_value is None else f"{p_value:.2g}"
