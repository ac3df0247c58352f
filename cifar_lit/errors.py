"""Errors shown to the user as one line: invalid input, and termination by a signal."""

import shlex
import signal
from collections.abc import Sequence
from pathlib import Path


class InputError(Exception):
    """Invalid user input; the message states the actual value, the expected one and what to do.

    Not a ValueError, since jsonargparse catches those and buries them in a longer message.
    The command line prints the message as one line without a traceback and exits with status 2.
    """


class Stopped(Exception):  # noqa: N818  # requested by the user, not an error
    """Training was stopped by a signal, after a checkpoint was saved.

    Args:
        number: Number of the signal.
        file: Checkpoint to resume from.
        rank: Rank of this process; only rank 0 prints the message.
        modules: The user's own modules that may be imported.
    """

    def __init__(self, number: int, file: Path, rank: int, modules: Sequence[str] = ()) -> None:
        super().__init__(number, file, rank, modules)
        self.number, self.file, self.rank, self.modules = number, file, rank, modules

    @property
    def status(self) -> int:
        """Exit status of a process ended by the signal; 0 for ranks above 0, since Lightning kills rank 0 when another
        process fails."""
        return 128 + self.number if self.rank == 0 else 0

    def __str__(self) -> str:
        words = ["uv", "run", "main.py", "fit", "--ckpt_path", str(self.file)]
        words += [word for module in self.modules for word in ("--allow_import", module)]
        return f"Stopped by {signal.Signals(self.number).name}. To resume: {shlex.join(words)}"
