"""Console output."""

import io
import os

import pytest
from rich.console import Console

from digit_recognizer.console import hide_native_messages, make_table


def test_table_cells_are_plain_text():
    output = io.StringIO()
    Console(file=output, width=60).print(make_table("Runs", ("run", "value"), [("a[b]", "1")], caption="p = 0.5"))
    assert "a[b]" in output.getvalue()
    assert "p = 0.5" in output.getvalue()


def test_native_messages_are_hidden(capfd):
    with hide_native_messages():
        os.write(2, b"notice\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_native_messages_are_shown_if_the_block_raises(capfd):
    with pytest.raises(ImportError), hide_native_messages():
        os.write(2, b"cannot load library\n")
        raise ImportError
    assert capfd.readouterr().err == "cannot load library\n"
