"""How much main memory this process may use, in bytes."""

from pathlib import Path

import psutil

CONTROL_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def main_memory() -> int:
    """Return the bytes of main memory that this process may use: with swap, and at most what its control group may."""
    limits = [psutil.virtual_memory().total + psutil.swap_memory().total]
    for file in CONTROL_GROUP_LIMITS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return min(limits)
