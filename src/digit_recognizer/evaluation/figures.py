"""Figures of images, training histories and predictions, drawn with matplotlib and saved as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from digit_recognizer.config import CLASSES
from digit_recognizer.data.folds import Predictions
from digit_recognizer.files import replacing

BLUE, VERMILION = "#0072B2", "#D55E00"  # of the palette of Okabe and Ito, safe for colour blindness
GALLERY_SIZE = 30  # images of a gallery of predictions
WIDTH = 5.2  # inches; the text stays legible when a figure is scaled to a phone's screen
STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 8.5,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


@rc_context(STYLE)
def draw_history(histories: Sequence[Mapping[str, np.ndarray]], metric: str) -> Figure:
    """Draw training and validation values per epoch: a thin line for each member and a thick line for their mean.

    `metric` is "accuracy" or "loss". Validation values may be missing, or nan in some epochs.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    kinds = ("training", metric, BLUE, "o"), ("validation", f"val_{metric}", VERMILION, "s")
    for label, column, colour, marker in kinds:
        if column not in histories[0]:
            continue
        values = np.stack([history[column] for history in histories], axis=1)  # [epochs, members]
        finite = np.isfinite(values).all(axis=1)
        epochs, values = np.flatnonzero(finite) + 1, values[finite]
        if len(histories) > 1:
            axes.plot(epochs, values, color=colour, linewidth=0.7, alpha=0.6)
            label += f", mean of {len(histories)} members"
        axes.plot(epochs, values.mean(axis=1), color=colour, marker=marker, markersize=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if metric == "accuracy":
        drawn = np.concatenate([line.get_ydata() for line in axes.lines])
        floor = min(np.median(drawn), drawn.max() - 0.005)  # the first epoch may fall below the axis
        axes.set(xlabel="epoch", ylabel="accuracy", ylim=(floor - (1 - floor), 1 + (1 - floor) * 0.1))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
    else:
        axes.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid()
    axes.legend(loc="lower right" if metric == "accuracy" else "upper right")
    return figure


@rc_context(STYLE)
def draw_confusion_matrix(matrix: np.ndarray) -> Figure:
    """Draw image counts, int64 [10, 10] with labels as rows; colours show the share of a row, without the diagonal."""
    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = figure.subplots(subplot_kw={"facecolor": "#eeeeee"})
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, np.nan)  # has no colour
    top = max(float(np.nanmax(shares)), 1e-9)
    mesh = axes.imshow(shares, cmap="Blues", vmin=0, vmax=top)
    for label, predicted in np.argwhere(matrix):
        colour = "white" if shares[label, predicted] > 0.6 * top else "black"
        axes.text(predicted, label, f"{matrix[label, predicted]:,}", ha="center", va="center", size=7.5, color=colour)
    axes.set(xticks=range(CLASSES), xlabel="predicted digit", yticks=range(CLASSES), ylabel="true digit")
    figure.colorbar(mesh, ax=axes, label="share of the true digit's images", format=PercentFormatter(1, decimals=1))
    return figure


@rc_context(STYLE)
def draw_reliability(labels: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Draw a reliability diagram: accuracy by probability of the predicted digit, in 15 bins of equal width."""
    from sklearn.calibration import CalibrationDisplay

    figure = Figure(figsize=(WIDTH, 4), layout="constrained")
    axes = figure.subplots()
    correct, confidence = probabilities.argmax(axis=1) == labels, probabilities.max(axis=1).clip(max=1)
    CalibrationDisplay.from_predictions(correct, confidence, n_bins=15, name="this run", ax=axes, color=BLUE)
    axes.set(xlabel="probability of the predicted digit (mean of the bin)", ylabel="accuracy")
    axes.grid()
    return figure


@rc_context(STYLE)
def draw_gallery(images: Sequence[np.ndarray] | np.ndarray, titles: Sequence[str] = (), *, columns: int = 6) -> Figure:
    """Draw images in rows, each below its title of one or two lines.

    Images are uint8 [h, w] with bright strokes, drawn dark on white, or uint8 [h, w, 3] in RGB.
    """
    titles = titles or [""] * len(images)
    rows = max(1, -(-len(images) // columns))
    cell = WIDTH / columns  # inches
    above = 0.16 * max([title.count("\n") + bool(title) for title in titles], default=1)  # inches
    step = 1 + above / cell  # height of a row, where the width of a cell is 1
    figure = Figure(figsize=(WIDTH, rows * (cell + above)))
    axes = figure.add_axes((0, 0, 1, 1))
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        x, y = index % columns + 0.5, (index // columns + 1) * step - 0.5  # centre of the image
        height, width = 0.47 * np.array(image.shape[:2]) / max(image.shape[:2])  # half of its sides
        box = (x - width, x + width, y + height, y - height)
        axes.imshow(image, extent=box, cmap="gray_r", vmin=0, vmax=255, interpolation="none")
        axes.text(x, y - 0.5, title, parse_math=False, ha="center", va="bottom", size=6.5 if columns > 5 else 8.5)
    if not len(images):
        axes.text(columns / 2, step / 2, "none", ha="center", va="center")
    axes.axis("off")
    axes.set(xlim=(0, columns), ylim=(rows * step, 0), aspect="auto")
    return figure


def draw_predictions(images: np.ndarray, predictions: Predictions, shown: np.ndarray) -> Figure:
    """Draw images with label, prediction, its probability and the row of train.csv: "4 read as 9", "97%, row 31".

    `images` are those of all rows of train.csv, uint8 [m, 28, 28]; `shown` are positions of predictions, of which the
    first ones are drawn.
    """
    rows, labels, probabilities = (values[shown[:GALLERY_SIZE]] for values in predictions)
    titles = [
        f"{label} read as {probability.argmax()}\n{probability.max():.0%}, row {row}"
        for row, label, probability in zip(rows, labels, probabilities, strict=True)
    ]
    return draw_gallery(images[rows], titles)


@rc_context(STYLE)
def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG. The same figure gives the same bytes; a failure leaves an earlier file unchanged."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png", metadata={"Software": None})
