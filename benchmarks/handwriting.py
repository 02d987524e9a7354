"""Benchmark of the reader on synthetic pictures, by kind of difficulty: `make bench-handwriting`.

The digits are rows of train.csv that neither the run nor the detector was trained on.
"""

import difflib
import resource
import statistics
import sys
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from rich.console import Console

from benchmarks import tables
from benchmarks.benchmark import describe_machine
from benchmarks.engine import measure_seconds
from benchmarks.synthetic_pictures import KINDS, LARGE, Picture, make_pictures
from benchmarks.train_detector import split_rows
from digit_recognizer import files
from digit_recognizer.config import REFUSE
from digit_recognizer.console import show_steps
from digit_recognizer.data.csv_files import load_train
from digit_recognizer.errors import UserError
from digit_recognizer.handwriting import reader
from digit_recognizer.handwriting.reader import Read, Reading, refuse_below
from digit_recognizer.training import run_folder

BATCH_SIZE = 64  # pictures


def read_in_batches(read: Read, pictures: list[np.ndarray]) -> list[Reading]:
    """Return a reading of each picture."""
    return [reading for first in range(0, len(pictures), BATCH_SIZE) for reading in read(pictures[first:][:BATCH_SIZE])]


def measure_kind(read: Read, pictures: list[Picture], *, by_line: bool) -> tuple[dict[str, float], list[float]]:
    """Read pictures of one kind.

    Args:
        read: A reader that refuses nothing.
        pictures: Each with its text.
        by_line: Compare lines, some of which may be missing in a reading, not whole texts.

    Returns:
        The fractions of texts, or of lines, that are read correctly, and of pictures that are refused; the highest
        probability of a digit in each picture.
    """
    readings = read_in_batches(read, [picture for picture, _ in pictures])
    texts = [refuse_below(REFUSE, reading).text for reading in readings]
    correct = total = 0
    for (_, expected), text in zip(pictures, texts, strict=True):
        truth, lines = (value.split("\n") if by_line else [value] for value in (expected, text))
        blocks = difflib.SequenceMatcher(None, truth, lines, autojunk=False).get_matching_blocks()
        correct, total = correct + sum(block.size for block in blocks), total + len(truth)
    scores = {"correct": correct / total, "refused": texts.count("") / len(texts)}
    return scores, [max((digit.probability for digit in reading.digits), default=0.0) for reading in readings]


def measure_speed(read: Read, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the rate for small pictures, the time for a large photo, and the peak memory of this process."""
    small = [cv2.cvtColor(255 - image, cv2.COLOR_GRAY2RGB) for image in images[:1000]]
    rate = len(small) / measure_seconds(lambda: read_in_batches(read, small))
    ((photo, _),) = make_pictures("lines", LARGE, images, labels, 1, np.random.default_rng(4))
    seconds = statistics.median(measure_seconds(lambda: read([photo])) for _ in range(5))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"small_pictures_per_second": rate, "large_photo_seconds": seconds, "peak_bytes": peak}


def require_unseen(rows: np.ndarray, labels: np.ndarray) -> None:
    """Raise a `UserError` if the detector was trained on some rows, int [n], of train.csv with these labels."""
    if seen := len(np.intersect1d(rows, split_rows(labels).train)):
        raise UserError(
            f"the detector was trained on {seen:,} of the {len(rows):,} rows that the run held out; "
            "name a RUN= with FOLDS=1 and the default VALIDATION"
        )


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default="data", help="Folder of the competition's train.csv."
)
@click.option("--run", help="Name of the run; by default the latest.")
@click.option("--count", type=click.IntRange(1), default=200, help="Pictures of each kind.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Of the pictures. To choose settings, take others.")
@click.option("--work-dir", type=click.Path(path_type=Path), default="bench", help="Folder for the results.")
def main(data_dir: Path, run: str | None, count: int, seed: int, work_dir: Path) -> None:
    """Measure how a run reads synthetic pictures of digits, of lines of digits, and without digits."""
    run_dir = reader.choose_networks(Path("models"), run)
    train = load_train(data_dir)
    all_labels = np.asarray(train.labels)
    rows = split_rows(all_labels).validation  # also of the network of the package
    if run_dir:
        run_folder.require_data(run_folder.read_finished_record(run_dir), {"train.csv": train.sha256}, data_dir)
        rows = run_folder.require_held_out(run_folder.read_predictions(run_dir), run_dir).rows
        require_unseen(rows, all_labels)
    images, labels = train.images[rows], all_labels[rows]
    result: dict[str, Any] = {"networks": reader.name_networks(run_dir).partition(";")[0]}
    result |= {"machine": describe_machine(), "seed": seed, "count": count, "refuse": REFUSE}
    highest: dict[str, list[float]] = {part: [] for part in KINDS}
    with show_steps(Console(stderr=True)) as step:
        # The refusals are counted for several thresholds.
        read = reader.make_reader(reader.load_classifier(run_dir), refuse=0)
        result["speed"] = measure_speed(read, images, labels)
        for number, (part, kinds) in enumerate(KINDS.items(), 1):
            result[part] = {}
            for index, kind in enumerate(kinds):
                step(f"{part}: {kind}", (number - 1 + index / len(kinds)) / len(KINDS))
                random = np.random.default_rng([seed, number, index])
                pictures = make_pictures(part, kind, images, labels, count, random)
                result[part][kind], probabilities = measure_kind(read, pictures, by_line=part == "lines")
                highest[part] += probabilities
    result["refused"] = {
        limit: [float(np.mean(np.array(highest[part]) < float(limit))) for part in ("digits", "others")]
        for limit in tables.REFUSE_LIMITS
    }
    files.write_json(work_dir / "handwriting.json", result)
    click.echo(tables.make_handwriting_tables(result))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"handwriting: {error}")
