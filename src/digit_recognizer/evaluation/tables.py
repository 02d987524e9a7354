"""What the stages print: tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from digit_recognizer.evaluation.metrics import Accuracy, Confusion, PairedTest

HISTORY_COLUMNS = {
    "loss": ("loss", ".4f"),
    "accuracy": ("accuracy", ".2%"),
    "val_loss": ("validation loss", ".4f"),
    "val_accuracy": ("validation accuracy", ".2%"),
    "seconds": ("seconds", ".1f"),
}


def history_table(history: Mapping[str, np.ndarray], title: str) -> Table:
    """Returns a row an epoch.

    Args:
        history: loss, accuracy, seconds, and val_loss, val_accuracy where rows were held out: float64 [epochs].
        title: above the table.
    """
    names = [name for name in HISTORY_COLUMNS if name in history]
    table = _table(title, ("epoch", *(HISTORY_COLUMNS[name][0] for name in names)))
    for epoch, values in enumerate(zip(*(history[name] for name in names), strict=True), 1):
        cells = [format(value, HISTORY_COLUMNS[name][1]) for name, value in zip(names, values, strict=True)]
        table.add_row(str(epoch), *cells)
    return table


def class_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Returns a row a digit out of `evaluation.class_scores`."""
    table = _table("By digit", ("digit", "precision", "recall", "F1", "images"))
    for row in scores:
        table.add_row(
            str(row["digit"]),
            f"{row['precision']:.2%}",
            f"{row['recall']:.2%}",
            f"{row['f1']:.2%}",
            f"{row['support']:,}",
        )
    return table


def confusion_table(confusions: Sequence[Confusion]) -> Table:
    """Returns a row a confusion."""
    table = _table("Most frequent confusions", ("digit", "read as", "times"))
    for confusion in confusions:
        table.add_row(str(confusion.label), str(confusion.predicted), str(confusion.count))
    return table


def settings_table(settings: Sequence[tuple[str, Any, Any]], names: Sequence[str]) -> Table:
    """Returns a row for each setting in which two runs differ: its name and both values, None for one not there."""
    table = _table("What differs", ("", *names))
    for name, *values in settings:
        table.add_row(name, *("not there" if value is None else str(value) for value in values))
    return table


def accuracies_table(names: Sequence[str], accuracies: Sequence[Accuracy], test: PairedTest) -> Table:
    """Returns a row for each of two runs, and what McNemar's test says of them."""
    table = _table(f"On the same {accuracies[0].rows:,} images", ("run", "accuracy", "95% interval", "right alone"))
    table.caption = f"McNemar's exact test: p = {test.p_value:.2g}"
    for name, accuracy, alone in zip(names, accuracies, (test.broken, test.fixed), strict=True):
        table.add_row(name, f"{accuracy.value:.2%}", f"{accuracy.low:.2%} to {accuracy.high:.2%}", f"{len(alone):,}")
    return table


def readings_table(readings: Sequence[tuple[str, str, str, str]]) -> Table:
    """Returns a row a picture file out of `recognition.summarise`."""
    table = _table("", ("file", "digits", "probability", "runner-up"))
    table.columns[0].justify, table.columns[0].overflow = "left", "fold"  # a name that is cut names nothing
    for path, *values in readings:
        table.add_row(escape(path), *values)
    return table


def kinds_table(scores: Mapping[str, Accuracy]) -> Table:
    """Returns a row a kind of picture out of `recognition.score`."""
    table = _table("By kind", ("kind", "right", "95% confidence interval", "pictures"))
    for kind, accuracy in scores.items():
        interval = f"{accuracy.low:.1%} to {accuracy.high:.1%}"
        table.add_row(escape(kind or "all"), f"{accuracy.value:.1%}", interval, f"{accuracy.rows:,}")
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table
