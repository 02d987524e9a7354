"""Checks shared by the tests of this folder."""

from kaggle_server import KEY, TOKEN

WRONG = "KGAT_wrong_and_secret"


def failed(result):
    """Return the one line of a command that failed, after checking that it shows no secrets."""
    assert result.returncode == 1, result.stdout + result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("digit-recognizer: ")
    for secret in (WRONG, TOKEN, KEY, "signature="):
        assert secret not in result.stdout + result.stderr
    return line.removeprefix("digit-recognizer: ")


class KilledError(BaseException):
    """Stands for the end of a killed process."""


def kill_at(step):
    """Return a decorator that raises KilledError at a step: before or after any call of any decorated function."""
    steps = iter(range(10**9))

    def decorate(function):
        def wrapped(*args, **kwargs):
            if next(steps) == step:
                raise KilledError
            result = function(*args, **kwargs)
            if next(steps) == step:
                raise KilledError
            return result

        return wrapped

    return decorate
