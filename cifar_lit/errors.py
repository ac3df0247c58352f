"""The error that is shown to the user as one line."""


class InputError(Exception):
    """Invalid user input; the message states the actual value, the expected one and what to do.

    Not a ValueError, since jsonargparse catches those and buries them in a longer message.
    The command line prints the message as one line without a traceback and exits with status 2.
    """
