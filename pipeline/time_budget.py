"""Wall-clock time: parse and format durations ("10m", "11h50m", "90s"), and measure what is left of a budget."""

import re
import time
from typing import Any

from augment.errors import UserError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(value: Any) -> Any:
    """Return the seconds of a duration such as "11h50m", "10m", "90s" or "90".

    A value that is not text is returned as it is, for pydantic to validate.

    Raises:
        UserError: if the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", value.strip())
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        raise UserError(f"{value!r} is not a duration", "write for example 11h50m, 10m, 90s or a number of seconds")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """Format seconds for people: 42s, 3m05s, 11h50m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


class Budget:
    """A limit of wall-clock time in seconds, counted from the creation of this object; None for no limit."""

    def __init__(self, seconds: float | None):
        self._limit = seconds
        self._start = time.monotonic()

    def used(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    def left(self, reserve: float = 0.0) -> float:
        """Return the seconds until the end, minus those reserved for later stages; infinity without a limit."""
        return float("inf") if self._limit is None else self._limit - self.used() - reserve
