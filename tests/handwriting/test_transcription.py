"""Picture files read, described, scored and drawn."""

import os
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest
from test_reader import read

from digit_recognizer.handwriting import image_files, transcription
from digit_recognizer.handwriting.image_files import Listed
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.training import runs


@pytest.fixture
def folder(tmp_path):
    """A picture of a 3, one of a 7 called 1, blank paper, and a text that calls itself a picture."""
    drawn = draw_digits()
    for name, picture in {"a.png": drawn[3], "b.png": drawn[7], "c.png": np.full_like(drawn[0], 255)}.items():
        cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    (tmp_path / "d.png").write_bytes(hostile.HOSTILE["text.png"])
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,3,drawing\nb.png,1,drawing\nc.png,,blank\n")
    return tmp_path


@pytest.fixture
def transcripts(folder):
    refused = []
    listed = image_files.list_pictures([folder])
    found = list(transcription.transcribe(listed, read, refuse=refused.append))
    assert [str(error).split(":")[0] for error in refused] == [str(folder / "d.png")]
    return found


def test_every_readable_file_is_read_in_order(transcripts):
    assert [(one.file.path.name, one.reading.text) for one in transcripts] == [
        ("a.png", "3"),
        ("b.png", "7"),
        ("c.png", ""),
    ]


def test_a_description_is_what_the_command_promises(transcripts):
    described = transcription.describe(transcripts[0])
    assert described.keys() == {"path", "digits", "text"}
    ((digit),) = described["digits"]
    assert digit["digit"] == 3
    assert 0.9 < digit["probability"] <= 1
    x, y, width, height = digit["box"]
    drawn = draw_digits()[3].min(axis=2) < 128
    assert drawn[y : y + height, x : x + width].sum() == drawn.sum()


def test_labels_are_scored_by_kind(transcripts):
    scores = transcription.score(transcripts)
    assert {kind: (accuracy.value, accuracy.rows) for kind, accuracy in scores.items()} == {
        "": (2 / 3, 3),
        "blank": (1, 1),
        "drawing": (0.5, 2),
    }
    assert transcription.score([one._replace(file=Listed(one.file.path)) for one in transcripts]) == {}


def test_annotated_pictures_and_mistakes_are_drawn(transcripts, tmp_path):
    twice = [*transcripts, transcripts[0]]
    assert transcription.draw_transcripts(twice, tmp_path / "out") == 4
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.png.png", "a.png-2.png", "b.png.png", "c.png.png", "mistakes.png"}
    drawn = cv2.imread(str(tmp_path / "out" / "a.png.png"))
    assert (drawn == transcription.BOX).all(axis=2).sum() > 100


def test_of_very_many_files_the_doubtful_ones_are_drawn(transcripts, tmp_path, monkeypatch):
    monkeypatch.setattr(transcription, "DRAWN", 1)
    assert transcription.draw_transcripts(transcripts, tmp_path / "out") == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.png.png", "mistakes.png"}


@pytest.mark.slow
def test_other_peoples_handwriting_is_read():
    """Of the folder HANDWRITING_DIR with a labels.csv, by the latest run in MODELS_DIR."""
    if not {"HANDWRITING_DIR", "MODELS_DIR"} <= os.environ.keys():
        pytest.skip("needs HANDWRITING_DIR, a folder with a labels.csv, and MODELS_DIR, a folder of runs")
    read = transcription.load_reader(runs.find_run(Path(os.environ["MODELS_DIR"]), os.environ.get("RUN")))
    listed = image_files.list_pictures([Path(os.environ["HANDWRITING_DIR"])])
    found = list(transcription.transcribe(listed, read, refuse=pytest.fail))
    wrong = [(one.file.path.name, one.file.label, one.reading.text, one.probability) for one in found if not one.right]
    assert len(wrong) <= len(found) / 80, wrong
