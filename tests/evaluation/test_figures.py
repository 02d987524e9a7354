"""Figures: their content and their pixels."""

import cv2
import made
import numpy as np
import pytest
from matplotlib.text import Text

from digit_recognizer.data.folds import Predictions
from digit_recognizer.evaluation import figures

HISTORY = {name: np.array(values[:2]) for name, values in made.HISTORY.items()}


def draw_pixels(folder, figure):
    """Save a figure and return its pixels, uint8 [h, w, 3], RGB."""
    figures.save_png(figure, folder / "figure.png")
    return cv2.imread(str(folder / "figure.png"))[..., ::-1]


def find_texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def count_pixels(pixels, colour):
    """Count the pixels close to a colour, "#rrggbb"."""
    value = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return (np.abs(pixels.astype(int) - value).max(axis=2) < 30).sum()


@pytest.mark.parametrize(("metric", "axis"), [("accuracy", "accuracy"), ("loss", "cross-entropy (nats)")])
@pytest.mark.parametrize("epochs", [1, 2])
def test_training_and_validation_are_drawn_in_their_colours(tmp_path, metric, axis, epochs):
    figure = figures.draw_history([{name: values[:epochs] for name, values in HISTORY.items()}], metric)
    assert {"training", "validation", "epoch", axis} <= set(find_texts(figure))
    pixels = draw_pixels(tmp_path, figure)
    assert pixels.shape[1] == int(figures.WIDTH * 144)
    assert count_pixels(pixels, "#ffffff") > 0.8 * pixels[..., 0].size
    drawn = [count_pixels(pixels, colour) for colour in (figures.BLUE, figures.VERMILION)]
    assert min(drawn) > (100 if epochs == 1 else 300)  # the legend alone has about 150


def test_members_have_a_line_each_and_one_for_their_mean():
    members = [{"loss": np.array(loss), "val_loss": np.array([2.0, 2.0])} for loss in ([0.5, 1.0], [1.5, 2.0])]
    figure = figures.draw_history(members, "loss")
    lines = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert lines[:3] == [[0.5, 1], [1.5, 2], [1, 1.5]]
    assert {"training, mean of 2 members", "validation, mean of 2 members"} <= set(find_texts(figure))


def test_epochs_without_validation_are_skipped_and_validation_may_be_missing():
    nan = HISTORY | {"val_accuracy": np.array([np.nan, 0.97])}
    lines = figures.draw_history([nan], "accuracy").axes[0].lines
    assert [line.get_xdata().tolist() for line in lines] == [[1, 2], [2]]
    lines = figures.draw_history([{"loss": HISTORY["loss"]}], "loss").axes[0].lines
    assert [line.get_xdata().tolist() for line in lines] == [[1, 2]]


def test_confusions_are_coloured_and_the_diagonal_is_not(tmp_path):
    perfect = np.diag(np.full(10, 50))
    confused = perfect.copy()
    confused[4, 9] = 12

    def count_blue(matrix):
        pixels = draw_pixels(tmp_path, figures.draw_confusion_matrix(matrix)).astype(int)[
            :, :610
        ]  # without the colour bar
        return ((pixels[..., 2] - pixels[..., 0]) > 60).sum()

    assert count_blue(perfect) == 0
    assert count_blue(confused) > 500
    texts = find_texts(figures.draw_confusion_matrix(confused))
    assert (texts.count("50"), texts.count("12")) == (10, 1)


@pytest.mark.parametrize("count", [0, 1, 11])
def test_a_gallery_has_a_title_for_each_image(tmp_path, count):
    images = np.full((20, 28, 28), 255, np.uint8)
    probabilities = np.eye(10, dtype=np.float32)[np.ones(count, int)]
    predictions = Predictions(np.arange(count), np.zeros(count, int), probabilities)
    figure = figures.draw_predictions(images, predictions, np.arange(count))
    titles = [f"0 read as 1\n100%, row {row}" for row in range(count)] or ["none"]
    assert [text for text in find_texts(figure) if "\n" in text or text == "none"] == titles
    dark = count_pixels(draw_pixels(tmp_path, figure), "#000000")
    assert dark >= count * (0.9 * figures.WIDTH / 6 * 144) ** 2
    assert dark > 30  # "none" is printed


def test_a_gallery_shows_strokes_dark_on_white_and_rgb_unchanged(tmp_path):
    strokes = np.zeros((28, 28), np.uint8)
    strokes[10:18] = 255
    pixels = draw_pixels(tmp_path, figures.draw_gallery([strokes], columns=1))
    height, width = pixels.shape[:2]
    assert pixels[[height // 2, height // 5], width // 2].tolist() == [[0, 0, 0], [255, 255, 255]]
    wide = np.full((10, 30, 3), (200, 100, 50), np.uint8)
    pixels = draw_pixels(tmp_path, figures.draw_gallery([wide], columns=1))
    # The aspect ratio is kept.
    assert pixels[[height // 2, height // 5], width // 2].tolist() == [[200, 100, 50], [255, 255, 255]]


def test_the_reliability_diagram_shows_the_accuracy_of_each_bin():
    labels = np.array([0, 0, 1, 1, 2], np.uint8)
    probabilities = np.eye(10, dtype=np.float32)[[0, 1, 1, 1, 2]]
    probabilities[:4] = probabilities[:4] * 0.7 + 0.03
    probabilities[4] *= 1.0001  # float32 rounds up
    (axes,) = figures.draw_reliability(labels, probabilities).axes
    assert axes.lines[1].get_xydata() == pytest.approx(np.array([[0.73, 0.75], [1, 1]]))
