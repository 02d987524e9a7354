"""The process of the command line: signals and errors become one line on stderr and an exit status."""

import os
import signal
import sys
from typing import Any

ENDING = signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGALRM  # the last one is of `repeat`


def main() -> None:
    """Run a command; a `UserError`, or an error of the operating system, becomes one line on stderr and status 1."""
    received: list[int] = []

    def interrupt(number: int, _: Any) -> None:  # so that workers and temporary files go, too
        received.append(number)
        raise KeyboardInterrupt

    def repeat(ignored: Any) -> None:  # a callback of native code and a destructor cannot raise
        if received and isinstance(ignored.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.2)  # after this function has ended
        else:
            sys.__unraisablehook__(ignored)

    sys.unraisablehook = repeat
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
            signal.signal(number, interrupt)
    status, message = 1, ""
    try:
        status, message = _run()
    except BaseException:  # native code can make any exception of an interruption
        if not received:
            raise
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)  # the end of the interpreter would have a traceback
    if received and status:
        message = f"ended by {signal.Signals(received[0]).name}; run the same command again to go on from there"
        status = 128 + received[0]
    if message:
        from digit_recognizer.console import say

        say(f"digit-recognizer: {message}", error=True)
    sys.exit(status)


def _run() -> tuple[int, str]:
    """Run a command; return the exit status and an error's line.

    It is imported only now that signals have handlers, and without the packages of other projects.
    """
    own = __file__.rpartition(os.sep)[0].rpartition(os.sep)[0]
    foreign = {os.path.abspath(name) for name in os.environ.pop("PYTHONPATH", "").split(os.pathsep)}  # noqa: PTH100
    sys.path[:] = [name for name in sys.path if name not in foreign - {own}]
    import io
    import logging

    import click

    from digit_recognizer.cli import app
    from digit_recognizer.errors import UserError, describe_os_error

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, such as lines of tables in ASCII
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot cache fonts, and works
    try:
        with app.make_context("digit-recognizer", sys.argv[1:] or ["--help"]) as context:
            app.invoke(context)  # without `app.main`, which prints an empty line after a KeyboardInterrupt
    except click.exceptions.Exit:  # --help
        return 0, ""
    except click.ClickException as error:
        return 1, f"{error.format_message()} (see --help)"
    except BrokenPipeError:  # such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is written at exit
        return 1, ""
    except UserError as error:
        return 1, str(error)
    except OSError as error:
        return 1, describe_os_error(error)
    return 0, ""


if __name__ == "__main__":
    main()
