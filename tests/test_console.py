"""Console output."""

import io
import os
import re
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from digit_recognizer import console
from digit_recognizer.console import hide_native_messages, make_table, printable


def test_in_a_pipe_a_row_of_a_table_is_one_line_of_plain_text_also_with_force_color(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.make_console().print(make_table("Runs", ("run", "value"), [("a " * 100 + "[b]", "1\n2")]))
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "a a" in line)
    assert re.sub(r"\x1b\[[0-9;]*m", "", row).split() == ["a"] * 100 + ["[b]", r"1\n2"]


def test_a_terminal_shows_progress():
    output = io.StringIO()
    terminal = Console(file=output, force_terminal=True, width=80)
    assert list(console.track("abc", "reading", 3, terminal)) == ["a", "b", "c"]
    assert "reading" in output.getvalue()
    assert "100%" in output.getvalue()


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


def test_native_messages_before_an_abort_are_shown():
    program = """
import os
from digit_recognizer.console import hide_native_messages
with hide_native_messages():
    os.write(2, b"compiled to use AVX instructions\\n")
    os.abort()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGABRT
    assert ended.stderr == "compiled to use AVX instructions\n"


def test_a_process_that_is_started_in_the_block_does_not_delay_its_end(capfd):
    with hide_native_messages():
        child = subprocess.Popen(["sleep", "60"])
    child.kill()
    child.wait()
