"""Tables that the commands print."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from digit_recognizer.console import make_table
from digit_recognizer.evaluation.metrics import Accuracy, Confusion, PairedTest

HISTORY_COLUMNS = {
    "loss": ("loss", ".4f"),
    "accuracy": ("accuracy", ".2%"),
    "val_loss": ("validation loss", ".4f"),
    "val_accuracy": ("validation accuracy", ".2%"),
    "seconds": ("seconds", ".1f"),
}


def history_table(history: Mapping[str, np.ndarray], title: str) -> Table:
    """Return a table with one row per epoch.

    Args:
        history: Columns of history.csv, float64 [epochs]; those of a validation set may be missing.
        title: Printed above the table.
    """
    columns = {name: column for name, column in HISTORY_COLUMNS.items() if name in history}
    cells = [[format(value, code) for value in history[name]] for name, (_, code) in columns.items()]
    epochs = map(str, range(1, len(cells[0]) + 1))
    return make_table(title, ["epoch", *(heading for heading, _ in columns.values())], zip(epochs, *cells, strict=True))


def class_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of `metrics.class_scores`."""
    rows = [
        (f"{row['digit']}", *(f"{row[name]:.2%}" for name in ("precision", "recall", "f1")), f"{row['support']:,}")
        for row in scores
    ]
    return make_table("By digit", ("digit", "precision", "recall", "F1", "images"), rows)


def confusion_table(confusions: Sequence[Confusion]) -> Table:
    """Return a table of `metrics.confusions`."""
    rows = [list(map(str, confusion)) for confusion in confusions]
    return make_table("Most frequent confusions", ("digit", "predicted", "images"), rows)


def format_setting(value: Any) -> str:
    """Return a setting from a record as text."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not recorded" if value is None else str(value)


def settings_table(settings: Sequence[tuple[str, Any, Any]], names: Sequence[str]) -> Table:
    """Return a table of `Comparison.settings`; `names` are those of the two runs."""
    return make_table(
        "Different settings", ("", *names), ((name, *map(format_setting, pair)) for name, *pair in settings)
    )


def accuracies_table(names: Sequence[str], accuracies: Sequence[Accuracy], test: PairedTest) -> Table:
    """Return a table of two runs on the same images, with the p-value of McNemar's test below."""
    rows = [
        (name, f"{accuracy.value:.2%}", f"{accuracy.low:.2%} to {accuracy.high:.2%}", f"{len(alone):,}")
        for name, accuracy, alone in zip(names, accuracies, (test.broken, test.fixed), strict=True)
    ]
    return make_table(
        f"On the same {accuracies[0].rows:,} images",
        ("run", "accuracy", "95% interval", "correct only here"),
        rows,
        caption=f"McNemar's exact test: p = {test.p_value:.2g}",
    )
