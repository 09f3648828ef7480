"""Note SIGTERM and SIGINT instead of ending at once, bound the time until the end, and end with a parent process.

Python runs its signal handlers between bytecodes only, so a long call into a library delays them for minutes. The
interpreter's wakeup file descriptor is written by the C handler at once; a thread reads it and ends the process.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

POLL_INTERVAL = 0.5
"""Seconds between two checks whether another process still runs."""
TRACKER_MODULES = ("multiprocessing.resource_tracker", "joblib.externals.loky.backend.resource_tracker")
SECONDS_TO_END = 8.0
"""Seconds after SIGTERM or SIGINT in which a stage may save and end by itself."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


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


def end_children(grace: float = 0.0) -> None:
    """End all processes that this one has started: SIGTERM, and after `grace` seconds SIGKILL.

    Resource trackers of multiprocessing and joblib are not ended. They remove shared memory once this process has
    ended, and then end by themselves.
    """
    trackers = _own_trackers()
    children = psutil.Process().children(recursive=True)
    children = [child for child in children if child.pid not in trackers and not _is_resource_tracker(child)]
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for child in children:
            try:
                send(child)
            except psutil.NoSuchProcess:
                continue
        children = psutil.wait_procs(children, timeout=grace)[1]


def _own_trackers() -> set[int | None]:
    """Return the process numbers of this process's trackers: one that has just started has no command line yet."""
    modules = (sys.modules.get(name) for name in TRACKER_MODULES)
    return {getattr(getattr(module, "_resource_tracker", None), "_pid", None) for module in modules}


def _is_resource_tracker(process: psutil.Process) -> bool:
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def bounded_end(seconds: float | None = SECONDS_TO_END) -> Iterator[None]:
    """Within the block, end the process `seconds` after SIGTERM or SIGINT, with exit code 128 + N, if it still runs.

    The processes that it has started are ended with it. Signals need a Python handler to be noticed. Only the main
    thread can do this; in another thread the block runs without a bound.

    Args:
        seconds: None for no bound, which also suspends that of a surrounding block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    over = threading.Event()
    before = signal.set_wakeup_fd(writer.fileno() if seconds is not None else -1, warn_on_full_buffer=False)
    if seconds is not None:
        threading.Thread(target=_end_after, args=(reader, over, seconds), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        writer.close()  # the thread reads the end of the stream
        if seconds is None:
            reader.close()


def _end_after(reader: socket.socket, over: threading.Event, seconds: float) -> None:
    """Wait for one of `SIGNALS`; end this process if the block is not over `seconds` later."""
    with reader:
        while numbers := reader.recv(64):
            ended = next((number for number in numbers if number in SIGNALS), None)
            if ended is None:
                continue
            if not over.wait(seconds):
                end_children()
                # Not sys.exit(): the main thread does not return from its call. Files have their names only when whole.
                os._exit(128 + ended)
            return


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Within the block, SIGTERM raises SystemExit(143), so that temporary files are removed and children are ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


class StopSignals:
    """Whether SIGTERM or SIGINT (Ctrl-C) was received. Once one of them was, a Ctrl-C ends the process at once.

    A second SIGTERM does not, because a launcher and the system may both send one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    @contextmanager
    def watched(self, seconds: float | None = None) -> Iterator["StopSignals"]:
        """Within the block, note these signals in `received` instead of ending.

        Args:
            seconds: time after a signal when the process ends even if the block is not over; None for no such bound.
        """
        # Python sets signal handlers in the main thread only; a run in another thread does without them.
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            with bounded_end(seconds):
                yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Note the signal, and let the next Ctrl-C end the process at once."""
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
