"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Something that the user gave cannot be used; the message says what was got, what is expected and what to do.

    The command line shows the message as one line, without a traceback, and exits with a status other than 0.
    """
