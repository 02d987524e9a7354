"""The report of a run in eight parts: facts and figures for the template report.md.jinja."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from digit_recognizer.config import CLASSES, count_members
from digit_recognizer.console import Step
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import Document, compose
from digit_recognizer.model.summary import Layer
from digit_recognizer.training import runs

GALLERY_SIZE = 30  # images
SAMPLE_ROWS = 5
AUGMENTED_IMAGES, AUGMENTED_COPIES = 10, 4

Facts = tuple[dict[str, Any], dict[str, Figure]]


class HandwritingSample(NamedTuple):
    """A labelled picture of handwriting and its transcription."""

    name: str
    label: str
    text: str  # digits, "" for a refusal
    probability: float  # lowest of the digits
    picture: np.ndarray  # uint8 [h, w, 3], RGB, with a box around each digit

    @property
    def correct(self) -> bool:
        """Whether the transcription equals the label."""
        return self.text == self.label


class Handwriting(NamedTuple):
    """Transcribed pictures for the part on handwriting."""

    own: bool  # whether they are the user's; otherwise this program drew them
    samples: list[HandwritingSample]


def make_report(
    run_dir: Path,
    train: Dataset,
    test: Dataset,
    *,
    layers: Sequence[Sequence[Layer]],
    test_probabilities: np.ndarray,
    handwriting: Handwriting,
    ledger: Sequence[Mapping[str, str]],
    step: Step,
) -> Document:
    """Compose the report of a run.

    Args:
        run_dir: Folder of a finished run; record, histories and out-of-fold predictions are read from it.
        train: The train.csv of the run.
        test: The test.csv of `test_probabilities`.
        layers: Layers of each kind of network in the run.
        test_probabilities: Probabilities of each member, float32 [members, n, 10].
        handwriting: At least one transcribed picture.
        ledger: Rows of ledger.csv, oldest first.
        step: Progress callback.

    Raises:
        UserError: The run is not finished or held out no rows.
    """
    record = runs.read_finished_record(run_dir)
    predictions = runs.require_held_out(runs.read_predictions(run_dir), run_dir)
    step("composing the report", 0.5)
    facts: dict[str, Any] = {"record": record, "layers": layers, "handwriting": handwriting, "ledger": ledger}
    pictures = {"handwriting": _draw_handwriting(handwriting.samples)}
    for more_facts, more_pictures in (
        _describe_data(train, test),
        _describe_training(run_dir, record["config"], train),
        _describe_predictions(predictions, train),
        _describe_disagreement(test_probabilities, test),
    ):
        facts |= more_facts
        pictures |= more_pictures
    return compose("report.md.jinja", facts, pictures)


def _describe_data(train: Dataset, test: Dataset) -> Facts:
    random, labels = np.random.default_rng(0), np.asarray(train.labels)
    digits = np.unique(labels).tolist()
    rows = {digit: np.flatnonzero(labels == digit) for digit in digits}
    samples = np.stack([np.resize(random.permutation(rows[digit]), SAMPLE_ROWS) for digit in digits], axis=1)
    means = [train.images[rows[digit]].mean(axis=0).round().astype(np.uint8) for digit in digits]
    distinct = {image.tobytes() for image in train.images}
    facts = {
        "train": train,
        "test": test,
        "digits": digits,
        "sample_rows": SAMPLE_ROWS,
        "class_counts": np.bincount(labels, minlength=CLASSES),
        "duplicates": len(train.images) - len(distinct),
        "common": sum(image.tobytes() in distinct for image in test.images),
        "blank": sum(int((~data.images.any(axis=(1, 2))).sum()) for data in (train, test)),
    }
    return facts, {
        "samples": figures.draw_gallery(train.images[samples.ravel()], columns=len(digits)),
        "class_means": figures.draw_gallery(means, list(map(str, digits)), columns=5),
    }


def _describe_training(run_dir: Path, config: Mapping[str, Any], train: Dataset) -> Facts:
    folders = runs.member_dirs(run_dir)
    histories = [runs.read_history(folder) for folder in folders]
    epochs = min(len(history["loss"]) for history in histories)
    means = {name: np.mean([history[name][:epochs] for history in histories], axis=0) for name in histories[0]}
    facts = {
        "members": [
            {"name": folder.name, "rows": len(runs.read_member_predictions(folder).rows), "history": history}
            for folder, history in zip(folders, histories, strict=True)
        ],
        "planned": count_members(dict(config)),
        "model_bytes": (folders[0] / "model.keras").stat().st_size,
        "epochs": [{name: values[epoch] for name, values in means.items()} for epoch in range(epochs)],
        "seconds_per_epoch": means["seconds"].mean(),
    }
    pictures = {name: figures.draw_history({"": histories}, name) for name in ("accuracy", "loss")}
    rates = [history["learning_rate"] for history in histories]
    pictures["learning_rate"] = figures.draw_lines({"learning rate": rates}, "learning rate")
    if config["augment"]:
        from digit_recognizer.data.augmentation import augment

        images = train.images[np.random.default_rng(0).permutation(len(train.images))[:AUGMENTED_IMAGES]]
        copies = augment(np.concatenate([images] * AUGMENTED_COPIES), seed=0)
        pictures["augmentation"] = figures.draw_gallery(np.concatenate([images, copies]), columns=len(images))
        facts["augmentation"] = {"images": len(images), "copies": AUGMENTED_COPIES}
    return facts, pictures


def _describe_predictions(predictions: runs.Predictions, train: Dataset) -> Facts:
    rows, labels, probabilities = predictions
    matrix, calibration = metrics.confusion_matrix(labels, probabilities), metrics.calibration(labels, probabilities)
    mistakes, issues = metrics.mistakes(labels, probabilities), metrics.label_issues(labels, probabilities)
    facts = {
        "accuracy": metrics.accuracy(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
        "classes": metrics.class_scores(labels, probabilities),
        "confusions": metrics.confusions(labels, probabilities),
        "calibration": calibration,
        "confidence": float(probabilities.max(axis=1).mean(dtype=np.float64)),
        "mistakes": len(mistakes),
        "issues": len(issues),
        "gallery_size": GALLERY_SIZE,
    }

    def draw(positions: np.ndarray, verb: str) -> Figure:
        shown = positions[:GALLERY_SIZE]
        return figures.draw_predictions(train.images, rows[shown], labels[shown], probabilities[shown], verb)

    return facts, {
        "confusion_counts": figures.draw_confusion_matrix(matrix),
        "confusion_rates": figures.draw_confusion_matrix(matrix, rates=True),
        "reliability": figures.draw_reliability(calibration),
        "mistakes": draw(mistakes, "read as"),
        "label_issues": draw(issues, "looks like"),
    }


def _describe_disagreement(probabilities: np.ndarray, test: Dataset) -> Facts:
    result = metrics.disagreement(probabilities)
    shown = result.split[:GALLERY_SIZE]
    titles = [
        ", ".join(f"{digit} ({votes[digit]})" for digit in np.argsort(-votes, kind="stable")[:2])
        + f"\nImageId {row + 1}"
        for votes, row in zip(result.votes[shown], shown, strict=True)
    ]
    return {"disagreement": result}, {"disagreement": figures.draw_gallery(test.images[shown], titles)}


def _draw_handwriting(samples: Sequence[HandwritingSample]) -> Figure:
    """Draw transcribed pictures, wrong ones first."""
    shown = sorted(samples, key=lambda sample: sample.correct)[:GALLERY_SIZE]
    titles = [
        f"{sample.label} read as {sample.text}\n{sample.probability:.0%}"
        if sample.text
        else f"{sample.label}\nno digit found"
        for sample in shown
    ]
    return figures.draw_gallery([sample.picture for sample in shown], titles, columns=5)
