"""SIGTERM and Ctrl-C as wishes: noted when they come, granted when the run can be saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_NOTE = b"\nStopping after this step (Ctrl-C once more: at once)\n"


class StopSignals:
    """Notes the first SIGTERM or Ctrl-C, while it is in force; a second Ctrl-C ends the program at once.

    Attributes:
        received: The signal that came; None so far.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def install(self, but_not: frozenset[signal.Signals] = frozenset()) -> None:
        """Puts this in force, in the main thread; elsewhere signals cannot be noted.

        Args:
            but_not: Signals to leave as they are.
        """
        self.received, self._process = None, os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in set(_STOPPING) - but_not:
                self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Puts back what was in force before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        worker = os.getpid() != self._process  # that loads batches; it ends with this process
        if worker and number == signal.SIGINT:
            return
        if worker or (self.received is not None and number == signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.received is None:
            self.received = signal.Signals(number)
            os.write(2, _NOTE)  # which, unlike print, may interrupt itself
