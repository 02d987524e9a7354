"""Silence for what TensorFlow's libraries write to stderr while they are loaded."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hides what the block writes to the file descriptor of stderr, unless it raises.

    TensorFlow 2.21 prints two notices about oneDNN as it is imported, from C++ and before any log level is read. Later
    it warns of functions built again and again, which is what a network a member means.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        except BaseException:
            os.dup2(original, 2)
            hidden.seek(0)
            os.write(2, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
