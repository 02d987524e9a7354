"""Loading, checking and caching the competition's files."""

import os
import re
import time

import numpy as np
import pytest

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


def test_both_line_ends_are_read(tmp_path):
    write(tmp_path, HEADER, line(7), end="\n")
    assert csv_files.load_train(tmp_path).labels.tolist() == [7]


def test_test_csv_has_no_labels(tmp_path):
    (tmp_path / "test.csv").write_text(",".join(csv_files.TEST_COLUMNS) + "\n" + line()[2:] + "\n")
    test = csv_files.load_test(tmp_path)
    assert len(test.labels) == 0
    assert test.images.shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, line(column3="9" * 5000)], "line 2, column 3 (pixel1): expected an integer 0..255, found '99999"),
        ([""], "line 1, column 1: expected the header 'label', found ''"),
        ([HEADER], "train.csv, line 2: expected rows of numbers, found only the header"),
        ([HEADER[6:], line()], "line 1, column 1: expected the header 'label', found 'pixel0'"),
        (
            [HEADER + ",pixel784", line()],
            "line 1: expected 785 columns, found one more, 'pixel784'",
        ),
        (
            [HEADER.replace("pixel7,", "pixel8,"), line()],
            "line 1, column 9: expected the header 'pixel7', found 'pixel8'",
        ),
        ([HEADER + ","], "train.csv, line 1: expected 785 columns, found one more, ''; download it"),
        ([HEADER.removesuffix(",pixel783")], "column 785: expected the header 'pixel783', found the end of the line"),
        (
            ["\ufeff" + HEADER, line()],
            "line 1: expected the header 'label' first, found a byte order mark before it; download it again",
        ),
        ([HEADER, line(), HEADER], "line 3, column 1 (label): expected an integer 0..9, found 'label'"),
        ([HEADER, line(), line() + ",0"], "line 3: expected 785 values, found 786"),
        ([HEADER, line() + ",0", line() + ",0"], "line 2: expected 785 values, found 786"),
        ([HEADER, line(), line()[:-2], line()], "line 3: expected 785 values, found 784"),
        ([HEADER, line(column3=256)], "line 2, column 3 (pixel1): expected an integer 0..255, found '256'"),
        ([HEADER, line(), line(column3=-1)], "line 3, column 3 (pixel1): expected an integer 0..255, found '-1'"),
        ([HEADER, line(column3="1.0")], "line 2, column 3 (pixel1): expected an integer 0..255, found '1.0'"),
        ([HEADER, line(column3="")], "line 2, column 3 (pixel1): expected an integer 0..255, found ''"),
        ([HEADER, line(column3="nan")], "line 2, column 3 (pixel1): expected an integer 0..255, found 'nan'"),
        ([HEADER, line(column3='"1"')], "expected an integer 0..255, found '\"1\"'"),
        ([HEADER, line(), line(10)], "line 3, column 1 (label): expected an integer 0..9, found '10'"),
        ([HEADER, line(), "", line()], "line 3, column 1 (label): expected an integer 0..9, found ''"),
        (["<html><body>Too many requests</body></html>"], "line 1, column 1: expected the header 'label'"),
    ],
)
def test_a_fault_is_reported_with_its_position(tmp_path, lines, message):
    write(tmp_path, *lines)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        csv_files.load_train(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kept", [1, 700, 1569, 1570])
def test_a_truncated_last_line_is_reported(tmp_path, kept):
    whole = line(pixels=0)
    assert len(whole) == 1569
    content = f"{HEADER}\r\n{whole}\r\n{whole}\r\n".encode()
    (tmp_path / "train.csv").write_bytes(content[: len(HEADER) + 2 + len(whole) + 2 + kept])
    with pytest.raises(UserError, match=r"line 3: expected 785 values and a line end, found a line that is cut off"):
        csv_files.load_train(tmp_path)


def test_a_missing_file_is_reported_with_the_command_to_run(tmp_path):
    with pytest.raises(UserError, match="found no such file; run `make download`"):
        csv_files.load_train(tmp_path)
    with pytest.raises(
        UserError, match=r"expected the competition's format as .*mine.csv.gz, found no such file; check"
    ):
        csv_files.load_test(tmp_path / "mine.csv.gz")


def test_a_train_csv_that_is_passed_as_a_test_csv_is_an_error_although_it_is_cached(cached):
    with pytest.raises(UserError, match="line 1, column 1: expected the header 'pixel0', found 'label'"):
        csv_files.load_test(cached / "train.csv")


def test_a_test_csv_can_have_any_name(tmp_path):
    write(tmp_path, HEADER.removeprefix("label,"), line(7).removeprefix("7,"))
    (tmp_path / "train.csv").rename(tmp_path / "MINE")
    assert csv_files.load_test(tmp_path / "MINE").images.shape == (1, 28, 28)
    (tmp_path / "MINE").write_text("nothing\n")
    with pytest.raises(UserError, match="MINE, line 1, column 1: expected the header 'pixel0'"):
        csv_files.load_test(tmp_path / "MINE")


@pytest.fixture
def cached(tmp_path):
    write(tmp_path, HEADER, line(7), line(3))
    csv_files.load_train(tmp_path)
    return tmp_path


def test_a_cached_file_is_not_parsed_again(cached, monkeypatch):
    monkeypatch.setattr(csv_files, "_parse", lambda *_: pytest.fail("parsed again"))
    assert csv_files.load_train(cached).labels.tolist() == [7, 3]


def test_a_changed_file_of_the_same_size_is_parsed_again(cached):
    write(cached, HEADER, line(8), line(3))
    os.utime(cached / "train.csv", (1, 1))
    assert csv_files.load_train(cached).labels.tolist() == [8, 3]
    assert csv_files.load_train(cached).labels.tolist() == [8, 3]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_a_damaged_cache_is_rebuilt(cached, damage):
    cache = cached / "cache" / "train.npz"
    content = cache.read_bytes()
    if damage == "flip":
        place = content.index(bytes([7, 0, 0, 0]))  # within the table
        cache.write_bytes(content[:place] + b"\x08" + content[place + 1 :])
    elif damage == "cut":
        cache.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        cache.write_bytes(b"")
    else:
        np.savez(cache, table=np.zeros((2, 785), np.uint8))
    assert csv_files.load_train(cached).labels.tolist() == [7, 3]
    with np.load(cache) as rebuilt:
        assert rebuilt["table"][:, 0].tolist() == [7, 3]


def test_normalise_scales_to_the_range_0_to_1():
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 1, 2] = 255
    result = csv_files.normalise(images)
    assert result.shape == (1, 28, 28, 1)
    assert result.dtype == np.float32
    assert result[0, 1, 2, 0] == 1
    assert result.sum() == 1


def test_the_real_files_have_their_known_contents(competition_dir):
    train, test = csv_files.load_train(competition_dir), csv_files.load_test(competition_dir)
    assert (len(train.images), len(test.images)) == (42_000, 28_000)
    assert np.bincount(train.labels).tolist() == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert (int(train.images.sum()), int(test.images.sum())) == (TRAIN_SUM, TEST_SUM)
    assert train.sha256 == "b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed"


def test_a_second_load_of_the_real_train_csv_takes_under_a_tenth_of_a_second(competition_dir):
    csv_files.load_train(competition_dir)
    times = []
    for _ in range(5):
        started = time.process_time()  # not the wall's clock, which a busy machine would slow
        csv_files.load_train(competition_dir)
        times.append(time.process_time() - started)
    assert min(times) < 0.1


TRAIN_SUM = 1_100_088_627
TEST_SUM = 732_133_118


def test_data_are_read_where_nothing_can_be_cached(tmp_path):
    write(tmp_path, HEADER, line(7))
    (tmp_path / "cache").write_text("in the way")
    assert csv_files.load_train(tmp_path).labels.tolist() == [7]
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "cache"}
