"""Signals that ask a process to end: noted, so that what is under way can be finished first."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

POLL_INTERVAL = 0.5
"""Seconds between two looks at whether another process is still there."""


def when_gone(process: int, end: Callable[[], None]) -> None:
    """Call `end`, in a thread of its own, once the process of this number is gone."""

    def watch() -> None:
        try:
            watched = psutil.Process(process)
            while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_INTERVAL)
        except psutil.NoSuchProcess:
            pass
        end()

    threading.Thread(target=watch, daemon=True).start()


def end_with(process: int) -> None:
    """End this process as soon as the one of this number is gone: nobody would read what it makes."""
    when_gone(process, lambda: os._exit(1))


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
