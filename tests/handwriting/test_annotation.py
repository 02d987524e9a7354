"""Readings drawn into their pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from digit_recognizer.handwriting import annotation
from digit_recognizer.handwriting.image_files import Listed
from digit_recognizer.handwriting.reader import Digit, Reading
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.handwriting.transcription import Transcript

READING = Reading([[Digit(np.eye(10)[3] * 0.95, (20, 10, 60, 80), np.full((28, 28), 77, np.uint8))]])


@pytest.fixture
def transcripts(tmp_path):
    """Transcripts of a correct, an incorrect and a refused picture."""
    made = []
    for name, label, reading in (("a.png", "3", READING), ("b.png", "7", READING), ("c.png", "", Reading([]))):
        cv2.imwrite(str(tmp_path / name), draw_digits()[3])
        made.append(Transcript(Listed(tmp_path / name, label), reading))
    return made


def test_annotated_pictures_show_boxes_and_the_classifiers_input():
    drawn = annotation.annotate(draw_digits()[3], READING)
    assert drawn.shape == (300 + 100 + 22, 300, 3)
    assert (drawn[:300] == annotation.BOX).all(axis=2).sum() > 500
    assert (drawn[300:400, :100] == 77).all()


def test_boxes_are_drawn_at_the_requested_size():
    drawn = annotation.draw_boxes(draw_digits()[3], READING, side=224)
    assert drawn.shape == (224, 224, 3)
    assert (drawn[20, 40:160] == annotation.BOX).all()
    assert (drawn[20:180, 160] == annotation.BOX).all()
    assert (drawn[40:160, 50:150] == np.repeat(np.repeat(draw_digits()[3], 2, 0), 2, 1)[40:160, 50:150]).all()


def test_very_long_pictures_are_drawn():
    picture = np.full((3000, 2, 3), 200, np.uint8)
    assert annotation.draw_boxes(picture, Reading([]), side=240).shape == (240, 1, 3)
    assert annotation.annotate(picture, Reading([])).shape == (1000 + 23, 200, 3)


def test_files_of_the_same_name_are_numbered(transcripts, tmp_path):
    assert annotation.draw_transcripts([*transcripts, transcripts[0]], tmp_path / "out") == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.png.png",
        "a.png-2.png",
        "b.png.png",
        "c.png.png",
    }
    drawn = cv2.imread(str(tmp_path / "out" / "a.png.png"))
    assert (drawn[..., ::-1] == annotation.BOX).all(axis=2).sum() > 500


def test_of_many_files_the_incorrect_and_uncertain_ones_are_drawn(transcripts, tmp_path, monkeypatch):
    uncertain = READING.rows[0][0]._replace(probabilities=np.eye(10)[3] * 0.5)
    path = Path(tmp_path / "uncertain.png")
    cv2.imwrite(str(path), draw_digits()[3])
    monkeypatch.setattr(annotation, "MAX_FILES", 2)
    confident = [transcripts[0], transcripts[0]]
    doubtful = [Transcript(Listed(path), Reading([[uncertain]])), transcripts[1]]
    assert annotation.draw_transcripts([*confident, *doubtful], tmp_path / "out") == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.png.png", "uncertain.png.png"}
