"""Waiting for what another process does."""

import time


def wait_until(condition, seconds=60):
    """Wait until a function returns something true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
