"""Files read, described, scored and drawn."""

import os
import shutil
import threading
from functools import partial
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest
from PIL import Image

from digit_recognizer.handwriting import image_files, transcription
from digit_recognizer.handwriting.image_files import Listed
from digit_recognizer.handwriting.reader import Digit, Reading
from digit_recognizer.handwriting.sample_digits import draw_digits
from digit_recognizer.handwriting.transcription import Transcript

READING = Reading([[Digit(np.eye(10)[3] * 0.95, (20, 10, 60, 80), np.full((28, 28), 77, np.uint8))]])


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
    (tmp_path / "labels.csv").write_text("path,label\na.png,3\nb.png,1\nc.png,\n")
    return tmp_path


@pytest.fixture
def transcripts(folder):
    errors = []
    found = list(transcription.transcribe(image_files.list_pictures([folder]), recognise, on_error=errors.append))
    assert [str(error).split(":")[0] for error in errors] == [str(folder / "d.png")]
    return found


def test_files_are_read_on_all_cores_in_their_order(folder, monkeypatch):
    monkeypatch.setattr(transcription, "count_cores", lambda: 3)
    together, others_done = threading.Barrier(3, timeout=30), threading.Semaphore(0)

    def read(pictures):
        together.wait()  # fails unless three pictures are read at once
        (reading,) = recognise(pictures)
        if reading.text == "3":  # the first file is the last to be read
            assert others_done.acquire(timeout=30)
            assert others_done.acquire(timeout=30)
        others_done.release()
        return [reading]

    files = [Listed(folder / name) for name in ("a.png", "b.png", "c.png")]
    found = transcription.transcribe(files, read, on_error=pytest.fail)
    assert [one.reading.text for one in found] == ["3", "7", ""]


@pytest.mark.parametrize(("label", "expected"), [("7 3", False), ("73", True), (None, False)])
def test_line_breaks_count_as_spaces_in_a_label(label, expected):
    digits = [Digit(np.eye(10)[digit], (0, 0, 1, 1), np.zeros((28, 28), np.uint8)) for digit in (7, 3)]
    assert Transcript(Listed(Path("a.png"), label), Reading([[one] for one in digits])).is_mistake is expected


def test_transcripts_as_json_have_path_digits_text_and_the_name_of_the_networks(transcripts, folder):
    unlabelled = Transcript(Listed(Path("unlabelled.png")), READING)
    result = transcription.to_json([*transcripts, unlabelled], "three")
    assert result["networks"] == "three"
    assert (result["accuracy"]["value"], result["accuracy"]["rows"]) == (pytest.approx(2 / 3), 3)
    assert result["images"][0] == {
        "path": str(folder / "a.png"),
        "pages": 1,
        "text": "3",
        "digits": [{"digit": 3, "probability": 0.9, "box": [20, 10, 60, 80]}],
        "label": "3",
        "correct": True,
    }
    result = transcription.to_json([unlabelled], "three")
    assert result["accuracy"] is None
    assert "label" not in result["images"][0]


def tabulate(transcripts):
    """Return headings and rows of the table."""
    table = transcription.tabulate(transcripts)
    cells = zip(*(column.cells for column in table.columns), strict=True)
    return [column.header for column in table.columns], list(cells)


def test_a_table_has_the_mistakes_first_and_the_least_certain_digit_with_its_runner_up(transcripts, folder):
    assert tabulate(transcripts) == (
        ["file", "digits", "probability", "runner-up", "label"],
        [
            (str(folder / "b.png"), "7", "90.0%", "9 (1.0%)", "1 (wrong)"),
            (str(folder / "a.png"), "3", "90.0%", "9 (1.0%)", "3"),
            (str(folder / "c.png"), "no digit found", "", "", ""),
        ],
    )


def test_a_table_names_pages_that_were_not_read_and_has_no_column_without_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pages = [Image.fromarray(draw_digits()[digit]) for digit in (3, 7)]
    pages[0].save("scan.tif", save_all=True, append_images=pages[1:])
    files = [Listed(Path("scan.tif"))]
    headings, rows = tabulate(list(transcription.transcribe(files, recognise, on_error=pytest.fail)))
    assert headings == ["file", "digits", "probability", "runner-up"]
    assert rows[0][:2] == ("scan.tif (page 1 of 2)", "3")


def test_the_samples_of_the_report_are_the_labelled_pictures_that_can_be_read(folder):
    with (folder / "labels.csv").open("a") as table:
        table.write("gone.png,5\nd.png,4\n")
    errors = []
    samples = transcription.read_samples(folder, recognise, on_error=errors.append)
    found = [(sample.name, sample.label, sample.text, sample.probability) for sample in samples]
    assert found == [("a.png", "3", "3", 0.9), ("b.png", "1", "7", 0.9), ("c.png", "", "", 0)]
    assert all(sample.picture.shape == (240, 240, 3) for sample in samples)
    assert [str(error).partition(": ")[0] for error in errors] == [str(folder / "gone.png"), str(folder / "d.png")]
    assert transcription.read_samples(folder / "none", recognise, on_error=pytest.fail) == []


def test_annotated_pictures_show_boxes_and_the_classifiers_input():
    drawn = transcription.annotate(draw_digits()[3], READING)
    assert drawn.shape == (300 + 100 + 22, 300, 3)
    assert (drawn[:300] == transcription.BOX).all(axis=2).sum() > 500
    assert (drawn[300:400, :100] == 77).all()
    assert (drawn[400:, :100] < 99).any()  # digit and probability
    assert (drawn[300:, 100:] == 255).all()


draw = partial(transcription.draw_transcripts, on_error=pytest.fail)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_file_is_drawn_mistakes_first(transcripts, tmp_path):
    paths = draw([*transcripts, transcripts[0]], tmp_path / "out")
    assert names(tmp_path / "out") == [path.name for path in paths]
    assert [path.name for path in paths] == ["001-b.png", "002-c.png", "003-a.png", "004-a.png"]
    drawn = cv2.imread(str(paths[2]))
    assert (drawn[..., ::-1] == transcription.BOX).all(axis=2).sum() > 500


def test_annotated_images_replace_those_of_the_call_before_but_no_other_files(transcripts, folder, tmp_path):
    out = tmp_path / "out"
    draw(transcripts, out)
    shutil.copy(folder / "a.png", out / "photo.png")
    draw(transcripts[:1], out)
    assert names(out) == ["001-a.png", "photo.png"]


def test_annotated_images_are_not_read_again_unless_they_are_named(transcripts, folder):
    draw(transcripts[:1], folder / "predictions")
    assert [file.path.name for file in image_files.list_pictures([folder])] == ["a.png", "b.png", "c.png", "d.png"]
    assert [file.path.name for file in image_files.list_pictures([folder / "predictions"])] == ["001-a.png"]


ODD_NAMES = {
    b"caf\xe9.png": "caf_",
    "\u00e9.png".encode(): "\u00e9",
    b"a\x1b[31m\nb.png": "a__31m_b",
    b"$\\frac$.png": "__frac_",
    "\u6570.png".encode(): "\u6570",
    b"a" * 255: "a" * 50,
}


def test_odd_names_are_drawn_to_names_that_every_program_can_read(folder, transcripts, tmp_path):
    wrong = []
    for name in ODD_NAMES:
        path = folder / os.fsdecode(name)
        shutil.copy(folder / "a.png", path)
        wrong.append(transcripts[1]._replace(file=Listed(path, "1")))
    paths = draw(wrong, tmp_path / "out")
    assert [path.name for path in paths] == [f"{n:03}-{name}.png" for n, name in enumerate(ODD_NAMES.values(), 1)]


def test_a_file_that_is_gone_when_it_is_drawn_is_an_error_of_its_own(transcripts, folder):
    (folder / "b.png").unlink()
    errors = []
    assert len(transcription.draw_transcripts(transcripts, folder / "out", on_error=errors.append)) == 2
    assert list(map(str, errors)) == [f"{folder}/b.png: no such file"]


def test_a_picture_that_cannot_be_read_fails_alone(folder):
    def read(pictures):
        if any((picture == 255).all() for picture in pictures):
            raise cv2.error("width > 0\nin resize")
        return recognise(pictures)

    errors = []
    files = [Listed(folder / f"{name}.png") for name in "acb"]
    found = transcription.transcribe(files, read, on_error=errors.append)
    assert [(one.file.path.name, one.text) for one in found] == [("a.png", "3"), ("b.png", "7")]
    reason = "could not read the image (error: width > 0\nin resize); please report this"
    assert list(map(str, errors)) == [f"{folder}/c.png: {reason}"]


def test_of_many_files_the_incorrect_and_uncertain_ones_are_drawn(transcripts, tmp_path, monkeypatch):
    uncertain = Reading([[Digit(np.eye(10)[3] * 0.5, (20, 10, 60, 80), np.zeros((28, 28), np.uint8))]])
    monkeypatch.setattr(transcription, "MAX_FILES", 2)
    doubtful = [Transcript(Listed(transcripts[2].file.path), uncertain), transcripts[1]]
    draw([transcripts[0], transcripts[0], *doubtful], tmp_path / "out")
    assert names(tmp_path / "out") == ["001-b.png", "002-c.png"]
