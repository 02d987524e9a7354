"""Pictures of data and runs: matplotlib figures, saved as PNG or as SVG for a page.

Figures are as wide as a phone's screen needs to show their text in a readable size. Axes and text are drawn in one ink,
so that a page can give them its own colour.
"""

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from digit_recognizer.config import CLASSES
from digit_recognizer.evaluation.metrics import Calibration
from digit_recognizer.files import replacing
from digit_recognizer.model.summary import Layer

# Okabe and Ito's palette, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#262626"
WIDTH = 5.2  # inches
STYLE = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "image.composite_image"), False),
    "axes.facecolor": "none",
    "font.size": 8.5,
    "grid.alpha": 0.3,
    "grid.color": "#808080",
    "svg.fonttype": "none",
    "svg.hashsalt": "digit-recognizer",  # the same figure gives the same bytes
    "text.parse_math": False,  # a run's name may hold a dollar sign
}


@rc_context(STYLE)
def draw_lines(
    lines: Mapping[str, Sequence[np.ndarray]], label: str, *, percent: bool = False, log: bool = False
) -> Figure:
    """Draws values over the epochs: a thin line a member and a thick one for their mean.

    Args:
        lines: of each name, which gets a colour, the values of its members, float64 [epochs] each.
        label: of the values' axis, with its unit.
        percent: whether the values are shares of which those near 1 matter.
        log: whether the axis is logarithmic.
    """
    figure, axes = _axes(3.2)
    for (name, members), colour, marker in zip(lines.items(), COLOURS, MARKERS, strict=False):
        epochs = min(map(len, members))
        for values in members if len(members) > 1 else ():
            axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=0.7, alpha=0.6)
        mean = np.mean([values[:epochs] for values in members], axis=0)
        suffix = f", mean of {len(members)} members" if len(members) > 1 else ""
        axes.plot(np.arange(1, epochs + 1), mean, color=colour, marker=marker, markersize=4, label=name + suffix)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
        # The first epoch's values would squeeze all others into a line.
        values = np.concatenate([values for members in lines.values() for values in members])
        floor = min(np.median(values), values.max() - 0.005)
        axes.set_ylim(floor - (1 - floor), 1 + (1 - floor) * 0.1)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid()
    axes.legend(loc="lower right" if percent else "upper right")  # looking for the best place can take long
    return figure


def draw_history(groups: Mapping[str, Sequence[Mapping[str, np.ndarray]]], name: str) -> Figure:
    """Draws training and validation values over the epochs.

    Args:
        groups: the histories of the members of each group, whose name may be empty.
        name: "accuracy" or "loss".
    """
    lines = {
        f"{group} {side}".strip(): [history[column] for history in histories]
        for group, histories in groups.items()
        for side, column in (("training", name), ("validation", f"val_{name}"))
    }
    if name == "accuracy":
        return draw_lines(lines, "accuracy", percent=True)
    return draw_lines(lines, "cross-entropy (nats)", log=True)


@rc_context(STYLE)
def draw_confusion_matrix(matrix: np.ndarray, *, rates: bool = False) -> Figure:
    """Draws a confusion matrix, coloured by the share of the label's images that went wrong.

    Args:
        matrix: int64 [10, 10]: row the label, column the answer.
        rates: whether to write shares and leave out the diagonal, in place of counts.
    """
    figure, axes = _axes(4)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    off_diagonal = np.where(np.eye(CLASSES, dtype=bool), np.nan, shares)
    top = max(float(np.nanmax(off_diagonal)), 1e-9)
    axes.set_facecolor("#eeeeee")
    mesh = axes.pcolormesh(np.arange(-0.5, CLASSES), np.arange(-0.5, CLASSES), off_diagonal, cmap="Blues", vmax=top)
    mesh.set_clim(0, top)
    for label, predicted in np.argwhere(matrix):
        if label == predicted and rates:
            continue
        dark = label != predicted and shares[label, predicted] > 0.6 * top
        text = f"{shares[label, predicted] * 100:.2g}" if rates else f"{matrix[label, predicted]:,}"
        axes.text(predicted, label, text, ha="center", va="center", size=7.5, color="white" if dark else "black")
    axes.set(xticks=range(CLASSES), yticks=range(CLASSES), xlabel="predicted digit", ylabel="true digit", aspect=1)
    axes.invert_yaxis()
    figure.colorbar(mesh, ax=axes, label="share of the true digit's images", format=PercentFormatter(1, decimals=1))
    return figure


@rc_context(STYLE)
def draw_class_counts(counts: np.ndarray) -> Figure:
    """Draws how many images there are of each digit: int64 [10]."""
    figure, axes = _axes(2.4)
    axes.bar_label(axes.bar(range(CLASSES), counts, color=COLOURS[0]), fmt="{:,.0f}", size=7.5)
    axes.set(xticks=range(CLASSES), xlabel="digit", ylabel="images")
    return figure


@rc_context(STYLE)
def draw_reliability(calibration: Calibration) -> Figure:
    """Draws the share of right answers against their probability, and how many answers there are of each."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="#808080", linestyle="--", label="perfectly calibrated")
    upper.plot(calibration.confidence, calibration.accuracy, color=COLOURS[0], marker="o", label="this run")
    upper.set(ylabel="share of right answers", xlim=(0, 1.02), ylim=(-0.02, 1.04))
    upper.legend(loc="upper left")
    upper.grid()
    lower.bar(calibration.confidence, calibration.counts, 0.03, color=COLOURS[0])
    lower.set(xlabel="probability of the answer (mean of the bin)", ylabel="answers", yscale="log", ylim=0.7)
    lower.yaxis.set_major_locator(LogLocator(numticks=9))
    lower.yaxis.set_major_formatter("{x:g}")
    lower.yaxis.set_minor_formatter("")
    lower.grid(axis="y")
    return figure


@rc_context(STYLE)
def draw_gallery(images: Sequence[np.ndarray], titles: Sequence[str], *, columns: int = 6) -> Figure:
    """Draws images in lines, each under its title.

    Args:
        images: uint8 [height, width], as ink on paper, the brighter the darker; or uint8 [height, width, 3], as it is.
        titles: of as many, of one line or two, or empty.
        columns: images of a line.
    """
    lines = max(1, -(-len(images) // columns))
    above = 0.16 * max([title.count("\n") + bool(title) for title in titles], default=1)  # inches for a title
    cell = WIDTH / columns
    step = 1 + above / cell
    figure = Figure(figsize=(WIDTH, lines * (cell + above)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for index, (image, title) in enumerate(zip(images, titles, strict=True)):
        left, top = index % columns, index // columns * step + step - 1
        height, width = 0.94 * np.array(image.shape[:2]) / max(image.shape[:2])
        x, y = left + (1 - width) / 2, top + (1 - height) / 2
        axes.imshow(image, extent=(x, x + width, y + height, y), cmap="gray_r", vmin=0, vmax=255, interpolation="none")
        axes.text(left + 0.5, top, title, ha="center", va="bottom", size=6.5 if columns > 5 else 8.5)
    if not len(images):
        axes.text(columns / 2, step / 2, "none", ha="center", va="center")
    axes.set(xlim=(0, columns), ylim=(lines * step, 0), aspect="auto")
    return figure


def draw_answers(
    images: np.ndarray, rows: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, verb: str
) -> Figure:
    """Draws answered images, each with its label, answer, probability and row: "4 read as 9", "97%, row 31".

    Args:
        images: of train.csv, uint8 [m, 28, 28].
        rows: which of them, int64 [n].
        labels: uint8 [n].
        probabilities: float32 [n, 10].
        verb: between label and answer.
    """
    titles = [
        f"{label} {verb} {answer.argmax()}\n{answer.max():.0%}, row {row}"
        for row, label, answer in zip(rows, labels, probabilities, strict=True)
    ]
    return draw_gallery(images[rows], titles)


@rc_context(STYLE)
def draw_architecture(layers: Sequence[Layer]) -> Figure:
    """Draws the layers from the input down, what each gives on, and the connections that skip some."""
    figure = Figure(figsize=(WIDTH, 0.25 * len(layers) + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    places = {layer.name: index for index, layer in enumerate(layers)}
    for index, layer in enumerate(layers):
        colour = COLOURS[0] if layer.multiply_adds else COLOURS[4] if len(layer.inputs) > 1 else "#808080"
        style = {"boxstyle": "round,pad=0,rounding_size=0.1", "facecolor": colour + "33", "edgecolor": colour}
        axes.add_patch(FancyBboxPatch((1, index - 0.3), 6, 0.6, **style))
        axes.text(4, index, layer.kind, ha="center", va="center", size=8)
        axes.text(7.3, index, " x ".join(map(str, layer.shape)), va="center", size=8)
        for name in layer.inputs:
            start, end = (4, places[name] + 0.3), (4, index - 0.3)
            if places[name] < index - 1:  # around the layers between
                axes.plot((1, 0.4, 0.4), (places[name], places[name], index), color=COLOURS[4])
                start, end = (0.4, index), (1, index)
            arrow = {"arrowstyle": "-|>", "mutation_scale": 6, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", end, start, arrowprops=arrow | {"color": COLOURS[4] if start[0] < 1 else INK})
    axes.set(xlim=(0, 10), ylim=(len(layers) - 0.5, -0.5))
    return figure


@rc_context(STYLE)
def draw_scores(points: Mapping[str, tuple[float, float]]) -> Figure:
    """Draws the public score of each submission against its validation accuracy; points are named."""
    figure, axes = _axes(4.4)
    for (name, (validation, public)), colour, marker in zip(
        points.items(), COLOURS * len(points), MARKERS * len(points), strict=False
    ):
        axes.scatter(validation, public, color=colour, marker=marker, label=name, zorder=2)
    values = np.array(list(points.values()))
    margin = max(float(np.ptp(values)) * 0.15, 0.0005)
    ends = values.min() - margin, values.max() + margin
    axes.plot(ends, ends, color="#808080", linestyle="--", label="equal", zorder=1)
    axes.set(xlim=ends, ylim=ends, xlabel="validation accuracy", ylabel="public score (accuracy)", aspect=1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
        axis.set_major_formatter(PercentFormatter(1, decimals=2))
    axes.grid()
    axes.legend(loc="upper left", fontsize=7)  # the points lie near the diagonal
    return figure


@rc_context(STYLE)
def save_png(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, on white, whole or not at all."""
    _settle(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=144, format="png", facecolor="white", metadata={"Software": None})


@rc_context(STYLE)
def to_svg(figure: Figure, name: str) -> str:
    """Returns a figure as the SVG element of a page.

    Its ink is the page's text colour, it is as wide as its place, and its ids begin with `name`, so that those of
    several figures on one page differ.
    """
    _settle(figure)
    text = io.StringIO()
    nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(text, format="svg", facecolor="none", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\s(?:width|height)="[^"]*pt"', "", svg, count=2)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)


def _settle(figure: Figure) -> None:
    """Lays a figure out once, so that it is the same however often it is drawn."""
    if figure.get_layout_engine():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()
