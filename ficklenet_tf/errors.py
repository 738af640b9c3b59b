"""What somebody can put right, told apart from a bug."""


class UserError(ValueError):
    """A setting, a file or a data set that does not fit; the message says what was expected and what was found.

    The binaries print it in one line. Any other exception is a bug, or the machine's, and keeps its traceback.
    """

    __init__ = Exception.__init__  # then AutoGraph raises it anew as itself, not as a StagingError


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text, or its name where it has none: for a message of one line."""
    return next(iter(str(error).splitlines()), repr(error))
