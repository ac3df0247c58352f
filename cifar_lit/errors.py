"""The one kind of error that is the user's to mend."""


class InputError(Exception):
    """Something that the user gave cannot be used; the message says what was got, what is expected and what to do.

    No ValueError, since jsonargparse takes those for its own and buries them in a longer message.
    The command line shows the message as one line, without a traceback, and exits with a status other than 0.
    """
