"""Two runs side by side: what differs in their settings, and in their answers to the same rows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.console import Step
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import Document, compose
from digit_recognizer.training import runs

GALLERY_SIZE = 30  # images of a gallery


class Comparison(NamedTuple):
    """Two runs and their answers to the rows of train.csv on which neither of them was trained."""

    names: tuple[str, str]
    records: tuple[dict[str, Any], dict[str, Any]]
    settings: list[tuple[str, Any, Any]]  # those that differ: name, value of the first, value of the second
    answers: tuple[runs.Predictions, runs.Predictions]  # to the same rows
    accuracies: tuple[metrics.Accuracy, metrics.Accuracy]
    test: metrics.PairedTest

    def to_dict(self) -> dict[str, Any]:
        """Returns it as a value that JSON can hold; fixed and broken images as rows of train.csv, counted from 0."""
        rows = self.answers[0].rows
        return {
            "runs": list(self.names),
            "settings": {name: values for name, *values in self.settings},
            "rows": len(rows),
            "accuracy": [accuracy._asdict() for accuracy in self.accuracies],
            "both_right": self.test.both_right,
            "both_wrong": self.test.both_wrong,
            "fixed": rows[self.test.fixed].tolist(),
            "broken": rows[self.test.broken].tolist(),
            "p_value": self.test.p_value,
        }


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compares two finished runs.

    Args:
        first: the folder of one run.
        second: that of the other, whose changes are called fixed and broken.

    Raises:
        UserError: they were trained on different files, or no row was held out by both.
    """
    names = first.name, second.name
    records = runs.read_finished_record(first), runs.read_finished_record(second)
    if records[0]["data"]["train.csv"] != records[1]["data"]["train.csv"]:
        raise UserError(f"expected two runs on one train.csv, found {names[0]} and {names[1]} on different ones")
    every = [runs.read_predictions(folder) for folder in (first, second)]
    common, *places = np.intersect1d(every[0].rows, every[1].rows, assume_unique=True, return_indices=True)
    if not len(common):
        raise UserError(
            f"expected two runs that held out some rows of train.csv in common, found none in {names[0]} and "
            f"{names[1]}; compare runs with the same split_seed"
        )
    answers = tuple(
        runs.Predictions(*(values[place] for values in side)) for side, place in zip(every, places, strict=True)
    )
    labels, probabilities = answers[0].labels, [side.probabilities for side in answers]
    return Comparison(
        names,
        records,
        _differing(*map(_settings, records)),
        answers,
        tuple(metrics.accuracy(labels, side) for side in probabilities),
        metrics.paired_test(labels, *probabilities),
    )


def make_comparison(comparison: Comparison, models_dir: Path, data_dir: Path, step: Step) -> Document:
    """Returns a comparison as Markdown and pictures.

    Args:
        comparison: of two runs.
        models_dir: the folder of both.
        data_dir: the folder of their train.csv.
        step: is told what is being done.

    Raises:
        UserError: the train.csv is not theirs.
    """
    step("reading the data", 0)
    train = load_train(data_dir)
    runs.require_data(comparison.records[0], {"train.csv": train.sha256}, data_dir)
    histories = {
        name: [runs.read_history(folder) for folder in runs.member_dirs(models_dir / name)] for name in comparison.names
    }
    pictures = {name: figures.draw_history(histories, name) for name in ("accuracy", "loss")}
    for name, positions, side in (
        ("fixed", comparison.test.fixed, comparison.answers[0]),
        ("broken", comparison.test.broken, comparison.answers[1]),
    ):
        if len(positions):
            shown = (values[positions[:GALLERY_SIZE]] for values in side)
            pictures[name] = figures.draw_answers(train.images, *shown, "read as")
    facts = comparison._asdict() | {"gallery_size": GALLERY_SIZE}
    return compose("compare.md.jinja", facts, pictures)


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    return record["config"] | record["versions"] | record["machine"] | {"git_commit": record["git_commit"]}


def _differing(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns names and values that differ; None for what one side lacks."""
    names = [*first, *(name for name in second if name not in first)]
    return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]
