"""The exception for errors that the user can fix."""


class UserError(Exception):
    """An error that the user can fix; its one-line message says what was expected, what was found, and what to do."""
