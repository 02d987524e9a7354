"""Demo data for users without a Kaggle account: scikit-learn's digits in the competition's format."""

from pathlib import Path

import numpy as np

from digit_recognizer.config import IMAGE_SIZE
from digit_recognizer.data.csv_files import TEST_COLUMNS, TRAIN_COLUMNS
from digit_recognizer.files import write_text

COMPETITION = "demo"  # the competition's name in the records of demo runs
MARKER = "DEMO.txt"  # marks a folder of demo data
TEST_ROWS = 360
DIGIT_SIZE = 20  # pixels: the box of an MNIST digit


def write_demo_data(data_dir: Path) -> None:
    """Write train.csv and test.csv in the competition's exact format, and a marker file.

    The data are the 1,797 digits that scikit-learn ships (E. Alpaydin and C. Kaynak 1998, Optical Recognition of
    Handwritten Digits, doi:10.24432/C50P49; 8x8 pixels in 17 gray levels), enlarged and centred in 28x28 pixels.
    """
    import pandas as pd
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.stack([_enlarge(image) for image in digits.images])
    order = np.random.default_rng(0).permutation(len(images))
    rows = images[order].reshape(len(images), -1)
    train = np.column_stack([digits.target[order], rows])[TEST_ROWS:]
    write_text(data_dir / MARKER, "scikit-learn's digits, not the competition's data. They cannot be submitted.\n")
    for name, columns, table in (("train", TRAIN_COLUMNS, train), ("test", TEST_COLUMNS, rows[:TEST_ROWS])):
        text = pd.DataFrame(table, columns=columns).to_csv(index=False, lineterminator="\r\n")
        write_text(data_dir / f"{name}.csv", text)


def _enlarge(image: np.ndarray) -> np.ndarray:
    """Convert float64 [8, 8] in 0..16 to uint8 [28, 28] in 0..255, the digit in the centre."""
    import cv2

    digit = cv2.resize(image, (DIGIT_SIZE, DIGIT_SIZE), interpolation=cv2.INTER_CUBIC) * (255 / 16)
    return np.pad(digit.clip(0, 255).round().astype(np.uint8), (IMAGE_SIZE - DIGIT_SIZE) // 2)
