"""The answers of a trained run to images, and the submission made of them."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from digit_recognizer import runs, submission
from digit_recognizer.config import CLASSES
from digit_recognizer.data import load_test, normalise
from digit_recognizer.errors import UserError
from digit_recognizer.quiet import native_messages_hidden


def predict(run_dir: Path, images: np.ndarray, console: Console) -> np.ndarray:
    """Returns the mean of the members' probabilities.

    Args:
        run_dir: of a finished run.
        images: uint8 [n, 28, 28], strokes bright on black.
        console: where to show the progress.

    Returns:
        float32 [n, 10].
    """
    with native_messages_hidden():
        import keras

        from digit_recognizer.training import PREDICTION_BATCH

    folders = runs.member_dirs(run_dir)
    inputs = normalise(images)
    total = np.zeros((len(images), CLASSES))
    for folder in track(folders, "predicting", console=console, disable=not console.is_terminal):
        model = keras.models.load_model(folder / "model.keras", compile=False)
        total += model.predict(inputs, batch_size=PREDICTION_BATCH, verbose=0)
    return (total / len(folders)).astype(np.float32)


def make_submission(run_dir: Path, submissions_dir: Path, data_dir: Path, console: Console) -> Path:
    """Predicts test.csv and writes submissions/<run>/ with submission.csv and record.json, unless they are there.

    Args:
        run_dir: of a finished run.
        submissions_dir: the folder of all submissions.
        data_dir: the folder of test.csv.
        console: where to show the progress.

    Returns:
        The submission's folder.

    Raises:
        UserError: the run is not finished, or test.csv is not the one beside which it was trained.
    """
    record = runs.finished_record(run_dir)
    folder = submissions_dir / run_dir.name
    if submission.is_current(folder, record):
        return folder
    test = load_test(data_dir)
    if test.sha256 != record["data"]["test.csv"]:
        raise UserError(
            f"expected the test.csv that lay beside the run's train.csv, found another in {data_dir}; "
            "name the run's DATA_DIR=, or train again"
        )
    labels = predict(run_dir, test.images, console).argmax(axis=1)
    submission.write_submission(folder / "submission.csv", labels)
    submission.write_record(folder, record, labels)
    return folder
