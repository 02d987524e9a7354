"""Read image files; describe, score and draw the digits in each."""

import contextlib
import io
import itertools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from digit_recognizer.console import printable
from digit_recognizer.errors import UserError
from digit_recognizer.evaluation.figures import draw_gallery, save_png
from digit_recognizer.evaluation.metrics import Accuracy, proportion
from digit_recognizer.evaluation.report import Handwriting, HandwritingSample
from digit_recognizer.files import replacing
from digit_recognizer.handwriting.image_files import LABELS, MARK, Listed, is_annotated, read_picture, read_table
from digit_recognizer.handwriting.normalisation import rescale
from digit_recognizer.handwriting.reader import SURE, Read, Reading
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.training.devices import count_cores

MAX_FILES = 100  # annotated pictures of one call
MAX_NAME = 200  # bytes of the name of an annotated picture; file systems allow 255
MIN_SIDE, MAX_SIDE, SAMPLE_SIDE = 300, 1000, 240  # pixels of an annotated picture, and of one in the report
TILE, CAPTION = 100, 22  # pixels to which the classifier's 28x28 are enlarged, and of the text below them
BOX, TEXT, PAPER = (213, 94, 0), (0, 0, 0), 255  # RGB: vermilion of Okabe and Ito's palette, black, white


class Transcript(NamedTuple):
    """A file and the digits in it."""

    file: Listed
    reading: Reading

    @property
    def is_mistake(self) -> bool:
        """Whether there is a label and the text differs from it; line breaks count as spaces."""
        return self.file.label is not None and self.reading.text.split() != self.file.label.split()


def transcribe(files: Sequence[Listed], read: Read, *, refuse: Callable[[UserError], None]) -> Iterator[Transcript]:
    """Yield the transcript of each file, in their order; call `refuse` with the error of each unreadable one.

    A thread per core decodes and reads them: Pillow, OpenCV and TensorFlow release the interpreter's lock.
    """
    left, pending, cores = iter(files), deque[Future[Transcript | UserError]](), count_cores()
    # The decoder's own catch_warnings could restore the filters of another thread.
    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(cores) as pool:
        try:
            while True:
                pending += [
                    pool.submit(_read_file, file, read) for file in itertools.islice(left, 4 * cores - len(pending))
                ]
                if not pending:
                    return
                found = pending.popleft().result()
                if isinstance(found, Transcript):
                    yield found
                else:
                    refuse(found)
        finally:
            pool.shutdown(cancel_futures=True)


def _read_file(file: Listed, read: Read) -> Transcript | UserError:
    """Return the transcript of a file, or the error."""
    try:
        (reading,) = read([read_picture(file.path)])
        return Transcript(file, reading)
    except UserError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the other pictures are to be read
        fault = f"{type(error).__name__}: {error}"
        return UserError(f"{file.path}: expected a picture to read, found a fault in reading it ({fault})")


def describe(transcript: Transcript) -> dict[str, Any]:
    """Return a transcript as a JSON value."""
    path, found = str(transcript.file.path), transcript.reading.digits
    digits = [{"digit": one.digit, "probability": round(one.probability, 4), "box": list(one.box)} for one in found]
    scored = {"label": transcript.file.label, "correct": not transcript.is_mistake}
    value = {"path": path, "digits": digits, "text": transcript.reading.text}
    return value | ({} if transcript.file.label is None else scored)


def summarise(transcript: Transcript) -> tuple[str, str, str, str]:
    """Return the cells of a table: file, text on one line, and probability and runner-up of the least certain digit."""
    path, digits = str(transcript.file.path), transcript.reading.digits
    text = transcript.reading.text.replace("\n", " ")
    if not digits:
        return path, "no digit found", "", ""
    least = min(digits, key=lambda digit: digit.probability)
    second = int(np.argsort(least.probabilities)[-2])
    return path, text, f"{least.probability:.1%}", f"{second} ({least.probabilities[second]:.1%})"


def score(transcripts: Sequence[Transcript]) -> dict[str, Accuracy]:
    """Return the accuracy on the labelled files, of all ("") and of each kind."""
    labelled = [one for one in transcripts if one.file.label is not None]
    groups = {"": labelled} if labelled else {}
    for kind in sorted({one.file.kind for one in labelled if one.file.kind}):
        groups[kind] = [one for one in labelled if one.file.kind == kind]
    return {kind: proportion(sum(not one.is_mistake for one in group), len(group)) for kind, group in groups.items()}


def read_samples(folder: Path, read: Read) -> Handwriting:
    """Read the labelled pictures of a folder or, if there are none, the sample digits, for the report."""
    listed = read_table(folder / LABELS) if (folder / LABELS).exists() else []
    own = [(str(path.relative_to(folder)), label or "", read_picture(path)) for path, label, _ in listed]
    labelled = own or [(f"a drawn {digit}", str(digit), picture) for digit, picture in enumerate(draw_digits())]
    samples = []
    for (name, label, picture), reading in zip(labelled, read([one[2] for one in labelled]), strict=True):
        text, drawn = reading.text.replace("\n", " "), draw_boxes(picture, reading, side=SAMPLE_SIDE)
        samples.append(HandwritingSample(name, label, text, reading.probability, drawn))
    return Handwriting(bool(own), samples)


def draw_transcripts(transcripts: Sequence[Transcript], folder: Path, *, refuse: Callable[[UserError], None]) -> int:
    """Annotate at most 100 files as <folder>/<file>.png, mistakes first, and draw mistakes.png; return their number.

    Annotated pictures of earlier calls are deleted first, unless they are among the files; other files never are.
    `refuse` is called with the error of each picture that cannot be written.

    Raises:
        UserError: The folder cannot be created or written.
    """
    chosen = sorted(transcripts, key=lambda one: (not one.is_mistake, one.reading.probability >= SURE))[:MAX_FILES]
    named = {os.path.realpath(one.file.path) for one in transcripts}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.png"):
            if is_annotated(path) and os.path.realpath(path) not in named:
                path.unlink()
    except OSError as error:
        fault = f"expected a folder to write annotated images to, found an error ({error.strerror})"
        raise UserError(f"{folder}: {fault}; choose another --output-dir") from None
    count, mistakes, titles = 0, [], []
    for transcript in chosen:
        (path, label, _), reading = transcript
        target = _find_free_path(folder, path.name)
        with _refusing(target, refuse):
            drawn = annotate(read_picture(path), reading)  # read again: keeping all pictures would take more memory
            _write_png(drawn, target)
            count += 1
            if transcript.is_mistake:
                mistakes.append(drawn)
                lines = f"{label} read as {reading.text or 'nothing'}".replace("\n", " "), path.name[-24:]
                titles.append("\n".join(map(printable, lines)))
    if mistakes:
        target = _find_free_path(folder, "mistakes")
        with _refusing(target, refuse), warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
            save_png(draw_gallery(mistakes, titles, columns=3), target, software=MARK)
    return count


@contextlib.contextmanager
def _refusing(path: Path, refuse: Callable[[UserError], None]) -> Iterator[None]:
    """Call `refuse` with the error of the block, which writes a file."""
    try:
        yield
    except UserError as error:
        refuse(error)
    except OSError as error:
        refuse(UserError(f"{path}: expected to write an annotated image, found an error ({error.strerror})"))


def _find_free_path(folder: Path, name: str) -> Path:
    """Return <folder>/<name>.png or, where that exists, a numbered path, in characters that every program can read."""
    stem = "".join(one if one.isprintable() else "_" for one in name).encode()[:MAX_NAME].decode(errors="ignore")
    stems = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for one in stems if not os.path.lexists(path := folder / f"{one}.png"))


def _write_png(picture: np.ndarray, path: Path) -> None:
    """Write uint8 [h, w, 3], RGB, with the mark of annotated pictures."""
    content, text = io.BytesIO(), PngInfo()
    text.add_text("Software", MARK)
    Image.fromarray(picture).save(content, "png", pnginfo=text)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


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
    captions = [] if reading.digits else [("no digit found", (4, height + CAPTION - 6), TEXT)]
    for index, digit in enumerate(reading.digits):
        x, y = TILE * (index % columns), height + (TILE + CAPTION) * (index // columns)
        canvas[y : y + TILE, x : x + TILE] = rescale(digit.image, TILE / 28, cv2.INTER_NEAREST)[..., np.newaxis]
        captions.append((f"{digit.digit}  {digit.probability:.0%}", (x + 4, y + TILE + CAPTION - 6), TEXT))
        left, top = (round(value * side / max(picture.shape)) for value in digit.box[:2])
        captions.append((str(digit.digit), (left, max(top - 4, 14)), BOX))
    for text, place, colour in captions:
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return canvas
