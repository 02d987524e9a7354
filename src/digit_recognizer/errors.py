"""The one exception of this kit."""


class UserError(Exception):
    """Something that the user can mend.

    The message is one line that says what was expected, what was received and what to do next. The command line prints
    it on stderr without a traceback and exits with status 1.
    """
