"""Figures of images, training histories and predictions, drawn with matplotlib and saved as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from digit_recognizer.config import CLASSES
from digit_recognizer.evaluation.metrics import Calibration
from digit_recognizer.files import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, safe for colour blindness
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 5.2  # inches; the text stays legible when a figure is scaled to a phone's screen
STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 8.5,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # the name of a run may contain a dollar sign
}


@rc_context(STYLE)
def draw_lines(
    lines: Mapping[str, Sequence[np.ndarray]], label: str, *, percent: bool = False, log: bool = False
) -> Figure:
    """Draw values per epoch: a thin line for each member and a thick line for their mean.

    Args:
        lines: For each name in the legend, the values of its members, float64 [epochs] each.
        label: Label of the vertical axis, with the unit.
        percent: Whether the values are accuracies: the axis then focuses on those near 1.
        log: Whether the vertical axis is logarithmic.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    for (name, members), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        if len(members) > 1:
            for values in members:
                axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=0.7, alpha=0.6)
            name += f", mean of {len(members)} members"
        epochs = min(map(len, members))
        mean = np.mean([values[:epochs] for values in members], axis=0)
        axes.plot(np.arange(1, epochs + 1), mean, color=colour, marker=marker, markersize=4, label=name)
    axes.set(xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
        values = np.concatenate([values for members in lines.values() for values in members])
        floor = min(np.median(values), values.max() - 0.005)  # the first epoch may fall below the axis
        axes.set_ylim(floor - (1 - floor), 1 + (1 - floor) * 0.1)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid()
    axes.legend(loc="lower right" if percent else "upper right")
    return figure


def draw_history(groups: Mapping[str, Sequence[Mapping[str, np.ndarray]]], metric: str) -> Figure:
    """Draw training and validation values per epoch.

    Args:
        groups: For each name, which may be empty, the histories of its members.
        metric: "accuracy" or "loss".
    """
    lines = {
        f"{group} {name}".strip(): [history[column] for history in histories]
        for group, histories in groups.items()
        for name, column in (("training", metric), ("validation", f"val_{metric}"))
    }
    if metric == "accuracy":
        return draw_lines(lines, "accuracy", percent=True)
    return draw_lines(lines, "cross-entropy (nats)", log=True)


@rc_context(STYLE)
def draw_confusion_matrix(matrix: np.ndarray, *, rates: bool = False) -> Figure:
    """Draw a confusion matrix. Colours show the share of a digit's images that are confused with another digit.

    Args:
        matrix: int64 [10, 10]: rows are labels, columns predictions.
        rates: Whether to print those shares, in per cent, instead of image counts.
    """
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    confused = np.where(np.eye(CLASSES, dtype=bool), np.nan, shares)
    top = max(float(np.nanmax(confused)), 1e-9)
    axes.set_facecolor("#eeeeee")  # of the diagonal, which has no colour
    mesh = axes.imshow(confused, cmap="Blues", vmin=0, vmax=top)
    for label, predicted in np.argwhere(matrix):
        if label == predicted and rates:
            continue
        text = f"{shares[label, predicted] * 100:.2g}" if rates else f"{matrix[label, predicted]:,}"
        colour = "white" if label != predicted and shares[label, predicted] > 0.6 * top else "black"
        axes.text(predicted, label, text, ha="center", va="center", size=7.5, color=colour)
    axes.set(xticks=range(CLASSES), yticks=range(CLASSES), xlabel="predicted digit", ylabel="true digit")
    figure.colorbar(mesh, ax=axes, label="share of the true digit's images", format=PercentFormatter(1, decimals=1))
    return figure


@rc_context(STYLE)
def draw_reliability(calibration: Calibration) -> Figure:
    """Draw a reliability diagram: accuracy by predicted probability, and the number of predictions in each bin."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#808080", linestyle="--", label="perfectly calibrated")
    upper.plot(calibration.confidence, calibration.accuracy, color=COLOURS[0], marker="o", label="this run")
    upper.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(-0.02, 1.04))
    upper.legend(loc="upper left")
    upper.grid()
    lower.bar(calibration.confidence, calibration.counts, 0.03, color=COLOURS[0])
    lower.set(
        xlabel="probability of the predicted digit (mean of the bin)", ylabel="predictions", yscale="log", ylim=0.7
    )
    lower.yaxis.set_major_locator(LogLocator(numticks=9))
    lower.yaxis.set_major_formatter("{x:g}")
    lower.yaxis.set_minor_formatter("")
    lower.grid(axis="y")
    return figure


@rc_context(STYLE)
def draw_gallery(
    images: Sequence[np.ndarray] | np.ndarray, titles: Sequence[str] | None = None, *, columns: int = 6
) -> Figure:
    """Draw images in rows, each below its title.

    Args:
        images: uint8 [height, width] with bright strokes, drawn dark on white; or RGB, uint8 [height, width, 3].
        titles: One or two lines of text for each image.
        columns: Images per row.
    """
    titles = titles or [""] * len(images)
    rows = max(1, -(-len(images) // columns))
    cell = WIDTH / columns  # inches
    above = 0.16 * max([title.count("\n") + bool(title) for title in titles], default=1)  # inches
    step = 1 + above / cell  # height of a row, where the width of a cell is 1
    figure = Figure(figsize=(WIDTH, rows * (cell + above)))
    axes = figure.add_axes((0, 0, 1, 1))
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = index % columns, (index // columns + 1) * step - 1
        height, width = 0.94 * np.array(image.shape[:2]) / max(image.shape[:2])
        x, y = left + (1 - width) / 2, top + (1 - height) / 2
        axes.imshow(image, extent=(x, x + width, y + height, y), cmap="gray_r", vmin=0, vmax=255, interpolation="none")
        axes.text(left + 0.5, top, title, ha="center", va="bottom", size=6.5 if columns > 5 else 8.5)
    if not len(images):
        axes.text(columns / 2, step / 2, "none", ha="center", va="center")
    axes.axis("off")
    axes.set(xlim=(0, columns), ylim=(rows * step, 0), aspect="auto")
    return figure


def draw_predictions(
    images: np.ndarray, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, verb: str = "read as"
) -> Figure:
    """Draw images with label, prediction, its probability and the row of train.csv: "4 read as 9", "97%, row 31".

    Args:
        images: All images of train.csv, uint8 [m, 28, 28].
        rows: Rows of the images to draw, int64 [n].
        labels: uint8 [n].
        probabilities: float32 [n, 10].
        verb: Printed between label and prediction.
    """
    titles = [
        f"{label} {verb} {probability.argmax()}\n{probability.max():.0%}, row {row}"
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
    ]
    return draw_gallery(images[rows], titles)


@rc_context(STYLE)
def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. The same figure gives the same bytes; a failure leaves an earlier file unchanged."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png", metadata={"Software": None})
