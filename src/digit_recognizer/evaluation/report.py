"""The report of a run in eight parts: facts and figures for the template report.md.jinja."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from digit_recognizer.config import count_members
from digit_recognizer.console import Step
from digit_recognizer.data.csv_files import Dataset
from digit_recognizer.evaluation import figures, metrics
from digit_recognizer.evaluation.documents import GALLERY_SIZE, Document, compose
from digit_recognizer.model.summary import Layer
from digit_recognizer.training import run_folder


class HandwritingSample(NamedTuple):
    """A labelled picture of handwriting and its transcription."""

    name: str
    label: str
    text: str  # digits, "" for a refusal
    probability: float  # lowest of the digits
    picture: np.ndarray  # uint8 [h, w, 3], RGB, with a box around each digit


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
    """Compose the report of a run; record, histories and out-of-fold predictions are read from its folder.

    `layers` has one entry for each kind of network in the run, `ledger` the rows of ledger.csv, oldest first.
    `test_probabilities`, float32 [members, n, 10], are those of `test`. `handwriting` has at least one sample.

    Raises:
        UserError: The run is not finished or held out no rows.
    """
    record = run_folder.read_finished_record(run_dir)
    rows, labels, probabilities = run_folder.require_held_out(run_folder.read_predictions(run_dir), run_dir)
    step("composing the report", 0.5)
    folders = run_folder.member_dirs(run_dir)
    histories = [run_folder.read_history(folder) for folder in folders]
    means = {name: np.mean([history[name] for history in histories], axis=0) for name in histories[0]}
    mistakes, issues = metrics.mistakes(labels, probabilities), metrics.label_issues(labels, probabilities)
    facts = count_images(train, test) | {
        "record": record,
        "layers": layers,
        "handwriting": handwriting,
        "wrong_handwriting": [sample for sample in handwriting.samples if sample.text != sample.label],
        "ledger": ledger,
        "train": train,
        "test": test,
        "planned": count_members(record["config"]),
        "members": [
            {"name": folder.name, "rows": len(run_folder.read_member_predictions(folder).rows), "history": history}
            for folder, history in zip(folders, histories, strict=True)
        ],
        "model_bytes": (folders[0] / "model.keras").stat().st_size,
        "epochs": [dict(zip(means, values, strict=True)) for values in zip(*means.values(), strict=True)],
        "accuracy": metrics.accuracy(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
        "classes": metrics.class_scores(labels, probabilities),
        "confusions": metrics.confusions(labels, probabilities),
        "calibration": metrics.calibration(labels, probabilities),
        "confidence": float(probabilities.max(axis=1).mean(dtype=np.float64)),
        "mistakes": len(mistakes),
        "issues": len(issues),
        "disagreement": metrics.disagreement(test_probabilities),
    }

    def draw(positions: np.ndarray, verb: str) -> Figure:
        shown = positions[:GALLERY_SIZE]
        return figures.draw_predictions(train.images, rows[shown], labels[shown], probabilities[shown], verb)

    pictures = {
        "samples": _draw_samples(train.images, np.asarray(train.labels)),
        "accuracy": figures.draw_history({"": histories}, "accuracy"),
        "loss": figures.draw_history({"": histories}, "loss"),
        "confusions": figures.draw_confusion_matrix(metrics.confusion_matrix(labels, probabilities)),
        "reliability": figures.draw_reliability(facts["calibration"]),
        "mistakes": draw(mistakes, "read as"),
        "label_issues": draw(issues, "looks like"),
        "disagreement": _draw_disagreement(facts["disagreement"], test.images),
        "handwriting": _draw_handwriting(handwriting.samples),
    }
    if record["config"]["augment"]:
        pictures["augmentation"] = _draw_augmentation(train.images)
    return compose("report.md.jinja", facts, pictures)


def count_images(train: Dataset, test: Dataset) -> dict[str, Any]:
    """Count the images of each digit in train.csv, its duplicates, those also in test.csv, and blank ones in both."""
    distinct = {image.tobytes() for image in train.images}
    digits, counts = np.unique(np.asarray(train.labels), return_counts=True)
    return {
        "digits": dict(zip(digits.tolist(), counts.tolist(), strict=True)),
        "duplicates": len(train.images) - len(distinct),
        "common": sum(image.tobytes() in distinct for image in test.images),
        "blank": sum(int((~data.images.any(axis=(1, 2))).sum()) for data in (train, test)),
    }


def _draw_samples(images: np.ndarray, labels: np.ndarray) -> Figure:
    """Draw five random images of each digit, one column per digit."""
    random, digits = np.random.default_rng(0), np.unique(labels)
    columns = [np.resize(random.permutation(np.flatnonzero(labels == digit)), 5) for digit in digits]
    return figures.draw_gallery(images[np.stack(columns, axis=1).ravel()], columns=len(digits))


def _draw_augmentation(images: np.ndarray) -> Figure:
    """Draw ten random images and, below each, four augmented copies."""
    from digit_recognizer.data.augmentation import augment

    originals = images[np.random.default_rng(0).permutation(len(images))[:10]]
    copies = augment(np.concatenate([originals] * 4), seed=0)
    return figures.draw_gallery(np.concatenate([originals, copies]), columns=len(originals))


def _draw_disagreement(disagreement: metrics.Disagreement, images: np.ndarray) -> Figure:
    """Draw the images without a unanimous vote, with the votes for the first two digits."""
    titles = []
    shown = disagreement.split[:GALLERY_SIZE]
    for row in shown:
        votes = disagreement.votes[row]
        first, second = np.argsort(-votes, kind="stable")[:2]
        titles.append(f"{first} ({votes[first]}), {second} ({votes[second]})\nImageId {row + 1}")
    return figures.draw_gallery(images[shown], titles)


def _draw_handwriting(samples: Sequence[HandwritingSample]) -> Figure:
    """Draw transcribed pictures, wrong ones first."""
    shown = sorted(samples, key=lambda sample: sample.text == sample.label)[:GALLERY_SIZE]
    titles = [f"{sample.label} read as {sample.text or 'nothing'}\n{sample.probability:.0%}" for sample in shown]
    return figures.draw_gallery([sample.picture for sample in shown], titles, columns=5)
