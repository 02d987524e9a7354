"""Pictures read by a trained run, file after file, and what came out: drawn, described and scored."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import calibration
from digit_recognizer.evaluation.metrics import Accuracy, share
from digit_recognizer.files import replacing
from digit_recognizer.handwriting import sample_digits
from digit_recognizer.handwriting.detector import load_spotter
from digit_recognizer.handwriting.image_files import Listed, read_picture
from digit_recognizer.handwriting.reader import SURE, Classify, Reading, read_pictures
from digit_recognizer.training import prediction, runs

Read = Callable[[Sequence[np.ndarray]], list[Reading]]  # of pictures, uint8 [h, w, 3] each, RGB

AT_ONCE, PIXELS_AT_ONCE = 64, 30_000_000  # pictures that are read together, and their pixels
DRAWN = 100  # files at most of which annotated pictures are written
DRAWN_SIDE = 1000  # pixels of the longer side of an annotated picture
SHOWN = 100  # pixels that the network's 28x28 are enlarged to
BOX, TEXT = (0, 94, 213), (0, 0, 0)  # BGR: vermilion of Okabe and Ito's palette


class Transcript(NamedTuple):
    """A file and what was read in it."""

    file: Listed
    reading: Reading

    @property
    def probability(self) -> float:
        """Of the least sure digit; 0 without any."""
        return min((digit.probability for row in self.reading.rows for digit in row), default=0.0)

    @property
    def right(self) -> bool:
        """Whether the text is the label; line breaks and spaces count alike."""
        return self.file.label is not None and self.reading.text.split() == self.file.label.split()

    def drawn(self) -> np.ndarray:
        """Returns the annotated picture, uint8 [h, w, 3], BGR, of the file read again: keeping them all costs more."""
        return annotate(read_picture(self.file.path), self.reading)


def load_reader(run_dir: Path) -> Read:
    """Loads what reads pictures with a run's networks; it has answered once, for first answers take longest."""
    read = make_reader(prediction.load_classifier(run_dir), runs.read_predictions(run_dir))
    read(sample_digits.draw_digits())
    return read


def make_reader(classify: Classify, answers: runs.Predictions) -> Read:
    """Returns what reads pictures, its probabilities calibrated on a run's answers to the rows that it held out."""
    temperature = calibration.fit_temperature(answers.labels, answers.probabilities)
    spot = load_spotter()
    return lambda pictures: read_pictures(
        pictures, lambda images: calibration.temper(classify(images), temperature), spot
    )


def transcribe(
    files: Sequence[Listed],
    read: Read,
    *,
    refuse: Callable[[UserError], None],
) -> Iterator[Transcript]:
    """Yields what is in each file, in their order.

    Args:
        files: to be read.
        read: reads pictures.
        refuse: is told of each file that cannot be read; the others are read all the same.
    """
    waiting: list[tuple[Listed, np.ndarray]] = []
    for position, file in enumerate(files):
        try:
            waiting.append((file, read_picture(file.path)))
        except UserError as error:
            refuse(error)
        full = len(waiting) == AT_ONCE or sum(picture.size // 3 for _, picture in waiting) > PIXELS_AT_ONCE
        if full or position == len(files) - 1:
            readings = read([picture for _, picture in waiting])
            for (done, _), reading in zip(waiting, readings, strict=True):
                yield Transcript(done, reading)
            waiting = []


def describe(transcript: Transcript) -> dict[str, Any]:
    """Returns a transcript as a value that JSON can hold."""
    digits = [digit for row in transcript.reading.rows for digit in row]
    return {
        "path": str(transcript.file.path),
        "digits": [
            {"digit": digit.digit, "probability": round(digit.probability, 4), "box": list(digit.box)}
            for digit in digits
        ],
        "text": transcript.reading.text,
    }


def summarise(transcript: Transcript) -> tuple[str, str, str, str]:
    """Returns file, digits, and the least sure digit's probability and runner-up, as a person reads them."""
    path, digits = str(transcript.file.path), [digit for row in transcript.reading.rows for digit in row]
    if not digits:
        return path, "no digit found", "", ""
    least = min(digits, key=lambda digit: digit.probability)
    second = int(np.argsort(least.probabilities)[-2])
    runner_up = f"{second} ({least.probabilities[second]:.1%})"
    return path, transcript.reading.text, f"{least.probability:.1%}", runner_up


def score(transcripts: Sequence[Transcript]) -> dict[str, Accuracy]:
    """Returns the share of labelled files that were read rightly, of all ("") and of each kind."""
    labelled = [transcript for transcript in transcripts if transcript.file.label is not None]
    kinds = sorted({transcript.file.kind for transcript in labelled if transcript.file.kind})
    groups = {"": labelled} | {kind: [one for one in labelled if one.file.kind == kind] for kind in kinds}
    return {name: share(sum(one.right for one in group), len(group)) for name, group in groups.items() if group}


def annotate(picture: np.ndarray, reading: Reading) -> np.ndarray:
    """Draws boxes and digits into a picture and below it what the network saw of each.

    Args:
        picture: uint8 [h, w, 3], RGB.
        reading: of it.

    Returns:
        uint8 [h, w, 3], BGR.
    """
    scale = min(DRAWN_SIDE / max(picture.shape), max(1.0, 3 * SHOWN / max(picture.shape)))
    size = tuple(max(1, round(length * scale)) for length in picture.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    drawn = np.ascontiguousarray(cv2.resize(picture, size, interpolation=method)[..., ::-1])
    digits = [digit for row in reading.rows for digit in row]
    for digit in digits:
        x, y, width, height = (round(value * scale) for value in digit.box)
        cv2.rectangle(drawn, (x, y), (x + width, y + height), BOX, 2)
        _write(drawn, str(digit.digit), (x, max(y - 4, 14)), BOX)
    columns = max(1, min(len(digits), max(drawn.shape[1], 3 * SHOWN) // SHOWN))
    tiles = [_tile(digit.image, f"{digit.digit}  {digit.probability:.0%}") for digit in digits]
    tiles = tiles or [_captioned(np.full((1, 2 * SHOWN, 3), 255, np.uint8), "no digit found")]
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return _stacked([drawn, *rows])


def draw_transcripts(transcripts: Sequence[Transcript], folder: Path) -> int:
    """Writes annotated pictures into a folder, each under its file's name and .png, and one of all mistakes.

    Of very many files those are drawn that are read wrongly or with doubt, and then the first ones.

    Returns:
        The number of files that were drawn.
    """
    from digit_recognizer.evaluation import figures

    wrong = [one for one in transcripts if one.file.label is not None and not one.right]
    chosen = sorted(transcripts, key=lambda one: (one.file.label is None or one.right, one.probability >= SURE))[:DRAWN]
    taken: set[str] = set()
    for transcript in chosen:
        name = stem = transcript.file.path.name
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        with replacing(folder / f"{name}.png") as temporary:
            cv2.imwrite(str(temporary), transcript.drawn())
    if wrong:
        titles = [
            f"{one.file.label} read as {one.reading.text or 'nothing'}\n{one.file.path.name[-24:]}" for one in wrong
        ]
        pictures = [one.drawn()[..., ::-1] for one in wrong[:DRAWN]]
        figures.save_png(figures.draw_gallery(pictures, titles[:DRAWN], columns=3), folder / "mistakes.png")
    return len(chosen)


def _tile(image: np.ndarray, caption: str) -> np.ndarray:
    enlarged = cv2.resize(image, (SHOWN, SHOWN), interpolation=cv2.INTER_NEAREST)
    return _captioned(cv2.cvtColor(enlarged, cv2.COLOR_GRAY2BGR), caption)


def _captioned(image: np.ndarray, caption: str) -> np.ndarray:
    framed = cv2.copyMakeBorder(image, 0, 22, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    _write(framed, caption, (4, framed.shape[0] - 6), TEXT)
    return framed


def _write(image: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    width = max(image.shape[1] for image in images)
    white = (255, 255, 255)
    return np.vstack(
        [cv2.copyMakeBorder(one, 0, 0, 0, width - one.shape[1], cv2.BORDER_CONSTANT, value=white) for one in images]
    )
