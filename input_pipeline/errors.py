"""The one error of this package that is the user's to mend."""


class DataError(Exception):
    """Bad input data: one sentence with the file or field, what was found, what was expected, what to do.

    Command lines print it without a stack trace and exit with code 2.
    """
