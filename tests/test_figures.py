"""Figures: that they are drawn, and of what."""

import cv2
import numpy as np

from digit_recognizer import figures

HISTORY = {
    "loss": np.array([0.5, 0.1]),
    "accuracy": np.array([0.9, 0.98]),
    "val_loss": np.array([0.3, 0.2]),
    "val_accuracy": np.array([0.95, 0.97]),
}


def pixels(path):
    image = cv2.imread(str(path))
    assert image is not None
    return image


def test_curves_of_one_and_of_several_members(tmp_path):
    figures.draw_curves([HISTORY], tmp_path / "one.png")
    figures.draw_curves([HISTORY, {name: values * 0.9 for name, values in HISTORY.items()}], tmp_path / "two.png")
    assert (pixels(tmp_path / "one.png") != pixels(tmp_path / "two.png")).any()


def test_a_single_epoch_can_be_drawn(tmp_path):
    figures.draw_curves([{name: values[:1] for name, values in HISTORY.items()}], tmp_path / "curves.png")
    assert pixels(tmp_path / "curves.png").std() > 0


def test_a_confusion_is_coloured_and_the_diagonal_is_not(tmp_path):
    perfect = np.diag(np.full(10, 50))
    figures.draw_confusion_matrix(perfect, tmp_path / "perfect.png")
    confused = perfect.copy()
    confused[4, 9] = 5
    figures.draw_confusion_matrix(confused, tmp_path / "confused.png")

    def blue(path):
        image = pixels(path).astype(int)[:, :640]  # without the colour bar
        return ((image[..., 0] - image[..., 2]) > 60).sum()

    assert blue(tmp_path / "perfect.png") == 0
    assert blue(tmp_path / "confused.png") > 500


def test_a_gallery_of_some_mistakes_and_of_none(tmp_path):
    rng = np.random.default_rng(0)
    for count in (0, 1, 11):
        figures.draw_mistakes(
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            np.zeros(count, np.uint8),
            np.eye(10, dtype=np.float32)[np.ones(count, int)],
            tmp_path / f"{count}.png",
            rows=np.arange(count),
        )
    assert pixels(tmp_path / "11.png").shape[0] > pixels(tmp_path / "1.png").shape[0]
    assert pixels(tmp_path / "0.png").min() < 50  # it says that there are none
