"""Wall-clock time: durations people write, and how much of a budget is left.

In: "10m", "11h50m", "90s" or seconds. Out: seconds.
"""

import re
import time
from typing import Any

from augment.errors import UserError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(value: Any) -> Any:
    """Seconds of a duration such as "11h50m", "10m", "90s" or "90"; anything but text is passed on as it is."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", value.strip())
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        raise UserError(f"{value!r} is not a duration: write 11h50m, 10m, 90s or seconds")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Seconds as people read them: 42s, 3m05s, 11h50m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


class Budget:
    """A stretch of wall-clock time that began when this was made; without a limit it never ends."""

    def __init__(self, seconds: float | None):
        self._limit = seconds
        self._start = time.monotonic()

    def used(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def left(self, reserve: float = 0.0) -> float:
        """Seconds until the end, less what is reserved for later stages."""
        return float("inf") if self._limit is None else self._limit - self.used() - reserve
