"""Stages as child processes: a command comes in, and what became of it goes out, whatever that was.

Several processes are started by accelerate's launcher, one for each GPU. All that a child says is shown as it comes. A
child that is silent too long, or goes on after its time, is killed with everything it started; and a child whose
parent is gone ends itself (`pipeline.worker`).
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from pipeline.runtime.events import EVENTS, parse_event
from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.launcher import (
    POLL_INTERVAL,
    child_environment,
    launch_command,
)

SECONDS_TO_LEAVE = 5.0
"""Between asking a child to end, and ending it."""
LINES_KEPT = 80
OUT_OF_MEMORY = re.compile(
    r"out of memory|(can't|cannot) allocate memory|MemoryError|bad_alloc|can't start new thread", re.I
)
"""Words of torch, Python and the system. A thread cannot start without room for its stack."""
NO_SPACE = re.compile(r"No space left|Disk quota exceeded", re.I)
"""The system's words."""
FATAL = re.compile(r"^Traceback|^Exception ignored")
PYTHON_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception)\b")
SECONDS_AFTER_FATAL = 15.0
"""Without a sign of life after such words, an error or out of memory: a process may hang instead of ending."""

EndReason = Literal["ended", "late", "silent", "stopped"]
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a process that was killed, and of a launcher that had one of its processes killed."""


@dataclass(frozen=True)
class ChildResult:
    """How a child ended.

    code: its exit code (`pipeline.runtime.exit_codes`), negative for the signal that killed it
    reason: it ended by itself, was late, fell silent, or the run was stopped
    lines: the last lines of text that it printed
    errors: the error events of its processes (`pipeline.runtime.events`)
    ready: seconds until its first line, None where there was none
    """

    code: int
    reason: EndReason
    lines: tuple[str, ...] = ()
    errors: tuple[dict[str, Any], ...] = ()
    ready: float | None = None

    @property
    def well(self) -> bool:
        """Whether it did what it should."""
        return self.reason == "ended" and self.code == ExitCode.DONE

    @property
    def killed(self) -> bool:
        """Whether it, or one of the processes that it launched, was killed from outside."""
        return self.code in KILLED

    @property
    def out_of_memory(self) -> bool:
        """Whether it lacked memory. A process that the system ends has no time for an event, but leaves words."""
        return self.has_code(ExitCode.OUT_OF_MEMORY) or self._has_words(OUT_OF_MEMORY)

    @property
    def disk_full(self) -> bool:
        """Whether it lacked room on the disk."""
        return self.has_code(ExitCode.DISK_FULL) or self._has_words(NO_SPACE)

    def has_code(self, code: ExitCode) -> bool:
        """Whether it, or one of the processes that it launched, ended with this code."""
        return self.code == code or any(error.get("code") == code for error in self.errors)

    def _has_words(self, words: re.Pattern[str]) -> bool:
        return any(words.search(line) for line in self.lines)

    @property
    def message(self) -> str:
        """The first error that it reported, else Python's last error line, else its last line."""
        if self.errors:
            # The first: an error of one process makes the others report that they lost it.
            return str(self.errors[0].get("summary"))[:300]
        lines = [line.strip() for line in self.lines if line.strip()]
        errors = [line for line in lines if PYTHON_ERROR.search(line)]
        return (errors or lines or ["it printed nothing"])[-1][:300]

    def describe(self) -> str:
        """What happened, in a line."""
        if self.reason == "silent":
            return f"it showed no progress for too long and was killed ({self.message})"
        if self.reason == "late":
            return "it was not done in time and was ended"
        if self.killed and self.code > 0:
            return f"one of its processes was killed ({self.message})"
        if self.code < 0:
            words = f" ({self.message})" if self.out_of_memory or self.disk_full else ""
            return f"it was killed by signal {-self.code}{words}"
        return f"exit code {self.code}: {self.message}"


class ChildProcess:
    """One stage that is running.

    Args:
        words: what `python -m pipeline.worker` is told.
        processes: how many share the work.
        say: called with each line of text that it prints.
        warn: called with the message of each of its warnings.
        beat: a file that is touched as work goes on (`RunFolder.beat`).
    """

    def __init__(
        self,
        words: Sequence[str],
        processes: int,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        beat: Path | None = None,
    ):
        command = launch_command("pipeline.worker", words, processes)
        home = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        environment = child_environment() | {EVENTS: "1", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._family: set[psutil.Process] = set()
        self._say = say
        self._warn = warn
        self._lines = deque[str](maxlen=LINES_KEPT)
        self._errors = list[dict[str, Any]]()
        self._beat = beat
        self._seen_beat = 0.0
        self._fatal = False
        self._begun = self._last_sign = time.monotonic()
        self._ready: float | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(
        self, until: float, patience: float, stopped: Callable[[], bool], look: Callable[[], None] = lambda: None
    ) -> ChildResult:
        """Until it ends, or has to be ended: at the time `until` (monotonic), when silent or when the run stops.

        look: called again and again meanwhile
        """
        reason: EndReason = "ended"
        while self._process.poll() is None:
            now = time.monotonic()
            self._feel_beat()
            longest = min(patience, SECONDS_AFTER_FATAL) if self._fatal else patience
            if stopped() or now > until or now - self._last_sign > longest:
                reason = "stopped" if stopped() else "late" if now > until else "silent"
                break
            self._remember_family()
            look()
            time.sleep(POLL_INTERVAL)
        self.end(SECONDS_TO_LEAVE if reason == "stopped" else 0.0)
        self._reader.join(timeout=2.0)
        return ChildResult(self._process.wait(), reason, tuple(self._lines), tuple(self._errors), self._ready)

    def end(self, grace: float = 0.0) -> None:
        """End it and all that it started: asked to leave first, where it is given time to."""
        self._remember_family()
        if grace and self._process.poll() is None:
            self._process.terminate()
            psutil.wait_procs(list(self._family), timeout=grace)
        for process in self._family:
            if process.is_running():
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
        psutil.wait_procs(list(self._family), timeout=SECONDS_TO_LEAVE)

    def _remember_family(self) -> None:
        """What it has started: a launcher that is killed leaves its processes behind."""
        try:
            own = psutil.Process(self._process.pid)
            self._family |= {own, *own.children(recursive=True)}
        except psutil.NoSuchProcess:
            return

    def _feel_beat(self) -> None:
        """Work that goes on is a sign of life."""
        try:
            touched = self._beat.stat().st_mtime if self._beat else 0.0
        except OSError:
            return
        if touched > self._seen_beat:
            self._seen_beat = touched
            self._last_sign = time.monotonic()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._last_sign = time.monotonic()
                self._ready = self._ready or self._last_sign - self._begun
                text = line.rstrip("\n")
                if event := parse_event(text):
                    self._take(event)
                else:
                    self._fatal |= bool(FATAL.search(text) or OUT_OF_MEMORY.search(text))
                    self._lines.append(text)
                    self._say(text)

    def _take(self, event: dict[str, Any]) -> None:
        """One event: a warning is passed on, an error is kept for the result."""
        if event["event"] == "warning":
            self._warn(str(event.get("message")))
        elif event["event"] == "error":
            self._fatal = True
            self._errors.append(event)
            self._say(f"error: {event.get('summary')}")
