"""Pictures of a run, as PNG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from digit_recognizer.config import CLASSES
from digit_recognizer.files import replacing

# Two colours of Okabe and Ito's palette, which the colour-blind can tell apart.
TRAINING, VALIDATION = "#0072B2", "#D55E00"
GALLERY_COLUMNS = 8


def draw_curves(histories: Sequence[Mapping[str, np.ndarray]], path: Path) -> None:
    """Draws accuracy and loss over the epochs, a thin line a member.

    Args:
        histories: of each member: loss, accuracy, val_loss and val_accuracy, float64 [epochs].
        path: of the PNG file.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    accuracy_axes, loss_axes = figure.subplots(1, 2)
    for axes, name in ((accuracy_axes, "accuracy"), (loss_axes, "loss")):
        for history in histories:
            epochs = np.arange(1, len(history[name]) + 1)
            for column, colour, label in ((name, TRAINING, "training"), (f"val_{name}", VALIDATION, "validation")):
                axes.plot(
                    epochs,
                    history[column],
                    color=colour,
                    label=label if history is histories[0] else None,
                    marker="o",
                    markersize=3,
                    linewidth=1.5 if len(histories) == 1 else 0.8,
                )
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    accuracy_axes.set_ylabel("accuracy")
    accuracy_axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
    # The first epoch's training values would squeeze all others into a line.
    values = np.concatenate([history["val_accuracy"] for history in histories])
    floor = min(np.median(values), values.max() - 0.005)
    accuracy_axes.set_ylim(floor - (1 - floor), 1 + (1 - floor) * 0.1)
    loss_axes.set_ylabel("cross-entropy (nats)")
    loss_axes.set_yscale("log")
    _save(figure, path)


def draw_confusion_matrix(matrix: np.ndarray, path: Path) -> None:
    """Draws a confusion matrix with its counts, coloured by the share of the label's images that went wrong.

    Args:
        matrix: int64 [10, 10]: row the label, column the answer.
        path: of the PNG file.
    """
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    rates = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    off_diagonal = np.where(np.eye(CLASSES, dtype=bool), np.nan, rates)
    top = max(float(np.nanmax(off_diagonal)), 1e-9)
    image = axes.imshow(off_diagonal, cmap="Blues", vmin=0, vmax=top)
    axes.set_facecolor("#eeeeee")
    for label, predicted in np.ndindex(matrix.shape):
        if matrix[label, predicted]:
            dark = label != predicted and rates[label, predicted] > top / 2
            axes.text(
                predicted,
                label,
                f"{matrix[label, predicted]:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(CLASSES))
    axes.set_yticks(range(CLASSES))
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit")
    figure.colorbar(image, ax=axes, label="share of the true digit's images", format=PercentFormatter(1, decimals=1))
    _save(figure, path)


def draw_mistakes(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, path: Path, *, rows: np.ndarray
) -> None:
    """Draws wrongly answered images with label, answer, probability and row of train.csv.

    Args:
        images: uint8 [n, 28, 28]; with none of them, the picture says so.
        labels: uint8 [n].
        probabilities: float32 [n, 10].
        path: of the PNG file.
        rows: int64 [n], of train.csv, counted from 0.
    """
    lines = max(1, -(-len(images) // GALLERY_COLUMNS))
    figure = Figure(figsize=(1.35 * GALLERY_COLUMNS, 1.75 * lines), layout="constrained")
    grid = figure.subplots(lines, GALLERY_COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    if not len(images):
        figure.text(0.5, 0.5, "no mistakes", ha="center", va="center")
    for axes, image, label, answer, row in zip(grid.flat, images, labels, probabilities, rows, strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        axes.set_title(f"{label} read as {answer.argmax()}\n{answer.max():.0%}, row {row}", fontsize=8)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
