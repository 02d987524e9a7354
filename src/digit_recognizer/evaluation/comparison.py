"""Comparison of two runs: their settings, and their predictions for the same images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from digit_recognizer.console import Step, make_table
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import GALLERY_SIZE, Document, compose, format_setting
from digit_recognizer.training import run_folder


class Comparison(NamedTuple):
    """Two runs and their predictions for the rows of train.csv that both held out."""

    names: tuple[str, str]
    settings: list[tuple[str, Any, Any]]  # name and values of those that differ; None if not recorded
    predictions: tuple[run_folder.Predictions, run_folder.Predictions]  # for the same rows
    accuracies: tuple[metrics.Accuracy, metrics.Accuracy]
    test: metrics.PairedTest

    def to_dict(self) -> dict[str, Any]:
        """Return a value for JSON. Fixed and broken images are rows of train.csv, counted from 0."""
        rows = self.predictions[0].rows
        return {
            "runs": list(self.names),
            "settings": {name: values for name, *values in self.settings},
            "rows": len(rows),
            "accuracy": [accuracy._asdict() for accuracy in self.accuracies],
            "both_right": self.test.both_correct,
            "both_wrong": self.test.both_wrong,
            "fixed": rows[self.test.fixed].tolist(),
            "broken": rows[self.test.broken].tolist(),
            "p_value": self.test.p_value,
        }

    def to_tables(self) -> list[Table]:
        """Return a table of the different settings and one of the accuracies."""
        settings = [(name, *map(format_setting, values)) for name, *values in self.settings]
        accuracies = [
            (name, f"{one.value:.2%}", f"{one.low:.2%} to {one.high:.2%}", f"{len(only):,}")
            for name, one, only in zip(self.names, self.accuracies, (self.test.broken, self.test.fixed), strict=True)
        ]
        title = f"On the same {self.accuracies[0].rows:,} images"
        columns, caption = ("run", "accuracy", "95% interval", "correct only here"), f"p = {self.test.p_value:.2g}"
        return [
            make_table("Different settings", ("", *self.names), settings),
            make_table(title, columns, accuracies, caption=f"McNemar's exact test: {caption}"),
        ]


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two finished runs, given by their folders; the first is the baseline of fixed and broken images.

    Raises:
        UserError: The runs were trained on different files, or held out no common row.
    """
    records, (one, two) = read_common([first, second])
    old, new = (
        record["config"]
        | {"extra": record["data"].get("extra"), "git_commit": record["git_commit"]}
        | record["versions"]
        | record["machine"]
        for record in records
    )
    return Comparison(
        (first.name, second.name),
        [(name, old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)],
        (one, two),
        (metrics.accuracy(one.labels, one.probabilities), metrics.accuracy(two.labels, two.probabilities)),
        metrics.paired_test(one.labels, one.probabilities, two.probabilities),
    )


def read_common(run_dirs: Sequence[Path]) -> tuple[list[dict[str, Any]], list[run_folder.Predictions]]:
    """Return the records of finished runs, and their predictions for the rows that all of them held out.

    Raises:
        UserError: The runs were trained on different files, or held out no common row.
    """
    records = [run_folder.read_finished_record(run_dir) for run_dir in run_dirs]
    rows: Any = None
    predictions = []
    for record, run_dir in zip(records, run_dirs, strict=True):
        run_folder.require_members(record, run_dir)
        if record["data"]["train.csv"] != records[0]["data"]["train.csv"]:
            raise UserError(
                f"expected runs trained on the same train.csv, found different files for {run_dirs[0].name} and "
                f"{run_dir.name}; train one of them again"
            )
        predictions.append(run_folder.read_predictions(run_dir))
        rows = predictions[0].rows if rows is None else np.intersect1d(rows, predictions[-1].rows, assume_unique=True)
        if not len(rows):
            raise UserError(
                f"expected runs that held out some of the same rows of train.csv, found no common row for "
                f"{run_dirs[0].name} and {run_dir.name}; compare runs with the same split_seed"
            )
    common = [np.isin(one.rows, rows, assume_unique=True) for one in predictions]  # rows are sorted
    found = [
        run_folder.Predictions(*(values[kept] for values in one)) for one, kept in zip(predictions, common, strict=True)
    ]
    return records, found


def make_comparison(comparison: Comparison, models_dir: Path, data_dir: Path, step: Step) -> Document:
    """Compose the document of a comparison from the folder of both runs and the folder of their train.csv.

    Raises:
        UserError: The runs were trained on another train.csv.
    """
    step("reading the data", 0)
    train = load_train(data_dir)
    record = run_folder.read_finished_record(models_dir / comparison.names[0])
    run_folder.require_data(record, {"train.csv": train.sha256}, data_dir)
    for name, predictions in zip(comparison.names, comparison.predictions, strict=True):
        run_folder.require_labels(predictions, train.labels, models_dir / name)
    histories = {
        name: [run_folder.read_history(folder) for folder in run_folder.member_dirs(models_dir / name)]
        for name in comparison.names
    }
    pictures = {name: figures.draw_history(histories, name) for name in ("accuracy", "loss")}
    changes = ("fixed", comparison.test.fixed), ("broken", comparison.test.broken)
    for (name, positions), predictions in zip(changes, comparison.predictions, strict=True):
        shown = (values[positions[:GALLERY_SIZE]] for values in predictions)
        pictures[name] = figures.draw_predictions(train.images, *shown)
    return compose("compare.md.jinja", comparison._asdict(), pictures)
