"""The one error of this package that is the user's to mend."""


class DataError(Exception):
    """Bad input data, in one sentence: file or field, found, expected, what to do.

    Command lines print it without a stack trace and exit with code 2.
    """


# Characters of a user's text that a sentence repeats.
_LONGEST = 80


def short(text: str) -> str:
    """A text of the user's for a sentence, cut if it is long."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
