"""The validation scores of a run with their figures, and its report in eight parts, as Markdown and as an HTML page."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from rich.table import Table

from digit_recognizer.config import CLASSES, PRESETS
from digit_recognizer.console import Step, make_table
from digit_recognizer.data.csv_files import Dataset, load_train
from digit_recognizer.data.folds import Predictions
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import comparison, figures, metrics
from digit_recognizer.files import write_text
from digit_recognizer.training import environment, run_folder


def _escape(value: Any) -> str:
    """Escape the characters of a value that Markdown gives a meaning to."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~&$])", r"\\\1", re.sub(r"\s+", " ", str(value)))


TEMPLATES = Environment(  # noqa: S701 - the values are escaped for Markdown, which becomes HTML
    loader=PackageLoader("digit_recognizer.evaluation"),
    finalize=_escape,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(
    percent=lambda value, digits=2: "" if math.isnan(value) else f"{value:.{digits}%}",
    number=lambda value, digits=0: "" if math.isnan(value) else f"{value:,.{digits}f}",
    duration=lambda value: f"{value // 60:.0f} min {value % 60:.0f} s" if value >= 60 else f"{value:.0f} s",
    counted=lambda count, noun: f"{count:,} {noun}{'' if count == 1 else 's'}",
    setting=comparison.format_setting,
)


class TrainedRun(NamedTuple):
    """A finished run with validation rows."""

    run_dir: Path
    record: dict[str, Any]
    train: Dataset  # all rows of its train.csv
    predictions: Predictions  # for the rows that its members held out
    histories: list[dict[str, np.ndarray]]  # of each member


class HandwritingSample(NamedTuple):
    """A labelled picture of handwriting and its transcription."""

    name: str
    label: str
    text: str  # digits, "" for a refusal
    probability: float  # lowest of the digits
    picture: np.ndarray  # uint8 [h, w, 3], RGB, with a box around each digit


def load_run(run_dir: Path, data_dir: Path) -> TrainedRun:
    """Read a run and its train.csv.

    Raises:
        UserError: The run is not finished, has no validation rows, or was trained on another train.csv.
    """
    record, train = run_folder.read_finished_record(run_dir), load_train(data_dir)
    run_folder.require_data(record, {"train.csv": train.sha256}, data_dir)
    histories = [run_folder.read_history(folder) for folder in run_folder.member_dirs(run_dir)]
    predictions = run_folder.require_held_out(run_folder.read_predictions(run_dir), run_dir)
    is_known = np.isin(predictions.rows, np.arange(len(train.labels)))
    if not is_known.all() or (train.labels[predictions.rows] != predictions.labels).any():
        raise UserError(f"{run_dir} has predictions of another run; move that member away and run `make train` again")
    return TrainedRun(run_dir, record, train, predictions, histories)


def evaluate(run: TrainedRun) -> dict[str, Any]:
    """Score a run on the rows that its members held out, and draw the figures into its folder.

    Returns:
        A JSON value: run, accuracy (`metrics.Accuracy`), classes, confusions, and figures, the paths of PNG files.
    """
    paths = []
    for name, figure in _draw_scores(run).items():
        paths.append(run.run_dir / "figures" / f"{name}.png")
        figures.save_png(figure, paths[-1])
    return {"run": run.run_dir.name} | _score(run) | {"figures": list(map(str, paths))}


def to_tables(result: dict[str, Any]) -> list[Table]:
    """Return tables of the scores by digit and of the most frequent confusions in the result of `evaluate`."""
    formats = "{digit}", "{precision:.2%}", "{recall:.2%}", "{f1:.2%}", "{support:,}"
    scores = [[text.format_map(row) for text in formats] for row in result["classes"]]
    confusions = [list(map(str, pair.values())) for pair in result["confusions"][:10]]
    return [
        make_table("By digit", ("digit", "precision", "recall", "F1", "images"), scores),
        make_table("Most frequent confusions", ("digit", "predicted", "images"), confusions),
    ]


def _score(run: TrainedRun) -> dict[str, Any]:
    _, labels, probabilities = run.predictions
    return {
        "accuracy": metrics.accuracy(labels, probabilities)._asdict(),
        "classes": metrics.class_scores(labels, probabilities),
        "confusions": metrics.confusions(labels, probabilities),
    }


def _draw_scores(run: TrainedRun) -> dict[str, Figure]:
    _, labels, probabilities = run.predictions
    mistakes = metrics.mistakes(labels, probabilities)
    return {
        "accuracy": figures.draw_history(run.histories, "accuracy"),
        "loss": figures.draw_history(run.histories, "loss"),
        "confusion_matrix": figures.draw_confusion_matrix(metrics.confusion_matrix(labels, probabilities)),
        "mistakes": figures.draw_predictions(run.train.images, run.predictions, mistakes),
    }


def make_report(
    run: TrainedRun, test: Dataset, handwriting: Sequence[HandwritingSample], ledger: Sequence[Mapping[str, str]]
) -> tuple[str, dict[str, Figure]]:
    """Return the report of a run in Markdown, and its figures by name.

    `test` is test.csv. `handwriting` may be empty. `ledger` has the rows of ledger.csv, oldest first.
    """
    from digit_recognizer.model.prediction import load_network

    config, (_, labels, probabilities) = run.record["config"], run.predictions
    folders, members = run_folder.member_dirs(run.run_dir), []
    for folder, history in zip(folders, run.histories, strict=True):
        own = run_folder.read_member_predictions(folder)
        accuracy = metrics.accuracy(own.labels, own.probabilities).value
        members.append({"name": folder.name, "rows": len(own.rows), "accuracy": accuracy, "history": history})
    kinds = zip(config["architectures"], folders, strict=False)  # members take turns
    means = {name: np.mean([history[name] for history in run.histories], axis=0) for name in run.histories[0]}
    facts = _score(run) | {
        "record": run.record,
        "same_code": run.record.get("code") == environment.code_sha256(),
        "next_preset": dict(pairwise(PRESETS)).get(config.get("preset")),
        "networks": {kind: load_network(folder / "model.keras").count_params() for kind, folder in kinds},
        "handwriting": handwriting,
        "wrong_handwriting": [sample for sample in handwriting if sample.text != sample.label],
        "ledger": ledger,
        "train": run.train,
        "test": test,
        "digits": np.bincount(run.train.labels, minlength=CLASSES).tolist(),
        "members": members,
        "epochs": [dict(zip(means, values, strict=True)) for values in zip(*means.values(), strict=True)],
        "log_loss": metrics.log_loss(labels, probabilities),
        "confidence": float(probabilities.max(axis=1).mean(dtype=np.float64)),
        "mistakes": len(metrics.mistakes(labels, probabilities)),
        "gallery_size": figures.GALLERY_SIZE,
    }
    pictures = _draw_scores(run) | _draw_samples(run.train)
    pictures["reliability"] = figures.draw_reliability(labels, probabilities)
    wrong_first = sorted(handwriting, key=lambda sample: sample.text == sample.label)
    shown = wrong_first[: figures.GALLERY_SIZE]
    titles = [f"{sample.label} read as {sample.text or 'nothing'}\n{sample.probability:.0%}" for sample in shown]
    pictures["handwriting"] = figures.draw_gallery([sample.picture for sample in shown], titles, columns=5)
    return render("report.md.jinja", facts), pictures


def _draw_samples(train: Dataset) -> dict[str, Figure]:
    """Draw five random images of each digit, one column per digit, and four augmented copies of the first ones."""
    from digit_recognizer.data.augmentation import augment

    random, digits = np.random.default_rng(0), np.unique(train.labels)
    columns = [np.resize(random.permutation(np.flatnonzero(train.labels == digit)), 5) for digit in digits]
    samples = train.images[np.stack(columns, axis=1).ravel()]
    first = samples[: len(digits)]
    augmented = np.concatenate([first, augment(np.concatenate([first] * 4), seed=0)])
    pictures = {"samples": samples, "augmentation": augmented}
    return {name: figures.draw_gallery(images, columns=len(digits)) for name, images in pictures.items()}


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Fill in a Markdown template, whose values are escaped: text from a file cannot become Markdown or HTML.

    Raises:
        jinja2.UndefinedError: The template uses a variable that is not in `facts`.
    """
    return re.sub(r"\n{3,}", "\n\n", TEMPLATES.get_template(template).render(facts)).strip() + "\n"


def write_document(text: str, pictures: Mapping[str, Figure], folder: Path, step: Step) -> list[Path]:
    """Write report.html, which needs no other file, and report.md with its pictures beside it; return both paths.

    The first line of the text is the title, "# ..."; parts begin with "## ", pictures are ![text](name.png). Those
    that the text does not show are left out. This is counted as the last 40% of the progress.
    """
    shown = re.findall(r"!\[.*\]\((\w+)\.png\)", text)
    for index, name in enumerate(shown):
        step(f"drawing {name}", 0.6 + 0.4 * index / len(shown))
        figures.save_png(pictures[name], folder / f"{name}.png")
    title, body = text.removeprefix("# ").split("\n", 1)
    parts = re.findall("^## (.+)", body, re.MULTILINE)
    anchors = {part: re.sub(r"[^\w -]", "", part.lower()).replace(" ", "-") for part in parts}  # as GitHub's
    contents = "\n".join(f"- [{part}](#{anchor})" for part, anchor in anchors.items())

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    content = markdown.render(body)  # tags in its text are escaped, so that only real tags are replaced below
    for part, anchor in anchors.items():
        content = content.replace(f"<h2>{part}</h2>", f'<h2 id="{anchor}">{part}</h2>')
    for name in shown:
        data = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        content = content.replace(f'<img src="{name}.png"', f'<img src="data:image/png;base64,{data}"')
    page = Template((Path(__file__).parent / "templates" / "page.html").read_text(encoding="utf-8"))
    html = page.substitute(title=markdown.renderInline(title), contents=markdown.render(contents), body=content)
    write_text(folder / "report.html", html)
    write_text(folder / "report.md", f"# {title}\n\n{contents}\n{body}")
    return [folder / "report.html", folder / "report.md"]
