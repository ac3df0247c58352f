"""The one kind of error that is the user's to mend, and the one that is the user's wish."""

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path


class InputError(Exception):
    """Something that the user gave cannot be used; the message says what was got, what is expected and what to do.

    No ValueError, since jsonargparse takes those for its own and buries them in a longer message.
    The command line shows the message as one line, without a traceback, and exits with a status other than 0.
    """


class Stopped(Exception):  # noqa: N818  # a wish, and no error
    """Training was stopped by a signal, and saved.

    Args:
        number: The signal.
        file: The checkpoint to go on from.
        rank: The number of the process; the first alone speaks.
        modules: The user's own, that were allowed to be imported.
    """

    def __init__(self, number: int, file: Path, rank: int, modules: Sequence[str] = ()) -> None:
        super().__init__(number, file, rank, modules)
        self.number, self.file, self.rank, self.modules = number, file, rank, modules

    @property
    def status(self) -> int:
        """The exit status, as a shell has it of a program that a signal ended; 0 of all processes but the first, since
        Lightning kills the first one when another fails."""
        return 128 + self.number if self.rank == 0 else 0

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        words = ["uv", "run", "main.py", "fit", "--ckpt_path", str(self.file)]
        words += [word for module in self.modules for word in ("--allow_import", module)]
        return f"Stopped by {name}. Go on: {shlex.join(words)}"
