"""The stages from train.csv to submission.csv, as the command line and the Kaggle notebook both run them."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from digit_recognizer import files
from digit_recognizer.competition import submission
from digit_recognizer.config import COMPETITION, Config
from digit_recognizer.data.csv_files import load_test, load_train
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures, metrics, tables
from digit_recognizer.training import devices, ensemble, prediction, runs
from digit_recognizer.training.time_budget import TimeBudget

GALLERY_SIZE = 30  # of the worst mistakes
CONFUSIONS = 10  # of the most frequent ones


class Evaluation(NamedTuple):
    """What the members of a run made of the rows that each had held out."""

    run: str
    accuracy: metrics.Accuracy
    classes: list[dict[str, Any]]  # `metrics.class_scores`
    confusions: list[metrics.Confusion]
    figures: list[Path]  # PNG

    def to_dict(self) -> dict[str, Any]:
        """Returns it as a value that JSON can hold."""
        return self._asdict() | {
            "accuracy": self.accuracy._asdict(),
            "confusions": [confusion._asdict() for confusion in self.confusions],
            "figures": [str(path) for path in self.figures],
        }


def train(
    config: Config,
    data_dir: Path,
    models_dir: Path,
    console: Console,
    *,
    run: str | None = None,
    competition: str = COMPETITION,
    gpus: Sequence[str] | None = None,
    budget: TimeBudget | None = None,
    log: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Trains a run, or what is missing of it.

    Args:
        config: the settings.
        data_dir: the folder of train.csv and test.csv.
        models_dir: the folder of all runs.
        console: where to show the progress.
        run: its name; None for one made of settings, data and code.
        competition: whose data these are.
        gpus: names for CUDA_VISIBLE_DEVICES; None for those of this session.
        budget: of time; members that would not fit into it are left out.
        log: whether to write models/<run>/tensorboard/; the package tensorboard has to be installed.

    Returns:
        The run's folder and its record.

    Raises:
        UserError: the data are not in order, TensorBoard is missing, the folder holds another run, or there is no time
            for a single member.
    """
    if log and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "expected the package tensorboard, which --tensorboard needs, found none; run `make train TENSORBOARD=1`, "
            "or pip install '.[tensorboard]'"
        )
    train, test = load_train(data_dir), load_test(data_dir)
    run_dir = models_dir / (run or runs.run_name(config, train.sha256))
    hashes = {"train.csv": train.sha256, "test.csv": test.sha256}
    record = runs.new_record(config, run=run_dir.name, competition=competition, data=hashes)
    gpus = devices.find_gpus() if gpus is None else gpus
    return run_dir, ensemble.train_run(
        config, train, test.images, run_dir, record, console, gpus=gpus, budget=budget, log=log
    )


def print_training(run_dir: Path, record: dict[str, Any], console: Console) -> None:
    """Prints a table a member, and the score of all."""
    for member in runs.member_dirs(run_dir):
        console.print(tables.history_table(runs.read_history(member), member.name))
    answers = runs.read_predictions(run_dir)
    if len(answers.rows):
        accuracy = metrics.accuracy(answers.labels, answers.probabilities)
        console.print(f"Validation accuracy {accuracy}", soft_wrap=True)
    console.print(f"Trained in {record['training_seconds']:,.0f} s: {run_dir}", soft_wrap=True)


def evaluate(run_dir: Path, data_dir: Path) -> Evaluation:
    """Scores a run on the rows that its members had held out, and draws the figures into its folder.

    Raises:
        UserError: the run is not finished, held out no row, or was trained on another train.csv.
    """
    record = runs.read_finished_record(run_dir)
    train = load_train(data_dir)
    runs.require_data(record, {"train.csv": train.sha256}, data_dir)
    rows, labels, probabilities = runs.require_held_out(runs.read_predictions(run_dir), run_dir)
    histories = [runs.read_history(member) for member in runs.member_dirs(run_dir)]
    worst = metrics.mistakes(labels, probabilities)[:GALLERY_SIZE]
    drawn = {
        "accuracy": figures.draw_history({"": histories}, "accuracy"),
        "loss": figures.draw_history({"": histories}, "loss"),
        "confusion_matrix": figures.draw_confusion_matrix(metrics.confusion_matrix(labels, probabilities)),
        "mistakes": figures.draw_answers(train.images, rows[worst], labels[worst], probabilities[worst], "read as"),
    }
    paths = []
    for name, figure in drawn.items():
        paths.append(run_dir / "figures" / f"{name}.png")
        figures.save_png(figure, paths[-1])
    return Evaluation(
        run=run_dir.name,
        accuracy=metrics.accuracy(labels, probabilities),
        classes=metrics.class_scores(labels, probabilities),
        confusions=metrics.confusions(labels, probabilities),
        figures=paths,
    )


def print_evaluation(result: Evaluation, console: Console) -> None:
    """Prints accuracy, a table by digit and the most frequent confusions."""
    console.print(f"{result.run}: validation accuracy {result.accuracy}", soft_wrap=True)
    console.print(tables.class_table(result.classes))
    console.print(tables.confusion_table(result.confusions[:CONFUSIONS]))


def write_outputs(run_dir: Path, data_dir: Path, folder: Path) -> np.ndarray:
    """Writes what a kernel hands over: submission.csv, and a manifest of all files in its folder.

    Args:
        run_dir: of a finished run, inside of `folder`.
        data_dir: the folder of test.csv.
        folder: of everything that the kernel has made.

    Returns:
        The predictions, int64 [n].
    """
    labels = prediction.predict_test(run_dir, data_dir)
    path = folder / submission.FILE_NAME
    submission.write_submission(path, labels)
    made = [path, *sorted(path for path in run_dir.rglob("*") if path.is_file())]
    hashes = {path.relative_to(folder).as_posix(): files.sha256(path) for path in made}
    files.write_json(folder / submission.MANIFEST_NAME, {"run": run_dir.name, "files": hashes})
    return labels
