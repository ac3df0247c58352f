"""Convert the outcome of a command to an exit status and a one-line error message."""

import io
import signal
import sys
from collections.abc import Callable

from cifar_lit.errors import InputError


def exit_status(run: Callable[[], None]) -> int:
    """Run a command and return the program's exit status.

    Args:
        run: Function that runs the command.

    Returns:
        0; 2 after a user error, which is printed as one line; 128 plus the signal number after a signal.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may contain anything
            stream.reconfigure(errors="backslashreplace")
    try:
        run()
    except KeyboardInterrupt:
        print("Stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning exits with status 1
            return 128 + signal.SIGINT
        if type(end).__name__ == "SIGTERMException":  # raised by Lightning before training starts
            return 128 + signal.SIGTERM
        if isinstance(end.code, int):  # such as that of a run stopped by a signal
            return end.code
        raise
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def user_message(error: BaseException | None) -> str | None:
    """Return the one-line message of an error that the user can fix; None for a bug in this program."""
    while error is not None:
        # jsonargparse wraps errors raised in constructors. Lightning's class is compared by name, since importing
        # Lightning would slow down the commands that do not need it.
        if (
            isinstance(error, InputError)
            or type(error).__name__ == "MisconfigurationException"
            or (isinstance(error, RuntimeError) and str(error).startswith("Early stopping conditioned on metric"))
        ):
            return " ".join(str(error).split())
        error = error.__cause__ or error.__context__
    return None
