"""The process of the command line: signals and errors become one line on stderr and an exit status."""

import io
import logging
import os
import signal
import sys
from typing import Any

import click

from digit_recognizer.cli import app
from digit_recognizer.console import say
from digit_recognizer.errors import UserError, describe_os_error

ENDING = signal.SIGHUP, signal.SIGINT, signal.SIGTERM


def main() -> None:
    """Run a command; a `UserError`, or an error of the operating system, becomes one line on stderr and status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, such as lines of tables in ASCII
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot cache fonts, and works
    received: list[int] = []

    def interrupt(number: int, _: Any) -> None:  # so that workers and temporary files go, too
        received.append(number)
        raise KeyboardInterrupt

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
            signal.signal(number, interrupt)
    status, message = 1, ""
    try:
        with app.make_context("digit-recognizer", sys.argv[1:] or ["--help"]) as context:
            app.invoke(context)  # without `app.main`, which prints an empty line after a KeyboardInterrupt
        status = 0
    except click.exceptions.Exit:  # --help
        status = 0
    except click.ClickException as error:
        message = f"{error.format_message()} (see --help)"
    except BrokenPipeError:  # such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is written at exit
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = describe_os_error(error)
    except BaseException:  # native code can make any exception of an interruption
        if not received:
            raise
    if received and status:
        message = f"ended by {signal.Signals(received[0]).name}; run the same command again to go on from there"
        status = 128 + received[0]
    if message:
        say(f"digit-recognizer: {message}", error=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
