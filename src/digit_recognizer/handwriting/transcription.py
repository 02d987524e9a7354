"""Read image files; tabulate, score and draw the digits in each."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.table import Table

from digit_recognizer.console import make_table
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.metrics import Accuracy, proportion
from digit_recognizer.evaluation.report import HandwritingSample
from digit_recognizer.handwriting import image_files
from digit_recognizer.handwriting.image_files import LABELS, Listed, read_picture
from digit_recognizer.handwriting.normalisation import rescale
from digit_recognizer.handwriting.reader import CONFIDENT, Read, Reading
from digit_recognizer.training.devices import count_cores

MAX_FILES = 100  # annotated images of one call
MAX_NAME = 50  # letters of a file's name in that of its annotated image
MIN_SIDE, MAX_SIDE, SAMPLE_SIDE = 300, 1000, 240  # pixels of an annotated image, and of one in the report
TILE, CAPTION = 100, 22  # pixels to which the classifier's 28x28 are enlarged, and of the text below them
BOX, TEXT, PAPER = (213, 94, 0), (0, 0, 0), 255  # RGB: vermilion of Okabe and Ito's palette, black, white

OnError = Callable[[UserError], None]  # called with the error of each file that is left out


class Transcript(NamedTuple):
    """A file and the digits in it."""

    file: Listed
    reading: Reading
    pages: int = 1  # of the file, of which the first was read

    @property
    def text(self) -> str:
        """The digits on one line; a space separates lines."""
        return self.reading.text.replace("\n", " ")

    @property
    def is_mistake(self) -> bool:
        """Whether there is a label and the text differs from it; line breaks count as spaces."""
        return self.file.label is not None and self.reading.text.split() != self.file.label.split()


def transcribe(files: Sequence[Listed], read: Read, *, on_error: OnError) -> Iterator[Transcript]:
    """Yield the transcript of each file, in their order; call `on_error` for each file that cannot be read.

    A thread per core decodes and reads them: Pillow, OpenCV and TensorFlow release the interpreter's lock.
    """
    # The decoder's own catch_warnings could restore the filters of another thread.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(count_cores()) as pool:
        for result in pool.map(partial(_read_file, read=read), files):
            if isinstance(result, Transcript):
                yield result
            else:
                on_error(result)


def _read_file(file: Listed, read: Read) -> Transcript | UserError:
    try:
        pixels, pages = read_picture(file.path)
        (reading,) = read([pixels])
        return Transcript(file, reading, pages)
    except UserError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other files are to be read
        reason = f"{type(error).__name__}: {error}"
        return UserError(f"{file.path}: could not read the image ({reason}); please report this")


def score(transcripts: Sequence[Transcript]) -> Accuracy | None:
    """Return the accuracy on the labelled files, None without any."""
    mistakes = [transcript.is_mistake for transcript in transcripts if transcript.file.label is not None]
    return proportion(mistakes.count(False), len(mistakes)) if mistakes else None


def to_json(transcripts: Sequence[Transcript], networks: str) -> dict[str, Any]:
    """Return transcripts, their accuracy and the name of the networks as a JSON value."""
    images = []
    for transcript in transcripts:
        (path, label), reading, pages = transcript
        digits = [
            {"digit": digit.digit, "probability": round(digit.probability, 4), "box": list(digit.box)}
            for digit in reading.digits
        ]
        labelled = {} if label is None else {"label": label, "correct": not transcript.is_mistake}
        images.append({"path": str(path), "pages": pages, "text": reading.text, "digits": digits} | labelled)
    accuracy = score(transcripts)
    return {"networks": networks, "accuracy": accuracy and accuracy._asdict(), "images": images}


def tabulate(transcripts: Sequence[Transcript]) -> Table:
    """Return a table of files, text, and probability and runner-up of the least certain digit; mistakes come first."""
    rows = []
    for transcript in sorted(transcripts, key=lambda transcript: not transcript.is_mistake):
        (path, label), reading, pages = transcript
        name = f"{path}{f' (page 1 of {pages})' * (pages > 1)}"
        row = [name, transcript.text or "no digit found", "", "", (label or "") + " (wrong)" * transcript.is_mistake]
        if reading.digits:
            least = min(reading.digits, key=lambda digit: digit.probability)
            second = int(np.argsort(least.probabilities)[-2])
            row[2:4] = f"{least.probability:.1%}", f"{second} ({least.probabilities[second]:.1%})"
        rows.append(row)
    columns = ["file", "digits", "probability", "runner-up", "label"][: 5 if any(row[4] for row in rows) else 4]
    table = make_table("", columns, [row[: len(columns)] for row in rows])
    table.columns[0].justify, table.columns[0].overflow = "left", "fold"  # never truncate a file name
    return table


def read_samples(folder: Path, read: Read, *, on_error: OnError) -> list[HandwritingSample]:
    """Read the labelled images of a folder, of which there may be none, for the report."""
    files = image_files.read_table(folder / LABELS) if (folder / LABELS).exists() else []
    samples = []
    for transcript in transcribe(files, read, on_error=on_error):
        (path, label), reading, _ = transcript
        drawn = draw_boxes(read_picture(path).pixels, reading, side=SAMPLE_SIDE)
        name = str(path.relative_to(folder))
        samples.append(HandwritingSample(name, label or "", transcript.text, reading.probability, drawn))
    return samples


def draw_transcripts(transcripts: Sequence[Transcript], folder: Path, *, on_error: OnError) -> list[Path]:
    """Annotate at most 100 files, mistakes first and then uncertain ones, in place of the images of an earlier call.

    `on_error` is called for each file that cannot be read again. Return the paths, <folder>/001-<name>.png and so on.
    """
    order = sorted(transcripts, key=lambda file: (not file.is_mistake, file.reading.probability >= CONFIDENT))
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("[0-9][0-9][0-9]-*.png"):
        path.unlink()
    paths = []
    for number, transcript in enumerate(order[:MAX_FILES], start=1):
        name = re.sub(r"[^\w.-]", "_", transcript.file.path.stem)[:MAX_NAME]
        try:
            picture = read_picture(transcript.file.path).pixels  # keeping all of them would take more memory
        except UserError as error:
            on_error(error)
            continue
        paths.append(folder / f"{number:03}-{name}.png")
        image_files.write_png(paths[-1], annotate(picture, transcript.reading))
    return paths


def draw_boxes(picture: np.ndarray, reading: Reading, *, side: int) -> np.ndarray:
    """Return a picture with a box around each digit, its longer side scaled to `side` pixels: uint8 [h, w, 3], RGB."""
    scale = side / max(picture.shape)
    drawn = rescale(picture, scale, cv2.INTER_NEAREST)
    for digit in reading.digits:
        x, y, width, height = (round(value * scale) for value in digit.box)
        cv2.rectangle(drawn, (x, y), (x + width, y + height), BOX, 2)
    return drawn


def annotate(picture: np.ndarray, reading: Reading) -> np.ndarray:
    """Return a picture with boxes and digits, and below it the classifier's input for each: uint8 [h, w, 3], RGB."""
    side = min(max(MIN_SIDE, *picture.shape), MAX_SIDE)
    drawn = draw_boxes(picture, reading, side=side)
    height, width = drawn.shape[:2]
    columns = max(MIN_SIDE, width) // TILE
    below = max(1, -(-len(reading.digits) // columns)) * (TILE + CAPTION)
    canvas = np.pad(drawn, ((0, below), (0, max(0, MIN_SIDE - width)), (0, 0)), constant_values=PAPER)
    if not reading.digits:
        _write(canvas, "no digit found", 4, height + CAPTION - 6)
    for index, digit in enumerate(reading.digits):
        x, y = TILE * (index % columns), height + (TILE + CAPTION) * (index // columns)
        canvas[y : y + TILE, x : x + TILE] = rescale(digit.image, TILE / 28, cv2.INTER_NEAREST)[..., np.newaxis]
        _write(canvas, f"{digit.digit}  {digit.probability:.0%}", x + 4, y + TILE + CAPTION - 6)
        left, top = (round(value * side / max(picture.shape)) for value in digit.box[:2])
        _write(canvas, str(digit.digit), left, max(top - 4, 14), BOX)
    return canvas


def _write(canvas: np.ndarray, text: str, x: int, y: int, colour: tuple[int, ...] = TEXT) -> None:
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
