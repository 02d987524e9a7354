"""Comparison of two runs: their settings, and their predictions for the same images."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.console import Step
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import Document, compose
from digit_recognizer.training import runs

GALLERY_SIZE = 30  # images


class Comparison(NamedTuple):
    """Two runs and their predictions for the rows of train.csv that both held out."""

    names: tuple[str, str]
    records: tuple[dict[str, Any], dict[str, Any]]
    settings: list[tuple[str, Any, Any]]  # name and values of those that differ; None if not recorded
    predictions: tuple[runs.Predictions, runs.Predictions]  # for the same rows
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


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two finished runs.

    Args:
        first: Folder of the baseline.
        second: Folder of the run whose differences from the baseline are called fixed and broken.

    Raises:
        UserError: The runs were trained on different files, or held out no common row.
    """
    names = first.name, second.name
    records = runs.read_finished_record(first), runs.read_finished_record(second)
    if records[0]["data"]["train.csv"] != records[1]["data"]["train.csv"]:
        raise UserError(
            f"expected two runs trained on the same train.csv, found different files for {names[0]} and {names[1]}; "
            "train one of them again"
        )
    one, two = runs.read_predictions(first), runs.read_predictions(second)
    common, *positions = np.intersect1d(one.rows, two.rows, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError(
            f"expected two runs that held out some of the same rows of train.csv, found no common row for {names[0]} "
            f"and {names[1]}; compare runs with the same split_seed"
        )
    one, two = (
        runs.Predictions(*(values[index] for values in run)) for run, index in zip((one, two), positions, strict=True)
    )
    settings = [
        record["config"] | record["versions"] | record["machine"] | {"git_commit": record["git_commit"]}
        for record in records
    ]
    pairs = [(name, settings[0].get(name), settings[1].get(name)) for name in settings[0] | settings[1]]
    return Comparison(
        names,
        records,
        [(name, before, after) for name, before, after in pairs if before != after],
        (one, two),
        (metrics.accuracy(one.labels, one.probabilities), metrics.accuracy(two.labels, two.probabilities)),
        metrics.paired_test(one.labels, one.probabilities, two.probabilities),
    )


def make_comparison(comparison: Comparison, models_dir: Path, data_dir: Path, step: Step) -> Document:
    """Compose the document of a comparison.

    Args:
        comparison: Comparison of two runs.
        models_dir: Folder that contains both runs.
        data_dir: Folder of their train.csv.
        step: Progress callback.

    Raises:
        UserError: The runs were trained on another train.csv.
    """
    step("reading the data", 0)
    train = load_train(data_dir)
    runs.require_data(comparison.records[0], {"train.csv": train.sha256}, data_dir)
    histories = {
        name: [runs.read_history(folder) for folder in runs.member_dirs(models_dir / name)] for name in comparison.names
    }
    pictures = {name: figures.draw_history(histories, name) for name in ("accuracy", "loss")}
    changes = ("fixed", comparison.test.fixed), ("broken", comparison.test.broken)
    for (name, positions), predictions in zip(changes, comparison.predictions, strict=True):
        shown = (values[positions[:GALLERY_SIZE]] for values in predictions)
        pictures[name] = figures.draw_predictions(train.images, *shown)
    return compose("compare.md.jinja", comparison._asdict() | {"gallery_size": GALLERY_SIZE}, pictures)
