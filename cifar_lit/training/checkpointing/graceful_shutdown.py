"""Defer SIGTERM and Ctrl-C until the run can be saved."""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_NOTE = b"\nStopping after this step (press Ctrl-C again to stop at once)\n"
_PATIENCE = 120.0  # seconds without a finished batch after which a signal ends the program


class GracefulShutdown:
    """Record SIGTERM and Ctrl-C while installed.

    A second Ctrl-C ends the program at once, and so does any signal if no batch ends for two minutes.

    Attributes:
        received: The first signal received, or None.
        postponed: Whether the signal to be postponed was received.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.postponed = False
        self._handler: Callable[..., Any] | None = None
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def install(self, postpone: int | None = None) -> None:
        """Install the handlers; does nothing outside the main thread, where Python allows no handlers.

        Ignored signals, such as Ctrl-C for a background job, stay ignored.

        Args:
            postpone: Another signal, whose present handler is to run when ``run_postponed`` is called.
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

    def batch_ended(self) -> None:
        """Note that the run makes progress."""
        if self._timer is not None:
            self._timer.cancel()
            self._start_timer()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(_PATIENCE, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"No batch ended in two minutes; stopping without saving.\n")
        os._exit(128 + (self.received or signal.SIGTERM))

    def restore(self) -> None:
        """Restore the previous handlers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def run_postponed(self) -> None:
        """Run the handler of the signal that was postponed in this or another process."""
        self.postponed = False
        if self._handler is not None:
            self._handler()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next Ctrl-C ends the program
            self._start_timer()
            with contextlib.suppress(OSError):  # the terminal may be gone
                os.write(2, _NOTE)  # unlike print, this is reentrant

    def _postpone(self, number: int, frame: FrameType | None) -> None:
        self.postponed = True
