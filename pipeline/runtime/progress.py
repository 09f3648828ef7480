"""Show the progress of long work: a live bar on a terminal, else a line every 30 seconds, with the time left."""

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pipeline.runtime.console import Console
from pipeline.time_budget import format_duration

LINE_EVERY = 30.0
"""Seconds between two lines where the output is not a terminal."""


class Progress:
    """Count units of work and show how many are done; a context manager.

    Args:
        run: where progress is shown.
        name: of the work.
        total: units in all.
        done: units that were done before.
    """

    def __init__(self, run: Console, name: str, total: int, done: int = 0):
        self.run = run
        self.name = name
        self.total = total
        self.done = done
        self.note = ""
        self._done_before = done
        self._start = self._last_line = time.monotonic()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._bar = Bar(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=run.screen,
            disable=not run.screen.is_terminal,
        )
        self._task = self._bar.add_task(name, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def expect(self, total: int) -> None:
        """Set the total once it is known better."""
        self.total = total
        self._bar.update(self._task, total=total)

    def advance(self, units: int, note: str = "") -> None:
        """Count `units` more as done; the note is shown beside the bar until the next note."""
        self.done += units
        self.run.beat()
        self._bar.advance(self._task, units)
        self.note = note or self.note
        self._bar.update(self._task, note=self.note)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > LINE_EVERY:
            self._last_line = now
            remaining = (now - self._start) / (self.done - self._done_before) * (self.total - self.done)
            self.run.log(f"{self.name} {self.done}/{self.total} {self.note} ({format_duration(remaining)} left)")
