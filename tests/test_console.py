"""Console output."""

import io
import os

import pytest
from rich.console import Console

from digit_recognizer import console
from digit_recognizer.console import hide_native_messages, make_table, printable


def test_table_cells_are_plain_text():
    output = io.StringIO()
    Console(file=output, width=60).print(make_table("Runs", ("run", "value"), [("a[b]", "1")], caption="p = 0.5"))
    assert "a[b]" in output.getvalue()
    assert "p = 0.5" in output.getvalue()


def test_without_a_terminal_a_row_of_a_table_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    console.make_console().print(make_table("Runs", ("run", "value"), [("a " * 100 + "b", "1\n2")]))
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "a a" in line)
    assert row.split() == ["a"] * 100 + ["b", r"1\n2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 数 [b]", "plain é 数 [b]"),
        ("\x1b[31m\n\t\x9b", r"\x1b[31m\n\t\x9b"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),  # from right to left
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ],
)
def test_control_characters_and_other_bytes_are_escaped(text, expected):
    assert printable(text) == expected


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
