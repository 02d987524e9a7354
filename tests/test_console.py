"""Console output."""

import io
import os
import signal
import subprocess
import sys

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
