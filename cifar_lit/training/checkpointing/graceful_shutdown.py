"""SIGTERM and Ctrl-C as wishes: noted when they come, granted when the run can be saved."""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_NOTE = b"\nStopping after this step (Ctrl-C once more: at once)\n"


class GracefulShutdown:
    """Notes SIGTERM and Ctrl-C, while it is in force; a second Ctrl-C ends the program at once.

    Attributes:
        received: The signal that came first; None so far.
        postponed: Whether the signal that was to be postponed came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.postponed = False
        self._handler: Callable[..., Any] | None = None
        self._before: dict[int, Any] = {}

    def install(self, postpone: int | None = None) -> None:
        """Puts this in force, in the main thread; elsewhere signals cannot be noted.

        A signal that is ignored, as Ctrl-C of a job in the background is, stays so.

        Args:
            postpone: A further signal, whose own handler is to run when ``run_postponed`` is called.
        """
        self.received, self.postponed = None, False
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        handler = None if postpone is None else signal.getsignal(postpone)
        if postpone is not None and callable(handler):
            self._handler = functools.partial(handler, postpone, None)
            self._before[postpone] = handler
            signal.signal(postpone, self._postpone)

    def restore(self) -> None:
        """Puts back what was in force before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def run_postponed(self) -> None:
        """Runs the handler of the signal that was postponed, here or in another process."""
        self.postponed = False
        if self._handler is not None:
            self._handler()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next Ctrl-C ends the program, whatever it does
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, _NOTE)  # which, unlike print, may interrupt itself

    def _postpone(self, number: int, frame: FrameType | None) -> None:
        self.postponed = True
