"""Whether a family of processes computes: their processor time, read from the system between two polls."""

import time
from collections.abc import Iterable

import psutil

LEAST_SHARE = 0.1
"""Share of one core from which on the processes compute; threads that only wait and poll use a hundredth of one."""
SECONDS_BETWEEN_READINGS = 0.5
"""Processor times are counted in hundredths of a second, so that shorter intervals say little."""


class CpuUse:
    """The processor use of some processes and of those that they have started and waited for."""

    def __init__(self) -> None:
        self._reading: tuple[float, float] | None = None
        self.last_use = 0.0
        """Time at which they were last found computing, on the monotonic clock; 0 if they never were."""

    def read(self, processes: Iterable[psutil.Process]) -> None:
        """Compare their processor time with that of the last reading, unless that was a moment ago."""
        now = time.monotonic()
        before, used_before = self._reading or (0.0, 0.0)
        if now - before < SECONDS_BETWEEN_READINGS:
            return
        used = sum(map(processor_seconds, processes))
        if self._reading and used - used_before > LEAST_SHARE * (now - before):
            self.last_use = now
        self._reading = now, used

    def forget(self) -> None:
        """Forget the last reading: the next one starts a new interval."""
        self._reading = None


def processor_seconds(process: psutil.Process) -> float:
    """Return the seconds of processor time of a process and of its children that have ended; 0 if it is gone."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    ended_children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return times.user + times.system + ended_children
