"""Loading, checking and caching the competition's files."""

import gzip
import io
import re
import zipfile

import numpy as np
import pytest

from digit_recognizer import files
from digit_recognizer.data import csv_files
from digit_recognizer.errors import UserError

HEADER = ",".join(csv_files.TRAIN_COLUMNS)


def line(label=5, pixels=0, **changed):
    values = [label] + [pixels] * 784
    for column, value in changed.items():
        values[int(column.removeprefix("column")) - 1] = value
    return ",".join(map(str, values))


def write(folder, *lines, end="\r\n"):
    (folder / "train.csv").write_bytes((end.join(lines) + end).encode())


def test_columns_map_to_labels_and_pixels(tmp_path):
    write(tmp_path, HEADER, line(7, column2=255, column30=9), line(3, column785=128))
    train = csv_files.load_train(tmp_path)
    assert train.images.shape == (2, 28, 28)
    assert train.images.dtype == train.labels.dtype == np.uint8
    assert train.labels.tolist() == [7, 3]
    assert (train.images[0, 0, 0], train.images[0, 1, 0], train.images[1, 27, 27]) == (255, 9, 128)
    assert train.images.sum() == 255 + 9 + 128


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "line 1, column 1 (label): expected the header 'label', found ''"),
        ([HEADER], "train.csv, line 2: expected rows of numbers, found only the header; download it again"),
        ([HEADER.replace("pixel7,", "pixel8,")], "column 9 (pixel7): expected the header 'pixel7', found 'pixel8'"),
        ([HEADER + ","], "line 1: expected 785 values, found 786"),
        ([HEADER.removesuffix(",pixel783")], "line 1: expected 785 values, found 784"),
        (["\ufeff" + HEADER, line()], r"expected the header 'label', found '\ufefflabel'"),
        (["<html><body>Too many requests</body></html>"], "expected the header 'label', found '<html><body>Too many'"),
        ([HEADER, line(), HEADER], "line 3, column 1 (label): expected an integer 0..9, found 'label'"),
        ([HEADER, line() + ",0", line() + ",0"], "line 2: expected 785 values, found 786"),
        ([HEADER, line(), line()[:-2], line()], "line 3: expected 785 values, found 784"),
        ([HEADER, line(column3="0" * 5000 + "256")], "column 3 (pixel1): expected an integer 0..255, found '0000"),
        ([HEADER, line(column3=65536)], "column 3 (pixel1): expected an integer 0..255, found '65536'"),
        ([HEADER, line(2**64 + 1)], "column 1 (label): expected an integer 0..9, found '18446744073709551617'"),
        ([HEADER, line(), line(column3=-1)], "line 3, column 3 (pixel1): expected an integer 0..255, found '-1'"),
        ([HEADER, line(column3="1.0")], "line 2, column 3 (pixel1): expected an integer 0..255, found '1.0'"),
        ([HEADER, line(column3='"1"')], "expected an integer 0..255, found '\"1\"'"),
        ([HEADER, line(), line(10)], "line 3, column 1 (label): expected an integer 0..9, found '10'"),
        ([HEADER, line(), "", line()], "line 3, column 1 (label): expected an integer 0..9, found ''"),
    ],
)
def test_a_fault_is_reported_with_its_position(tmp_path, lines, message):
    write(tmp_path, *lines)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        csv_files.load_train(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [1, 2, 900, 1570])  # bytes of a line of 1571
def test_a_truncated_last_line_is_reported(tmp_path, missing):
    write(tmp_path, HEADER, line(), line())
    (tmp_path / "train.csv").write_bytes((tmp_path / "train.csv").read_bytes()[:-missing])
    with pytest.raises(UserError, match=r"line 3: expected 785 values and a line end, found a line that is cut off"):
        csv_files.load_train(tmp_path)


def test_a_missing_file_is_reported_with_the_command_to_run(tmp_path):
    with pytest.raises(UserError, match="found no such file; run `make download`"):
        csv_files.load_train(tmp_path)
    with pytest.raises(UserError, match=r"format as .*mine.csv.gz, found no such file; check the name"):
        csv_files.load_test(tmp_path / "mine.csv.gz")


def pack(files):
    with zipfile.ZipFile(content := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


TEST = HEADER.removeprefix("label,") + "\n" + line(7).removeprefix("7,") + "\n"
KAGGLE = {"digits/": "", "digits/train.csv": HEADER, "digits/test.csv": TEST, "__MACOSX/._test.csv": "\0"}


def test_a_test_csv_can_have_any_name_and_has_no_labels(tmp_path):
    (tmp_path / "MINE").write_text(TEST)
    test = csv_files.load_test(tmp_path / "MINE")
    assert (test.images.shape, len(test.labels)) == ((1, 28, 28), 0)
    (tmp_path / "MINE").write_text(HEADER + "\n")  # of a train.csv
    with pytest.raises(UserError, match=r"MINE, line 1, column 1 .*'pixel0', found 'label'"):
        csv_files.load_test(tmp_path / "MINE")


@pytest.mark.parametrize("content", [gzip.compress(TEST.encode()), pack({"mine": TEST}), pack(KAGGLE)])
def test_packed_files_are_known_by_their_content(tmp_path, content):
    (tmp_path / "plain").write_text(TEST)
    (tmp_path / "MINE.CSV").write_bytes(content)
    packed, plain = (csv_files.load_test(tmp_path / name) for name in ("MINE.CSV", "plain"))
    assert (packed.images == plain.images).all()
    assert packed.sha256 == plain.sha256  # the same predictions in the same folder


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (gzip.compress(TEST.encode())[:-9], "found something else (Compressed file ended"),
        (gzip.compress(b"nothing\n"), ", line 1, column 1 (pixel0): expected the header 'pixel0', found 'nothing'"),
        (pack({"mine": TEST})[:-9], "found something else (File is not a zip file)"),
        (
            pack({"a.csv": TEST, "b.csv": TEST}),
            "found something else (a zip archive of 2 files, which is the test.csv?)",
        ),
        (gzip.compress(bytes(99_000)), ", line 1, column 1 (pixel0): expected the header"),
    ],
    ids=["cut gzip", "other gzip", "cut zip", "two files", "bomb"],
)
def test_a_fault_of_a_packed_file_of_the_users_own_is_named_without_a_download(tmp_path, content, fault, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED_LIMIT", 90_000)
    (tmp_path / "test.csv").write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path}/test.csv.*{re.escape(fault)}.*; write it in this format$"):
        csv_files.load_test(tmp_path / "test.csv")


def test_the_real_files_have_their_known_contents(competition_dir):
    train, test = csv_files.load_train(competition_dir), csv_files.load_test(competition_dir)
    assert (len(train.images), len(test.images)) == (42_000, 28_000)
    assert np.bincount(train.labels).tolist() == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert (int(train.images.sum()), int(test.images.sum())) == (1_100_088_627, 732_133_118)
    assert train.sha256 == "b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed"
