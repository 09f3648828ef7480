"""Kills a forked process at a chosen file operation, as SIGKILL would: without any cleanup of Python's."""

import os
import sys
from collections.abc import Callable, Iterator

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}
KILLED = 9


def kill_everywhere(work: Callable[[], object]) -> Iterator[int]:
    """Run `work` in forked processes, killed before the first file operation, the second ...; yield after each kill.

    Yields the number of the operation. It ends when a process is done before it is killed.
    """
    number = 0
    while _run_and_kill(work, number):
        yield number
        number += 1


def _run_and_kill(work: Callable[[], object], number: int) -> bool:
    """Return whether the process was killed, before the operation with this number."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, KILLED)
        return code == KILLED
    left = number

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in CHANGES or (event == "open" and isinstance(arguments[0], str) and arguments[2] & os.O_CREAT):
            if not left:
                os._exit(KILLED)
            left -= 1

    code = 1
    try:
        sys.addaudithook(count)
        work()
        code = 0
    finally:
        os._exit(code)
