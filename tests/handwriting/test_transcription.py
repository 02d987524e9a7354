"""Files read, described, scored and drawn."""

import errno
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import cv2
import hostile
import numpy as np
import pytest

from digit_recognizer.errors import UserError
from digit_recognizer.evaluation import figures
from digit_recognizer.files import replacing
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
    (tmp_path / "labels.csv").write_text("path,label,kind\na.png,3,drawing\nb.png,1,drawing\nc.png,,blank\n")
    return tmp_path


@pytest.fixture
def transcripts(folder):
    refused = []
    found = list(transcription.transcribe(image_files.list_pictures([folder]), recognise, refuse=refused.append))
    assert [str(error).split(":")[0] for error in refused] == [str(folder / "d.png")]
    return found


def test_readable_files_are_transcribed_in_order(transcripts):
    found = [(one.file.path.name, one.reading.text, one.is_mistake) for one in transcripts]
    assert found == [("a.png", "3", False), ("b.png", "7", True), ("c.png", "", False)]


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
    found = transcription.transcribe(files, read, refuse=pytest.fail)
    assert [one.reading.text for one in found] == ["3", "7", ""]


def test_only_a_few_files_are_read_ahead(folder, monkeypatch):
    monkeypatch.setattr(transcription, "count_cores", lambda: 2)
    decoded = []
    monkeypatch.setattr(transcription, "read_picture", lambda path: decoded.append(path) or draw_digits()[3])
    found = transcription.transcribe([Listed(folder / "a.png")] * 100, recognise, refuse=pytest.fail)
    next(found)
    assert len(decoded) <= 8 + 1
    assert len(list(found)) == 99


@pytest.mark.parametrize(("label", "expected"), [("7 3", False), ("73", True), (None, False)])
def test_line_breaks_count_as_spaces_in_a_label(label, expected):
    digits = [Digit(np.eye(10)[digit], (0, 0, 1, 1), np.zeros((28, 28), np.uint8)) for digit in (7, 3)]
    assert Transcript(Listed(Path("a.png"), label), Reading([[one] for one in digits])).is_mistake is expected


def test_a_description_has_path_digits_and_text(transcripts, folder):
    assert transcription.describe(transcripts[0]) == {
        "path": str(folder / "a.png"),
        "digits": [{"digit": 3, "probability": 0.9, "box": [20, 10, 60, 80]}],
        "text": "3",
        "label": "3",
        "correct": True,
    }


def test_a_summary_has_the_least_certain_digit_and_its_runner_up(transcripts, folder):
    assert transcription.summarise(transcripts[0]) == (str(folder / "a.png"), "3", "90.0%", "9 (1.0%)")
    assert transcription.summarise(transcripts[2]) == (str(folder / "c.png"), "no digit found", "", "")


def test_the_accuracy_is_that_of_the_labelled_files_by_kind(transcripts):
    scores = transcription.score([*transcripts, transcripts[1]._replace(file=Listed(Path("unlabelled.png")))])
    assert {kind: (one.value, one.rows) for kind, one in scores.items()} == {
        "": (pytest.approx(2 / 3), 3),
        "blank": (1, 1),
        "drawing": (0.5, 2),
    }
    assert transcription.score([Transcript(Listed(Path("unlabelled.png")), READING)]) == {}


def test_the_samples_of_the_report_are_labelled_pictures_or_drawings(folder):
    own, samples = transcription.read_samples(folder, recognise)
    found = [(one.name, one.label, one.text, one.probability) for one in samples]
    assert (own, found) == (True, [("a.png", "3", "3", 0.9), ("b.png", "1", "7", 0.9), ("c.png", "", "", 0)])
    assert all(one.picture.shape == (240, 240, 3) for one in samples)
    own, samples = transcription.read_samples(folder / "none", recognise)
    assert (own, [one.label for one in samples], [one.text for one in samples]) == (False, *2 * [list("0123456789")])


def test_annotated_pictures_show_boxes_and_the_classifiers_input():
    drawn = transcription.annotate(draw_digits()[3], READING)
    assert drawn.shape == (300 + 100 + 22, 300, 3)
    assert (drawn[:300] == transcription.BOX).all(axis=2).sum() > 500
    assert (drawn[300:400, :100] == 77).all()
    assert (drawn[400:, :100] < 99).any()  # digit and probability
    assert (drawn[300:, 100:] == 255).all()


def test_the_inputs_of_many_digits_are_tiled():
    digits = [Digit(np.eye(10)[n], (0, 0, 9, 9), np.full((28, 28), 30 * n, np.uint8)) for n in range(7)]
    drawn = transcription.annotate(draw_digits()[3], Reading([digits]))
    assert drawn.shape == (300 + 3 * 122, 300, 3)
    assert [drawn[300 + 122 * (n // 3) + 50, 100 * (n % 3) + 50, 0] for n in range(7)] == [30 * n for n in range(7)]


def test_boxes_are_drawn_at_the_requested_size():
    drawn = transcription.draw_boxes(draw_digits()[3], READING, side=224)
    assert drawn.shape == (224, 224, 3)
    assert (drawn[20, 40:160] == transcription.BOX).all()
    assert (drawn[20:180, 160] == transcription.BOX).all()
    assert (drawn[40:160, 50:150] == np.repeat(np.repeat(draw_digits()[3], 2, 0), 2, 1)[40:160, 50:150]).all()


def test_very_long_pictures_are_drawn():
    picture = np.full((3000, 2, 3), 200, np.uint8)
    assert transcription.draw_boxes(picture, Reading([]), side=240).shape == (240, 1, 3)
    drawn = transcription.annotate(picture, Reading([]))
    assert drawn.shape == (1000 + 122, 300, 3)
    assert (drawn[1000:] < 99).any()  # no digit found


@pytest.fixture
def draw():
    """Draw transcripts without errors."""
    return partial(transcription.draw_transcripts, refuse=pytest.fail)


def test_every_file_is_drawn_and_the_mistakes_again(draw, transcripts, tmp_path):
    out = tmp_path / "out"
    assert draw([*transcripts, transcripts[0]], out) == 4
    names = {path.name for path in out.iterdir()}
    assert names == {"a.png.png", "a.png-2.png", "b.png.png", "c.png.png", "mistakes.png"}
    drawn = cv2.imread(str(out / "a.png.png"))
    assert (drawn[..., ::-1] == transcription.BOX).all(axis=2).sum() > 500


def test_annotated_images_replace_those_of_the_call_before_but_no_other_files(draw, transcripts, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    others = {"a.png.png": folder / "a.png", "mistakes.png": folder / "b.png", "notes.txt": folder / "labels.csv"}
    for name, source in others.items():
        shutil.copy(source, out / name)
    draw(transcripts, out)
    names = {path.name for path in out.iterdir()}
    assert names == others.keys() | {"a.png-2.png", "b.png.png", "c.png.png", "mistakes-2.png"}
    draw(transcripts[:1], out)
    assert {path.name for path in out.iterdir()} == others.keys() | {"a.png-2.png"}
    assert all((out / name).read_bytes() == source.read_bytes() for name, source in others.items())


def test_annotated_images_are_not_read_again(draw, transcripts, folder):
    draw(transcripts, folder / "out")
    assert [one.path.name for one in image_files.list_pictures([folder])] == ["a.png", "b.png", "c.png", "d.png"]


def test_an_annotated_image_that_is_named_is_read_and_kept(draw, transcripts, folder):
    draw(transcripts, folder / "out")
    (named,) = image_files.list_pictures([folder / "out" / "a.png.png"])
    draw([Transcript(named, READING)], folder / "out")
    assert {path.name for path in (folder / "out").iterdir()} == {"a.png.png", "a.png.png.png"}


ODD_NAMES = {
    b"caf\xe9.png": "caf_.png.png",
    "\u00e9.png".encode(): "\u00e9.png.png",
    b"a\x1b[31m\nb.png": "a_[31m_b.png.png",
    b"$\\frac$.png": "$\\frac$.png.png",
    "\u6570.png".encode(): "\u6570.png.png",
    b"a" * 255: "a" * 200 + ".png",
    b"a" * 254: "a" * 200 + "-2.png",
}


def test_odd_names_are_drawn_to_names_that_every_program_can_read(draw, folder, transcripts, tmp_path):
    wrong = []
    for name in ODD_NAMES:
        path = folder / os.fsdecode(name)
        shutil.copy(folder / "a.png", path)
        wrong.append(transcripts[1]._replace(file=Listed(path, "1")))
    assert draw(wrong, tmp_path / "out") == len(wrong)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*ODD_NAMES.values(), "mistakes.png"}


def test_each_image_that_cannot_be_written_is_refused(transcripts, tmp_path, monkeypatch):
    def fail(path):
        if path.name != "b.png.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replacing(path)

    monkeypatch.setattr(transcription, "replacing", fail)
    monkeypatch.setattr(figures, "replacing", fail)
    refused = []
    assert transcription.draw_transcripts(transcripts, tmp_path / "out", refuse=refused.append) == 1
    reason = "expected to write an annotated image, found an error (No space left on device)"
    assert list(map(str, refused)) == [
        f"{tmp_path}/out/{name}: {reason}" for name in ("c.png.png", "a.png.png", "mistakes.png")
    ]


def test_a_file_that_is_gone_when_it_is_drawn_is_refused(transcripts, folder):
    (folder / "b.png").unlink()
    refused = []
    assert transcription.draw_transcripts(transcripts, folder / "out", refuse=refused.append) == 2
    assert list(map(str, refused)) == [f"{folder}/b.png: expected a file, found none"]


def test_a_file_in_place_of_the_folder_is_an_error(draw, transcripts, folder):
    with pytest.raises(UserError, match=r"a.png: expected a folder .*, found an error \(File exists\); choose another"):
        draw(transcripts, folder / "a.png")


def test_a_picture_that_cannot_be_read_fails_alone(folder):
    def read(pictures):
        if any((picture == 255).all() for picture in pictures):
            raise cv2.error("width > 0\nin resize")
        return recognise(pictures)

    refused = []
    found = transcription.transcribe([Listed(folder / f"{name}.png") for name in "acb"], read, refuse=refused.append)
    assert [(one.file.path.name, one.reading.text) for one in found] == [("a.png", "3"), ("b.png", "7")]
    reason = "expected a picture to read, found a fault in reading it (error: width > 0\nin resize)"
    assert list(map(str, refused)) == [f"{folder}/c.png: {reason}"]


def test_of_many_files_the_incorrect_and_uncertain_ones_are_drawn(draw, transcripts, tmp_path, monkeypatch):
    uncertain = Reading([[Digit(np.eye(10)[3] * 0.5, (20, 10, 60, 80), np.zeros((28, 28), np.uint8))]])
    monkeypatch.setattr(transcription, "MAX_FILES", 2)
    doubtful = [Transcript(Listed(transcripts[2].file.path), uncertain), transcripts[1]]
    assert draw([transcripts[0], transcripts[0], *doubtful], tmp_path / "out") == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.png.png", "c.png.png", "mistakes.png"}
