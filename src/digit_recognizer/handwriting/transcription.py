"""Read image files and describe the digits in each."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from digit_recognizer.errors import UserError
from digit_recognizer.handwriting.image_files import Listed, read_picture
from digit_recognizer.handwriting.reader import Read, Reading

BATCH_SIZE, BATCH_PIXELS = 64, 30_000_000  # pictures read together, and their pixels


class Transcript(NamedTuple):
    """A file and the digits in it."""

    file: Listed
    reading: Reading

    @property
    def probability(self) -> float:
        """The probability of the least certain digit, 0 without digits."""
        return self.reading.probability

    @property
    def is_correct(self) -> bool:
        """Whether the text equals the label; line breaks count as spaces. False without a label."""
        return self.file.label is not None and self.reading.text.split() == self.file.label.split()


def transcribe(files: Sequence[Listed], read: Read, *, refuse: Callable[[UserError], None]) -> Iterator[Transcript]:
    """Yield the transcript of each file, in their order.

    Args:
        files: the files to read.
        read: from `make_reader`.
        refuse: called with the error of each unreadable file; these files are skipped.
    """
    batch: list[tuple[Listed, np.ndarray]] = []
    for position, file in enumerate(files):
        try:
            batch.append((file, read_picture(file.path)))
        except UserError as error:
            refuse(error)
        full = len(batch) == BATCH_SIZE or sum(picture.size // 3 for _, picture in batch) > BATCH_PIXELS
        if full or position == len(files) - 1:
            readings = read([picture for _, picture in batch])
            for (done, _), reading in zip(batch, readings, strict=True):
                yield Transcript(done, reading)
            batch = []


def describe(transcript: Transcript) -> dict[str, Any]:
    """Return a transcript as a JSON value."""
    digits = [
        {"digit": digit.digit, "probability": round(digit.probability, 4), "box": list(digit.box)}
        for digit in transcript.reading.digits
    ]
    return {"path": str(transcript.file.path), "digits": digits, "text": transcript.reading.text}


def summarise(transcript: Transcript) -> tuple[str, str, str, str]:
    """Return the cells of a table: file, text, and probability and runner-up of the least certain digit."""
    path, digits = str(transcript.file.path), transcript.reading.digits
    if not digits:
        return path, "no digit found", "", ""
    least = min(digits, key=lambda digit: digit.probability)
    second = int(np.argsort(least.probabilities)[-2])
    return path, transcript.reading.text, f"{least.probability:.1%}", f"{second} ({least.probabilities[second]:.1%})"
