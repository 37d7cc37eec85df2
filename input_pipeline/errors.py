"""The one error of this package that is the user's to mend."""


class DataError(Exception):
    """Bad input data, in one sentence: file or field, found, expected, what to do.

    Command lines print it without a stack trace and exit with code 2.
    """
