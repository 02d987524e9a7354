"""The report of a run: its facts, gathered from its files, its figures and its eight parts."""

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from digit_recognizer.competition import record as submission_record
from digit_recognizer.config import CLASSES, IMAGE_SIZE, count_members
from digit_recognizer.console import Step
from digit_recognizer.data import augmentation
from digit_recognizer.data.csv_files import Dataset, load_test, load_train
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import Document, compose
from digit_recognizer.handwriting import reader, sample_digits, transcription
from digit_recognizer.handwriting.image_files import LABELS, read_labelled
from digit_recognizer.model import summary
from digit_recognizer.training import prediction, runs

GALLERY_SIZE = 30  # images of a gallery
SAMPLE_LINES = 5
AUGMENTED_COPIES, AUGMENTED_IMAGES = 4, 10
PICTURE_SIDE = 240  # pixels that a picture of handwriting is scaled to
CALIBRATION_BINS = 15
LEDGER_POINTS = 12  # submissions of the scatter, the latest ones

Facts = tuple[dict[str, Any], dict[str, Figure]]


def make_report(run_dir: Path, data_dir: Path, submissions_dir: Path, step: Step) -> Document:
    """Returns the report of a run as eight parts of Markdown and their pictures.

    Args:
        run_dir: of a finished run.
        data_dir: the folder of its train.csv and test.csv.
        submissions_dir: the folder of ledger.csv.
        step: is told what is being done, up to `documents.COMPOSED`.

    Raises:
        UserError: the run is not finished or held out no row, or these are not its data.
    """
    record = runs.read_finished_record(run_dir)
    step("reading the data", 0)
    train, test = load_train(data_dir), load_test(data_dir)
    runs.require_data(record, {"train.csv": train.sha256, "test.csv": test.sha256}, data_dir)
    answers = runs.require_held_out(runs.read_predictions(run_dir), run_dir)
    step("loading the networks", 0.05)
    models, read = prediction.load_members(run_dir), transcription.load_reader(run_dir)
    kinds = [model for _, model in zip(record["config"]["architectures"], models, strict=False)]  # one of each
    step("reading handwriting", 0.45)
    facts = {
        "record": record,
        "image_size": IMAGE_SIZE,
        "left_out": count_members(record["config"]) - len(runs.member_dirs(run_dir)),
    }
    pictures: dict[str, Figure] = {}
    for more_facts, more_pictures in (
        _data_facts(train, test),
        _model_facts(kinds, runs.member_dirs(run_dir)[0]),
        _training_facts(run_dir, train, augment=record["config"]["augment"]),
        _validation_facts(answers, train),
        _disagreement_facts(runs.read_members_test_answers(run_dir), test),
        _handwriting_facts(data_dir / "handwriting", read),
        _ledger_facts(submissions_dir / submission_record.LEDGER_NAME, record["run"]),
    ):
        facts |= more_facts
        pictures |= more_pictures
    return compose("report.md.jinja", facts, pictures)


def _data_facts(train: Dataset, test: Dataset) -> Facts:
    random = np.random.default_rng(0)
    digits = np.unique(train.labels).tolist()
    of_digit = {digit: np.flatnonzero(train.labels == digit) for digit in digits}
    samples = np.stack([np.resize(random.permutation(rows), SAMPLE_LINES) for rows in of_digit.values()], axis=1)
    means = [train.images[rows].mean(axis=0).round().astype(np.uint8) for rows in of_digit.values()]
    counts = np.bincount(train.labels, minlength=CLASSES)
    different = {image.tobytes() for image in train.images}
    facts = {
        "sizes": {"train": len(train.images), "test": len(test.images)},
        "digits": digits,
        "sample_lines": SAMPLE_LINES,
        "class_counts": counts,
        "duplicates": {
            "train": len(train.images) - len(different),
            "test": sum(image.tobytes() in different for image in test.images),
        },
        "blank": int((~train.images.any(axis=(1, 2))).sum() + (~test.images.any(axis=(1, 2))).sum()),
    }
    return facts, {
        "samples": _untitled(train.images[samples.ravel()], len(digits)),
        "class_counts": figures.draw_class_counts(counts),
        "class_means": figures.draw_gallery(means, [str(digit) for digit in digits], columns=5),
    }


def _model_facts(kinds: list[Any], folder: Path) -> Facts:
    layers = summary.describe(kinds[0])
    facts = {
        "layers": layers,
        "skips": sum(len(layer.inputs) - 1 for layer in layers if layer.inputs),
        "parameters": [model.count_params() for model in kinds],
        "totals": {
            "parameters": kinds[0].count_params(),
            "multiply_adds": sum(layer.multiply_adds for layer in layers),
            "bytes": (folder / "model.keras").stat().st_size,
        },
    }
    return facts, {"architecture": figures.draw_architecture(layers)}


def _training_facts(run_dir: Path, train: Dataset, *, augment: bool) -> Facts:
    members = []
    histories = []
    for folder in runs.member_dirs(run_dir):
        history = runs.read_history(folder)
        histories.append(history)
        members.append(
            {
                "name": folder.name,
                "rows": len(runs.read_member_predictions(folder).rows),
                "last": {name: values[-1] for name, values in history.items()},
                "seconds": history["seconds"].sum(),
            }
        )
    epochs = min(len(history["loss"]) for history in histories)
    means = {name: np.mean([history[name][:epochs] for history in histories], axis=0) for name in histories[0]}
    facts = {
        "members": members,
        "epochs": [{name: values[epoch] for name, values in means.items()} for epoch in range(epochs)],
        "seconds_per_epoch": means["seconds"].mean(),
    }
    pictures = {name: figures.draw_history({"": histories}, name) for name in ("accuracy", "loss")}
    pictures["learning_rate"] = figures.draw_lines(
        {"learning rate": [history["learning_rate"] for history in histories]}, "learning rate"
    )
    if augment:
        images = train.images[np.random.default_rng(0).permutation(len(train.images))[:AUGMENTED_IMAGES]]
        copies = augmentation.augment(np.concatenate([images] * AUGMENTED_COPIES), seed=0)
        pictures["augmentation"] = _untitled(np.concatenate([images, copies]), len(images))
        facts["augmentation"] = {"columns": len(images), "copies": AUGMENTED_COPIES}
    return facts, pictures


def _validation_facts(answers: runs.Predictions, train: Dataset) -> Facts:
    _, labels, probabilities = answers
    matrix = metrics.confusion_matrix(labels, probabilities)
    mistakes, issues = metrics.mistakes(labels, probabilities), metrics.label_issues(labels, probabilities)
    calibration = metrics.calibration(labels, probabilities, CALIBRATION_BINS)
    classes = metrics.class_scores(labels, probabilities)
    facts = {
        "accuracy": metrics.accuracy(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
        "classes": classes,
        "hardest": min((row for row in classes if row["support"]), key=lambda row: row["recall"]),
        "confusions": metrics.confusions(labels, probabilities),
        "right": np.trace(matrix),
        "calibration": calibration,
        "confidence": float(probabilities.max(axis=1).mean(dtype=np.float64)),
        "bins": CALIBRATION_BINS,
        "mistakes": {"count": len(mistakes), "shown": min(len(mistakes), GALLERY_SIZE)},
        "issues": {"count": len(issues), "shown": min(len(issues), GALLERY_SIZE)},
    }

    def draw_answers(positions: np.ndarray, verb: str) -> Figure:
        return figures.draw_answers(train.images, *(values[positions[:GALLERY_SIZE]] for values in answers), verb)

    return facts, {
        "confusion_counts": figures.draw_confusion_matrix(matrix),
        "confusion_rates": figures.draw_confusion_matrix(matrix, rates=True),
        "reliability": figures.draw_reliability(calibration),
        "mistakes": draw_answers(mistakes, "read as"),
        "label_issues": draw_answers(issues, "looks like"),
    }


def _disagreement_facts(probabilities: np.ndarray, test: Dataset) -> Facts:
    """Compares members on test.csv; probabilities: float32 [members, n, 10]."""
    if len(probabilities) == 1:
        return {}, {}
    result = metrics.disagreement(probabilities)
    shown = result.split[:GALLERY_SIZE]
    titles = [
        ", ".join(f"{digit} ({votes[digit]})" for digit in np.argsort(-votes, kind="stable")[:2])
        + f"\nImageId {row + 1}"
        for votes, row in zip(result.votes[shown], shown, strict=True)
    ]
    facts = {"images": len(test.images), "split": len(result.split), "shown": len(shown), "shares": result.shares}
    return {"disagreement": facts}, {"disagreement": figures.draw_gallery(test.images[shown], titles)}


def _handwriting_facts(folder: Path, read: transcription.Read) -> Facts:
    """Reads the labelled pictures of a folder, or, where there are none, what this program draws."""
    own = list(read_labelled(folder)) if (folder / LABELS).exists() else []
    labelled = own or [
        (f"a drawn {digit}", str(digit), image) for digit, image in enumerate(sample_digits.draw_digits())
    ]
    readings = read([picture for _, _, picture in labelled])
    wrong, cells = [], []
    for (name, label, picture), result in zip(labelled, readings, strict=True):
        text = result.text.replace("\n", " ")
        least = min((digit.probability for row in result.rows for digit in row), default=0.0)
        if text != label:
            wrong.append((name, label, text, least))
        title = f"{label} read as {text}\n{least:.0%}" if text else f"{label}\nno digit found"
        cells.append((text == label, _boxed(picture, result), title))
    cells = sorted(cells, key=lambda cell: cell[0])[:GALLERY_SIZE]  # what is read wrongly comes first
    facts = {"own": bool(own), "count": len(labelled), "right": len(labelled) - len(wrong), "wrong": wrong}
    _, boxed, titles = zip(*cells, strict=True)
    gallery = figures.draw_gallery(boxed, titles, columns=5)
    return {"handwriting": facts | {"shown": len(cells)}}, {"handwriting": gallery}


def _boxed(picture: np.ndarray, result: reader.Reading) -> np.ndarray:
    """Returns a picture, uint8 [h, w, 3], in a size for a report and with a box around each digit."""
    scale = PICTURE_SIDE / max(picture.shape)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method)
    for digit in itertools.chain(*result.rows):
        x, y, width, height = (round(value * scale) for value in digit.box)
        cv2.rectangle(small, (x, y), (x + width, y + height), (213, 94, 0), 2)
    return small


def _ledger_facts(path: Path, run: str) -> Facts:
    ledger = [
        {
            **{name: row[name] for name in ("run", "submitted_at", "status", "submission_id")},
            "validation": float(row["validation_accuracy"]) if row["validation_accuracy"] else None,
            "public": float(row["public_score"]) if row["public_score"] else None,
        }
        for row in submission_record.read_ledger(path)
    ]
    own = [row["public"] for row in ledger if row["public"] is not None and row["run"] == run]
    scored = [row for row in ledger if None not in (row["public"], row["validation"])]  # not of a run on all rows
    facts = {"ledger": ledger, "scored": len(scored[-LEDGER_POINTS:]), "own_score": own[-1] if own else None}
    points = {
        f"{row['run']} ({row['submission_id']})": (row["validation"], row["public"]) for row in scored[-LEDGER_POINTS:]
    }
    return facts, {"ledger": figures.draw_scores(points)} if points else {}


def _untitled(images: np.ndarray, columns: int) -> Figure:
    return figures.draw_gallery(images, [""] * len(images), columns=columns)
