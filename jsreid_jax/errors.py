"""The one error of this package that is the user's to mend."""


class ModelError(Exception):
    """A config, workdir or checkpoint that cannot be used, in one clear sentence.

    Command lines print it without a stack trace and exit with code 2.
    """
