"""Hidden messages of native libraries."""

import os

import pytest

from digit_recognizer.quiet import native_messages_hidden


def test_what_a_library_writes_is_hidden(capfd):
    with native_messages_hidden():
        os.write(2, b"notice\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_it_is_shown_when_the_block_fails(capfd):
    with pytest.raises(ImportError), native_messages_hidden():
        os.write(2, b"cannot load library\n")
        raise ImportError
    assert capfd.readouterr().err == "cannot load library\n"
