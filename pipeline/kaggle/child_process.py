"""Stages as monitored child processes: start one, wait for it with limits, and classify how it ended.

Accelerate's launcher starts several processes, one for each GPU. Each line that a child prints is passed on as it
comes. A child that shows no progress for too long, or runs past its time, is killed with every process that it
started. A child whose parent is gone ends itself (`pipeline.worker`).

A child that has printed a fatal line may hang instead of ending, so that it is ended after a shorter silence. The line
is forgotten when the child goes on, and a child that computes is not ended so early: compiling a network for a GPU
takes a minute or two without a word.
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

from pipeline.kaggle.cpu_use import CpuUse
from pipeline.runtime.events import EVENTS, parse_event
from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.launcher import (
    POLL_INTERVAL,
    child_environment,
    launch_command,
)

SECONDS_TO_LEAVE = 5.0
"""Seconds between SIGTERM and SIGKILL, and the longest wait for killed processes to disappear."""
LINES_KEPT = 80
OUTPUT = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
"""Environment variables of a child whose output is read: UTF-8 in every locale, and line by line."""
OUT_OF_MEMORY = re.compile(
    r"out of memory|(can't|cannot) allocate memory|MemoryError|bad_alloc|can't start new thread", re.I
)
"""Messages of torch, Python and the system. A thread cannot start without memory for its stack."""
NO_SPACE = re.compile(r"No space left|Disk quota exceeded", re.I)
"""Messages of the system."""
FATAL = re.compile(r"^Traceback|^Exception ignored")
PYTHON_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception)\b")
REST_OF_ERROR = re.compile(r"^\s|^$|^CUDA kernel errors|^For debugging consider|^Compile with|^Search for")
"""Further lines of a traceback, and the lines that torch adds to a CUDA error."""
RANK = re.compile(r"^\[rank\d+\]: ?")
"""What torch writes before each line of a traceback, if several processes share the work."""
SECONDS_AFTER_FATAL = 15.0
"""Longest silence after an error event, and, of a process that does not compute, after a fatal line or an
out-of-memory message: a process may hang instead of ending."""

EndReason = Literal["ended", "late", "silent", "stopped"]
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of a process that was killed, and of a launcher that had one of its processes killed."""


@dataclass(frozen=True)
class ChildResult:
    """How a child ended.

    code: its exit code (`pipeline.runtime.exit_codes`), negative for the signal that killed it
    reason: it ended by itself, exceeded its time, was silent for too long, or the run was stopped
    lines: the last lines of text that it printed
    errors: the error events of its processes (`pipeline.runtime.events`)
    ready: seconds until its first line, None if it printed none
    """

    code: int
    reason: EndReason
    lines: tuple[str, ...] = ()
    errors: tuple[dict[str, Any], ...] = ()
    ready: float | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.reason == "ended" and self.code == ExitCode.DONE

    @property
    def killed(self) -> bool:
        """Whether it, or one of the processes that it launched, was killed from outside."""
        return self.code in KILLED

    @property
    def out_of_memory(self) -> bool:
        """Whether it ran out of memory."""
        # A process that the system ends cannot write an event, but its last lines may name the reason.
        return self.has_code(ExitCode.OUT_OF_MEMORY) or self._has_match(OUT_OF_MEMORY)

    @property
    def disk_full(self) -> bool:
        """Whether the disk was full."""
        return self.has_code(ExitCode.DISK_FULL) or self._has_match(NO_SPACE)

    def has_code(self, code: ExitCode) -> bool:
        """Return whether it, or one of the processes that it launched, ended with this exit code."""
        return self.code == code or any(error.get("code") == code for error in self.errors)

    def _has_match(self, pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(line) for line in self.lines)

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
        """Describe in one line how the child ended."""
        if self.reason == "silent":
            return f"it showed no progress for too long and was killed ({self.message})"
        if self.reason == "late":
            return "it was not done in time and was ended"
        if self.killed and self.code > 0:
            return f"one of its processes was killed ({self.message})"
        if self.code < 0:
            cause = f" ({self.message})" if self.out_of_memory or self.disk_full else ""
            return f"it was killed by signal {-self.code}{cause}"
        return f"exit code {self.code}: {self.message}"


class ChildProcess:
    """A stage that runs as a child process, started on creation.

    Args:
        arguments: command-line arguments of `python -m pipeline.worker`.
        processes: how many processes share the work.
        on_line: called with each line of text that it prints.
        on_warning: called with the message of each of its warnings.
        heartbeat: a file whose modification time shows progress (`RunFolder.beat`).
    """

    def __init__(
        self,
        arguments: Sequence[str],
        processes: int,
        on_line: Callable[[str], None],
        on_warning: Callable[[str], None],
        heartbeat: Path | None = None,
    ):
        command = launch_command("pipeline.worker", arguments, processes)
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        environment = child_environment() | {EVENTS: "1", "PYTHONPATH": path} | OUTPUT
        # A session of its own: Ctrl-C on the terminal reaches the supervisor only, which stops the child in order.
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._family: set[psutil.Process] = set()
        self._on_line = on_line
        self._on_warning = on_warning
        self._lines = deque[str](maxlen=LINES_KEPT)
        self._errors = list[dict[str, Any]]()
        self._heartbeat = heartbeat
        self._last_heartbeat = 0.0
        self._fatal_at: float | None = None
        self._cpu_use = CpuUse()
        self._start = self._last_sign = time.monotonic()
        self._ready: float | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(
        self, until: float, patience: float, stopped: Callable[[], bool], on_poll: Callable[[], None] = lambda: None
    ) -> ChildResult:
        """Wait until the child ends by itself, or end it: when its time is over, it is silent, or the run stops.

        Args:
            until: time at which it is ended, on the monotonic clock.
            patience: seconds without output or heartbeat after which it is ended.
            stopped: returns whether the run is to stop.
            on_poll: called at every poll, every `POLL_INTERVAL` seconds.
        """
        reason: EndReason = "ended"
        while self._process.poll() is None:
            now = time.monotonic()
            self._check_heartbeat()
            if stopped() or now > until or self._is_silent(now, patience):
                reason = "stopped" if stopped() else "late" if now > until else "silent"
                break
            self._remember_family()
            on_poll()
            time.sleep(POLL_INTERVAL)
        # Only a stopped run gives the child time to save; a late or silent child has used its time.
        self.end(SECONDS_TO_LEAVE if reason == "stopped" else 0.0)
        self._reader.join(timeout=2.0)
        return ChildResult(self._process.wait(), reason, tuple(self._lines), tuple(self._errors), self._ready)

    def _is_silent(self, now: float, patience: float) -> bool:
        """Return whether it has shown no progress for too long: `patience` in seconds, less after a fatal line."""
        silence = now - self._last_sign
        if self._errors:
            return silence > min(patience, SECONDS_AFTER_FATAL)
        if self._fatal_at is None:
            self._cpu_use.forget()
            return silence > patience
        # Waiting for a GPU, or for another process, may use the processor too, so that `patience` holds all the same.
        self._cpu_use.read(self._family)
        idle = now - max(self._last_sign, self._cpu_use.last_use)
        return silence > patience or idle > SECONDS_AFTER_FATAL

    def end(self, grace: float = 0.0) -> None:
        """Kill the child and every process that it started; with a grace, send SIGTERM so many seconds before."""
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
        """Note the processes that it has started: once a launcher is killed, they are no longer its children."""
        try:
            child = psutil.Process(self._process.pid)
            self._family |= {child, *child.children(recursive=True)}
        except psutil.NoSuchProcess:
            return

    def _check_heartbeat(self) -> None:
        """Count a newer modification time of the heartbeat file as a sign of life."""
        try:
            modified = self._heartbeat.stat().st_mtime if self._heartbeat else 0.0
        except OSError:
            return
        if modified > self._last_heartbeat:
            self._last_heartbeat = modified
            self._last_sign = time.monotonic()
            if self._fatal_at and modified > self._fatal_at:  # a beat from before the line may be noticed after it
                self._fatal_at = None

    def _read(self) -> None:
        """Read the child's output to its end, in a thread."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._last_sign = time.monotonic()
                self._ready = self._ready or self._last_sign - self._start
                text = line.rstrip("\n")
                if event := parse_event(text):
                    self._handle_event(event)
                else:
                    self._fatal_at = time.time() if self._is_fatal(RANK.sub("", text)) else None
                    self._lines.append(text)
                    self._on_line(text)

    def _is_fatal(self, text: str) -> bool:
        """Return whether a line says that the process cannot go on, or belongs to the lines that said so."""
        rest = self._fatal_at and (REST_OF_ERROR.search(text) or PYTHON_ERROR.search(text))
        return bool(FATAL.search(text) or OUT_OF_MEMORY.search(text) or rest)

    def _handle_event(self, event: dict[str, Any]) -> None:
        """Pass a warning on; keep an error for the result."""
        if event["event"] == "warning":
            self._on_warning(str(event.get("message")))
        elif event["event"] == "error":
            self._errors.append(event)
            self._on_line(f"error: {event.get('summary')}")
