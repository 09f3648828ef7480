"""Names of processes, which lock files and temporary files carry, and which tell whether a process still runs.

A name is PLACE-PID-START-TOKEN. PLACE is a digest of host, boot and PID namespace: process numbers are comparable
within one place only. START is when the process started, in hundredths of a second since the boot, and distinguishes it
from a later process of the same number. TOKEN is random, so that one process can have several names.
"""

import os
import re
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil

TOLERANCE = 200
"""Hundredths of a second by which two measurements of a process's start may differ."""
PATTERN = r"(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-(?P<token>[0-9a-f]{8})"


@dataclass(frozen=True)
class ProcessIdentity:
    """One name of a process."""

    place: str
    pid: int
    start: int
    token: str

    @classmethod
    def own(cls) -> "ProcessIdentity":
        """Return a new name of this process."""
        return cls(find_place(), os.getpid(), find_start(os.getpid()), secrets.token_hex(4))

    @classmethod
    def find(cls, text: str) -> "ProcessIdentity | None":
        """Return the name that `text` contains, None if it contains none."""
        found = re.search(PATTERN, text)
        return None if found is None else cls(found["place"], int(found["pid"]), int(found["start"]), found["token"])

    def __str__(self) -> str:
        return f"{self.place}-{self.pid}-{self.start}-{self.token}"

    def is_running(self) -> bool | None:
        """Return whether the process still runs; None for a process of another place, which cannot be asked."""
        if self.place != find_place():
            return None
        try:
            # A zombie has ended; only its parent has not read its exit code yet.
            ended = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
            return not ended and abs(find_start(self.pid) - self.start) <= TOLERANCE
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return True


@cache
def find_place() -> str:
    """Return the digest of this process's host, boot and PID namespace; the last two are known on Linux only."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        # Two containers on one machine may have the same host name, and do not see each other's processes.
        parts.append(os.readlink("/proc/self/ns/pid"))
    return sha256("\0".join(parts).encode()).hexdigest()[:8]


def find_start(pid: int) -> int:
    """Return when a process started, in hundredths of a second since the boot; psutil.NoSuchProcess if none."""
    # A clock that is set moves the times of boot and start alike, so their difference stays.
    boot = psutil.boot_time()
    return max(0, round(100 * (psutil.Process(pid).create_time() - boot)))
