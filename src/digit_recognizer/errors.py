"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix.

    The message is one line: what was expected, what was found, and what to do next. The command line prints it on
    stderr without a traceback and exits with status 1.
    """
