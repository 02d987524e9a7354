"""The answers of a trained run to images, and the submission made of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.competition.record import is_current, write_submission_folder
from digit_recognizer.console import hide_native_messages
from digit_recognizer.data.csv_files import load_test
from digit_recognizer.errors import UserError
from digit_recognizer.training import runs


def load_members(run_dir: Path) -> Iterator[Any]:
    """Yields the network of each member, a `keras.Model`, in their order."""
    with hide_native_messages():
        import keras

    for folder in runs.member_dirs(run_dir):
        yield keras.models.load_model(folder / "model.keras", compile=False)


def load_classifier(run_dir: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Loads the networks of a run once, for answers to a few images at a time.

    Returns:
        A function from uint8 [n, 28, 28] to the mean of the members' probabilities, float32 [n, 10]. It is compiled
        once: a call takes 3 ms, where `keras.Model.predict` takes 125 ms. Views are left out: who reads pictures has
        variants of its own.
    """
    with hide_native_messages():
        from digit_recognizer.model.networks import make_predictor

    return make_predictor(list(load_members(run_dir)))


def predict_test(run_dir: Path, data_dir: Path) -> np.ndarray:
    """Returns the answers of a run to test.csv: the likeliest digits by the mean of the members' probabilities.

    Args:
        run_dir: of a finished run.
        data_dir: the folder of test.csv.

    Returns:
        int64 [n] in 0..9.

    Raises:
        UserError: the run is not finished, or test.csv is not the one beside which it was trained.
    """
    record = runs.read_finished_record(run_dir)
    test = load_test(data_dir)
    if test.sha256 != record["data"]["test.csv"]:
        raise UserError(
            f"expected the test.csv that lay beside the run's train.csv, found another in {data_dir}; "
            "name the run's DATA_DIR=, or train again"
        )
    return runs.read_test_answers(run_dir).argmax(axis=1)


def make_submission(run_dir: Path, submissions_dir: Path, data_dir: Path) -> Path:
    """Writes submissions/<run>/ with submission.csv and record.json, unless they are there.

    Takes and raises what `predict_test` does; `submissions_dir` is the folder of all submissions.

    Returns:
        The submission's folder.
    """
    record = runs.read_finished_record(run_dir)
    folder = submissions_dir / run_dir.name
    test_sha256 = record["data"]["test.csv"]
    if not is_current(folder, record, test_sha256):
        write_submission_folder(folder, record, predict_test(run_dir, data_dir), test_sha256)
    return folder
