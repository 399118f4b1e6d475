"""The one exception that a user is meant to read."""


class WarpTrainError(Exception):
    """Something the user can mend: one line that names the file, the key or the sample.

    The command line prints the message and exits 1, without a traceback unless debugging is on.
    """
