"""The exception for errors that the user can fix, and messages for those of the operating system."""

import errno

MOVE_AWAY, MAKE_WRITABLE = "move away what is in its place", "make it writable, or use another folder"
REMEDIES = {  # for an OSError, by number
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.ENAMETOOLONG: "use a shorter name",
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY), MOVE_AWAY),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), MAKE_WRITABLE),
}


class UserError(Exception):
    """An error that the user can fix; its one-line message says what was expected, what was found, and what to do."""


def describe_os_error(error: OSError) -> str:
    """Return one line about an error of the operating system: the file, what happened, what to do."""
    remedy = REMEDIES.get(error.errno or 0, "check the file and its folder")
    reason = error.strerror or type(error).__name__  # the text of a network's error can contain a signed URL
    return f"could not read or write {error.filename or 'a file'}: {reason}; {remedy}"
