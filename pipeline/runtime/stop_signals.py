"""Note SIGTERM and SIGINT instead of ending at once, and end a process when its parent is gone."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

POLL_INTERVAL = 0.5
"""Seconds between two checks whether another process still runs."""


def when_gone(process: int, end: Callable[[], None]) -> None:
    """Call `end` in a thread of its own once the process of this number is gone."""

    def poll() -> None:
        try:
            other = psutil.Process(process)
            # A zombie has ended; only its parent has not read its exit code yet.
            while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_INTERVAL)
        except psutil.NoSuchProcess:
            pass
        end()

    threading.Thread(target=poll, daemon=True).start()


def end_with(process: int) -> None:
    """End this process with exit code 1 as soon as the process of this number is gone."""
    when_gone(process, lambda: os._exit(1))


class StopSignals:
    """Whether SIGTERM or SIGINT (Ctrl-C) was received. Once one of them was, a Ctrl-C ends the process at once.

    A second SIGTERM does not, because a launcher and the system may both send one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def watched(self) -> Iterator["StopSignals"]:
        """Within the block, note these signals in `received` instead of ending."""
        # Python sets signal handlers in the main thread only; a run in another thread does without them.
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
        """Note the signal, and let the next Ctrl-C end the process at once."""
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
