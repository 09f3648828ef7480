"""Signals that ask a process to end: noted, so that what is under way can be finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignals:
    """Whether SIGTERM or SIGINT (Ctrl-C) has come. A second Ctrl-C ends the process at once.

    A second SIGTERM does not: a launcher and the system may both send one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def watched(self) -> Iterator["StopSignals"]:
        """Take note of signals instead of ending, within the block."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
