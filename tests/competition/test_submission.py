"""The submission file."""

import numpy as np
import pytest

from digit_recognizer.competition import submission
from digit_recognizer.errors import UserError


@pytest.fixture
def path(tmp_path, labels):
    submission.write_submission(tmp_path / "submission.csv", labels)
    return tmp_path / "submission.csv"


def test_file_is_byte_for_byte_in_the_format_of_the_sample(tmp_path):
    submission.write_submission(tmp_path / "submission.csv", np.array([2, 0, 9], np.uint8))
    assert (tmp_path / "submission.csv").read_bytes() == b"ImageId,Label\r\n1,2\r\n2,0\r\n3,9\r\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_predictions_are_read_back_with_either_line_end(path, labels, line_end):
    path.write_bytes(path.read_bytes().replace(b"\r\n", line_end))
    checked = submission.check_submission(path)
    assert np.array_equal(checked, labels)
    assert checked.dtype == np.uint8
    path.write_bytes(path.read_bytes().removesuffix(line_end))
    assert np.array_equal(submission.check_submission(path), labels)


WRONG_FILES = {
    "empty": (lambda lines: [], 1, "the header ImageId,Label", "''"),
    "byte order mark": (lambda lines: ["\ufeff" + lines[0], *lines[1:]], 1, "the header", "'\\ufeffImageId,Label'"),
    "ids from 0": (lambda lines: [lines[0], "0,3", *lines[1:-1]], 2, "ImageId 1 of 28,000 and", "'0,3'"),
    "missing line": (lambda lines: [*lines[:500], *lines[501:]], 501, "ImageId 500 of", "'501,0'"),
    "padded id": (lambda lines: [lines[0], "01,3", *lines[2:]], 2, "ImageId 1 of", "'01,3'"),
    "no label": (lambda lines: [*lines[:3], "3", *lines[4:]], 4, "ImageId 3 of 28,000 and a label 0..9", "'3'"),
    "label 10": (lambda lines: [*lines[:3], "3,10", *lines[4:]], 4, "ImageId 3 of", "'3,10'"),
    "space": (lambda lines: [*lines[:3], "3, 3", *lines[4:]], 4, "ImageId 3 of", "'3, 3'"),
    "too few lines": (lambda lines: lines[:-1], 28_001, "ImageId 28000 of", "the end of the file"),
    "too many lines": (lambda lines: [*lines, "28001,3"], 28_002, "the end of the file after 28,000", "'28001,3'"),
    "no text": (lambda lines: [*lines[:3], "3,\udcff", *lines[4:]], 4, "ImageId 3 of", "'3,\ufffd'"),
}


@pytest.mark.parametrize(("change", "line", "expected", "found"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_error_names_the_first_invalid_line(path, change, line, expected, found):
    lines = path.read_text().splitlines()
    path.write_bytes("".join(line + "\r\n" for line in change(lines)).encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        submission.check_submission(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: expected {expected}")
    assert message.endswith(f"found {found}; delete {path} and run `make submission`")


def test_error_of_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"submission\.csv, found none; run `make submission`"):
        submission.check_submission(tmp_path / "submission.csv")
