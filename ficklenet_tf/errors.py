"""What somebody can put right, told apart from a bug."""


class UserError(ValueError):
    """A setting, a file or a data set that does not fit; the message says what was expected and what was found.

    The binaries print it in one line. Any other exception is a bug, or the machine's, and keeps its traceback.
    """

    __init__ = Exception.__init__  # then AutoGraph raises it anew as itself, not as a StagingError
