"""Figures: that they are drawn, and of what."""

import re

import cv2
import numpy as np
import pytest

from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.model.summary import Layer

HISTORY = {
    "loss": np.array([0.5, 0.1]),
    "accuracy": np.array([0.9, 0.98]),
    "val_loss": np.array([0.3, 0.2]),
    "val_accuracy": np.array([0.95, 0.97]),
}


@pytest.fixture
def pixels(tmp_path):
    """The pixels of a figure's PNG, uint8 [h, w, 3], blue first."""

    def draw(figure):
        figures.save_png(figure, tmp_path / "figure.png")
        return cv2.imread(str(tmp_path / "figure.png"))

    return draw


def texts(figure):
    """What can be read in a figure."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", figures.to_svg(figure, "figure"))


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_curves_of_one_and_of_several_members(pixels, name):
    worse = {column: values * 0.9 for column, values in HISTORY.items()}
    one, two = (figures.draw_history({"": histories}, name) for histories in ([HISTORY], [HISTORY, worse]))
    assert {"training", "validation", "epoch"} < set(texts(one))
    assert {"training, mean of 2 members", "validation, mean of 2 members"} < set(texts(two))
    assert (pixels(one) != pixels(two)).any()


def test_the_mean_lies_between_the_members():
    members = np.array([0.0, 1.0]), np.array([1.0, 3.0, 5.0])  # one of them stopped early
    (axes,) = figures.draw_lines({"values": members}, "values (units)").axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0, 1], [1, 3, 5], [0.5, 2]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "values (units)")


def test_curves_of_several_runs_are_named():
    figure = figures.draw_history({"one": [HISTORY], "other": [HISTORY]}, "accuracy")
    assert {"one training", "one validation", "other training", "other validation"} < set(texts(figure))


def test_a_single_epoch_can_be_drawn(pixels):
    assert (
        pixels(figures.draw_history({"": [{name: values[:1] for name, values in HISTORY.items()}]}, "loss")).std() > 0
    )


def test_a_confusion_is_coloured_and_the_diagonal_is_not(pixels):
    perfect = np.diag(np.full(10, 50))
    confused = perfect.copy()
    confused[4, 9] = 5

    def blue(matrix):
        image = pixels(figures.draw_confusion_matrix(matrix)).astype(int)[:, :610]  # without the colour bar
        return ((image[..., 0] - image[..., 2]) > 60).sum()

    assert blue(perfect) == 0
    assert blue(confused) > 500


def test_confusions_as_counts_and_as_rates():
    matrix = np.diag(np.full(10, 48))
    matrix[4, 9] = 12
    counts, rates = (
        texts(figures.draw_confusion_matrix(matrix)),
        texts(figures.draw_confusion_matrix(matrix, rates=True)),
    )
    assert (counts.count("48"), counts.count("12")) == (10, 1)
    assert rates.count("20") == 1  # per cent of the digit 4
    assert "48" not in rates


def test_a_gallery_of_some_images_and_of_none(pixels):
    random = np.random.default_rng(0)
    drawn = []
    for count in (0, 1, 11):
        images = random.integers(0, 256, (20, 28, 28), np.uint8)
        answers = np.eye(10, dtype=np.float32)[np.ones(count, int)]
        drawn.append(figures.draw_answers(images, np.arange(count), np.zeros(count, int), answers, "read as"))
    assert texts(drawn[0]) == ["none"]
    assert texts(drawn[1]) == ["0 read as 1", "100%, row 0"]
    assert len(texts(drawn[2])) == 22
    assert pixels(drawn[2]).shape[0] > pixels(drawn[1]).shape[0]


def test_a_gallery_shows_ink_on_paper_and_colours_as_they_are(pixels):
    strokes = np.zeros((28, 28), np.uint8)
    strokes[10:18] = 255
    ink = pixels(figures.draw_gallery([strokes], [""], columns=1))
    middle, top = ink[ink.shape[0] // 2, ink.shape[1] // 2], ink[ink.shape[0] // 5, ink.shape[1] // 2]
    assert (middle.tolist(), top.tolist()) == ([0, 0, 0], [255, 255, 255])
    wide = np.full((10, 30, 3), (200, 100, 50), np.uint8)
    colour = pixels(figures.draw_gallery([wide], [""], columns=1))
    assert colour[colour.shape[0] // 2, colour.shape[1] // 2].tolist() == [50, 100, 200]
    assert colour[colour.shape[0] // 5, colour.shape[1] // 2].tolist() == [255, 255, 255]  # its aspect is kept


def test_the_diagram_has_a_box_a_layer_and_a_way_around_each_block():
    def layer(name, *inputs, work=0):
        return Layer(name, name.upper(), inputs, (7, 7, 4), 0, work)

    layers = [layer("in"), layer("conv", "in", work=9), layer("relu", "conv"), layer("add", "in", "relu")]
    figure = figures.draw_architecture(layers)
    assert texts(figure) == [text for name in layers for text in (name.kind, "7 x 7 x 4")]
    (axes,) = figure.axes
    assert (len(axes.patches), len(axes.lines), len(axes.texts)) == (4, 1, 8 + 4)


def test_reliability_class_counts_and_scores_are_drawn():
    labels = np.array([0, 0, 1, 1], np.uint8)
    probabilities = np.eye(10, dtype=np.float32)[[0, 1, 1, 1]] * 0.7 + 0.03
    reliability = figures.draw_reliability(metrics.calibration(labels, probabilities))
    assert reliability.axes[0].lines[1].get_ydata().tolist() == [0.75]
    assert {"digit", "images", "1,234"} < set(texts(figures.draw_class_counts(np.full(10, 1234))))
    (axes,) = figures.draw_scores({"a": (0.99, 0.98), "b": (0.991, 0.982)}).axes
    assert [points.get_offsets().tolist() for points in axes.collections] == [[[0.99, 0.98]], [[0.991, 0.982]]]
    assert figures.draw_scores({"a": (0.99, 0.99)}).axes


def test_an_svg_follows_its_page_and_repeats_itself():
    figure = figures.draw_history({"": [HISTORY]}, "accuracy")
    svg = figures.to_svg(figure, "curves")
    assert svg.startswith("<svg ")
    assert "currentColor" in svg
    assert figures.INK not in svg
    assert not re.search(r"<svg[^>]* (width|height)=", svg)
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert all(name.startswith("curves-") for name in ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= ids
    assert figures.to_svg(figures.draw_history({"": [HISTORY]}, "accuracy"), "curves") == svg
