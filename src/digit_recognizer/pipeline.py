"""The stages from train.csv to submission.csv, in order: train, report, predict, write the submission.

Each stage reads what the one before it wrote to disk. `competition` has the first and the last: download and submit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from digit_recognizer.competition import submission
from digit_recognizer.config import COMPETITION, Config
from digit_recognizer.console import Step, hide_native_messages
from digit_recognizer.data import demo
from digit_recognizer.data.csv_files import Dataset, load_test, load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import metrics
from digit_recognizer.files import write_json
from digit_recognizer.training import devices, ensemble, environment, run_folder


def train(
    config: Config,
    data_dir: Path,
    models_dir: Path,
    console: Console,
    *,
    run: str | None = None,
    cluster: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Train a run, or the members that it lacks, and score it on the rows that its members held out.

    The name of the run is made of settings, data and code unless it is given; `cluster` is that of
    `ensemble.train_members`.

    Returns:
        The folder of the run, which becomes the latest one, and its record.

    Raises:
        UserError: The data are invalid, or the folder holds another run.
    """
    data = load_train(data_dir)
    hashes: dict[str, str | None] = {"train.csv": data.sha256, "test.csv": None}
    if (data_dir / "test.csv").exists():
        hashes["test.csv"] = load_test(data_dir).sha256
    competition = demo.COMPETITION if (data_dir / demo.MARKER).exists() else COMPETITION
    record = run_folder.new_record(config, run=run, competition=competition, data=hashes)
    run_dir = models_dir / record["run"]
    record = ensemble.train_members(config, data, run_dir, record, console, cluster=cluster)
    return run_dir, finish_run(run_dir, record, data.labels)


def finish_run(run_dir: Path, record: dict[str, Any], train_labels: np.ndarray) -> dict[str, Any]:
    """Score a run on the rows that its members held out, write its record, and make it the latest run."""
    if record["scores"] is None:
        _, labels, probabilities = run_folder.read_predictions(run_dir)
        histories = [run_folder.read_history(folder) for folder in run_folder.member_dirs(run_dir)]
        record["warnings"] = metrics.find_warnings(train_labels, labels, probabilities, histories)
        record["scores"] = metrics.validation_scores(labels, probabilities)
        record["finished_at"] = environment.now()
    write_json(run_dir / "run.json", record)
    write_json(run_dir.parent / "latest.json", run_dir.name)
    return record


def report(
    run_dir: Path,
    data_dir: Path,
    submissions_dir: Path,
    reports_dir: Path,
    step: Step,
    on_error: Callable[[UserError], None],
) -> list[Path]:
    """Write reports/<run>/report.html and report.md; return their paths. `on_error` is for drawings left out."""
    from digit_recognizer.evaluation.report import load_run, make_report, write_document
    from digit_recognizer.handwriting.reader import load_classifier, make_reader
    from digit_recognizer.handwriting.transcription import read_samples

    step("reading the data", 0)
    run, test = load_run(run_dir, data_dir), load_test(data_dir)
    run_folder.require_data(run.record, {"test.csv": test.sha256}, data_dir)
    step("reading handwriting", 0.2)
    read = make_reader(load_classifier(run_dir))
    handwriting = read_samples(data_dir / "handwriting", read, on_error=on_error)
    ledger = submission.read_ledger(submissions_dir / submission.LEDGER_NAME)
    text, figures = make_report(run, test, handwriting, ledger)
    return write_document(text, figures, reports_dir / run_dir.name, step)


def predict(run_dir: Path, test: Dataset, step: Step) -> np.ndarray:
    """Predict the images of any test.csv with the saved networks of a finished run.

    Returns:
        Probabilities of each member, float32 [members, n, 10].
    """
    record = run_folder.read_finished_record(run_dir)
    folders, shifts = run_folder.member_dirs(run_dir), record["config"].get("shifts", False)
    step("loading the networks", 0)
    with hide_native_messages():
        from digit_recognizer.model.prediction import load_network, make_predictor

    precision, probabilities = devices.choose_precision(devices.find_gpus()), []
    for index, folder in enumerate(folders):
        step(f"predicting with {folder.name}", index / len(folders))
        network = load_network(folder / "model.keras", precision)
        probabilities.append(make_predictor([network], shifts=shifts)(test.images))
    return np.stack(probabilities)


def write_submission(run_dir: Path, test_path: Path, submissions_dir: Path, step: Step) -> Path:
    """Predict a test.csv, given as a file or its folder, and write submissions/<run>/submission.csv and record.json.

    Predictions for another test.csv than that of the run go to submissions/<run>-<hash>/. Return the folder.
    """
    record = run_folder.read_finished_record(run_dir)
    test = load_test(test_path)
    is_own = record["data"].get("test.csv") in (None, test.sha256)
    folder = submissions_dir / (run_dir.name if is_own else f"{run_dir.name}-{test.sha256[:6]}")
    with submission.lock_submissions(submissions_dir):
        folder.mkdir(exist_ok=True)  # an error before the predictions if the folders cannot be written
    labels = predict(run_dir, test, step).mean(axis=0, dtype=np.float64).astype(np.float32).argmax(axis=1)
    submission.write_submission_folder(folder, record, labels, test.sha256)
    return folder
