"""A command with all processes that it starts: watched, and never left behind by a test that fails."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from tests.helpers.paths import ROOT

Family = Callable[[], list[psutil.Process]]


@contextmanager
def process_family(words: Sequence[str]) -> Iterator[tuple[subprocess.Popen, Family]]:
    """The command's process, and a function that lists those which it and they have started.

    Once the block is over, those that were listed must end by themselves within a minute.
    """
    process, seen = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL), set[psutil.Process]()

    def started() -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            seen.update(psutil.Process(process.pid).children(recursive=True))
        return [one for one in seen if not is_gone(one)]

    try:
        yield process, started
        wait_until(lambda: all(map(is_gone, seen)), seconds=60)
    finally:
        for one in started():
            one.kill()
        process.kill()
        process.wait()


def is_gone(process: psutil.Process | int) -> bool:
    """Whether it, or the process of this number, is no more, or only waits for whoever inherits it."""
    try:
        process = psutil.Process(process) if isinstance(process, int) else process
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def seconds_used(process: psutil.Process) -> float:
    """Seconds of a processor that it has taken; 0 where it is no more."""
    try:
        return process.cpu_times().user
    except psutil.NoSuchProcess:
        return 0.0


def wait_until(there: Callable[[], bool], seconds: float = 120) -> None:
    """AssertionError where it is not there in time."""
    ends = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < ends
        time.sleep(0.1)
