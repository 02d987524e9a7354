"""Files read, described and summarised."""

import os
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest

from digit_recognizer import pipeline
from digit_recognizer.handwriting import image_files, transcription
from digit_recognizer.handwriting.image_files import Listed
from digit_recognizer.handwriting.reader import Digit, Reading
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.training import runs


def recognise(pictures):
    """Read the ten drawings, and refuse anything else."""
    readings = []
    for picture in pictures:
        probabilities = [0.9 if (picture == drawing).all() else 0.01 for drawing in draw_digits()]
        digit = Digit(np.array(probabilities), (20, 10, 60, 80), np.zeros((28, 28), np.uint8))
        readings.append(Reading([[digit]] if digit.probability == 0.9 else []))
    return readings


@pytest.fixture
def folder(tmp_path):
    """A drawing of 3, one of 7 labelled 1, blank paper, and a text file with the name of a picture."""
    drawn = draw_digits()
    for name, picture in {"a.png": drawn[3], "b.png": drawn[7], "c.png": np.full_like(drawn[0], 255)}.items():
        cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    (tmp_path / "d.png").write_bytes(hostile.HOSTILE["text.png"])
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,3,drawing\nb.png,1,drawing\nc.png,,blank\n")
    return tmp_path


@pytest.fixture
def transcripts(folder):
    refused = []
    found = list(transcription.transcribe(image_files.list_pictures([folder]), recognise, refuse=refused.append))
    assert [str(error).split(":")[0] for error in refused] == [str(folder / "d.png")]
    return found


def test_readable_files_are_transcribed_in_order(transcripts):
    found = [(one.file.path.name, one.reading.text, one.is_correct) for one in transcripts]
    assert found == [("a.png", "3", True), ("b.png", "7", False), ("c.png", "", True)]
    assert [one.probability for one in transcripts] == [0.9, 0.9, 0]


def test_files_are_read_in_batches(folder, monkeypatch):
    sizes = []

    def count(pictures):
        sizes.append(len(pictures))
        return recognise(pictures)

    files = [Listed(folder / "a.png")] * 7
    monkeypatch.setattr(transcription, "BATCH_SIZE", 3)
    assert len(list(transcription.transcribe(files, count, refuse=pytest.fail))) == 7
    monkeypatch.setattr(transcription, "BATCH_PIXELS", 112 * 112)
    assert len(list(transcription.transcribe(files, count, refuse=pytest.fail))) == 7
    assert sizes == [3, 3, 1, 2, 2, 2, 1]


@pytest.mark.parametrize(("label", "expected"), [("7 3", True), ("73", False), (None, False)])
def test_line_breaks_count_as_spaces_in_a_label(label, expected):
    digits = [Digit(np.eye(10)[digit], (0, 0, 1, 1), np.zeros((28, 28), np.uint8)) for digit in (7, 3)]
    reading = Reading([[digit] for digit in digits])
    assert transcription.Transcript(Listed(Path("a.png"), label), reading).is_correct is expected


def test_a_description_has_path_digits_and_text(transcripts, folder):
    assert transcription.describe(transcripts[0]) == {
        "path": str(folder / "a.png"),
        "digits": [{"digit": 3, "probability": 0.9, "box": [20, 10, 60, 80]}],
        "text": "3",
    }


def test_a_summary_has_the_least_certain_digit_and_its_runner_up(transcripts, folder):
    assert transcription.summarise(transcripts[0]) == (str(folder / "a.png"), "3", "90.0%", "9 (1.0%)")
    assert transcription.summarise(transcripts[2]) == (str(folder / "c.png"), "no digit found", "", "")


@pytest.mark.slow
def test_labelled_handwriting_is_read():
    """Read the folder HANDWRITING_DIR, which has a labels.csv, with a run (RUN or the latest) in MODELS_DIR."""
    if not {"HANDWRITING_DIR", "MODELS_DIR"} <= os.environ.keys():
        pytest.skip("needs HANDWRITING_DIR, a folder with a labels.csv, and MODELS_DIR, a folder of runs")
    read = pipeline.load_reader(runs.find_run(Path(os.environ["MODELS_DIR"]), os.environ.get("RUN")))
    files = image_files.list_pictures([Path(os.environ["HANDWRITING_DIR"])])
    found = list(transcription.transcribe(files, read, refuse=pytest.fail))
    wrong = [(one.file.path.name, one.file.label, one.reading.text) for one in found if not one.is_correct]
    assert len(wrong) <= len(found) / 80, wrong
