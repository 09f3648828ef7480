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
from typing import Literal

import psutil

from pipeline.runtime.launcher import (
    PARENT,
    POLL_INTERVAL,
    launch_command,
)

SECONDS_TO_LEAVE = 5.0
"""Between asking a child to end, and ending it."""
LINES_KEPT = 80
OUT_OF_MEMORY = re.compile(
    r"out of memory(?!: from now on)|(can't|cannot) allocate memory|MemoryError|bad_alloc|can't start new thread", re.I
)
"""A stage that says what it takes "from now on" has helped itself; a thread cannot start without room for a stack."""
FATAL = re.compile(r"^Traceback|^Exception ignored")
SECONDS_AFTER_FATAL = 15.0
"""Without a sign of life after such words, or out of memory: a process may hang instead of ending."""
KILLED = re.compile(r"exitcode\s*:\s*-9\b|Signal 9 \(SIGKILL\)")
ERROR = re.compile(r"^(error: |(\w+\.)*\w*(Error|Exception)\b)")
NO_SPACE = re.compile(r"No space left|no room for|Disk quota exceeded", re.I)

EndReason = Literal["ended", "late", "silent", "stopped"]


@dataclass(frozen=True)
class ChildResult:
    """What became of a child: its exit code and its last words.

    code: where it ended by itself; negative for the signal that killed it
    why: it ended by itself, was late, fell silent, or the run was stopped
    ready: seconds until its first words, None where there were none
    """

    code: int
    why: EndReason
    said: tuple[str, ...]
    ready: float | None = None

    @property
    def well(self) -> bool:
        """Whether it did what it should."""
        return self.why == "ended" and self.code == 0

    @property
    def killed(self) -> bool:
        """Whether it was killed from outside, or one of the processes that a launcher watched."""
        return self.code == -signal.SIGKILL or any(KILLED.search(line) for line in self.said)

    @property
    def out_of_memory(self) -> bool:
        """Whether it said so."""
        return any(OUT_OF_MEMORY.search(line) for line in self.said)

    @property
    def out_of_space(self) -> bool:
        """Whether it found the disk full."""
        return any(NO_SPACE.search(line) for line in self.said)

    @property
    def last_words(self) -> str:
        """The error it gave, else its last line; a launcher's own report comes after what its processes said."""
        lines = [line.strip() for line in self.said if line.strip()]
        named = [line for line in lines if ERROR.search(line)]
        return (named or lines or ["it said nothing"])[-1][:300]

    def describe(self) -> str:
        """What happened, in a line."""
        if self.why == "silent":
            return f"it gave no sign of life for too long and was killed ({self.last_words})"
        if self.why == "late":
            return "it was not done in time and was ended"
        if self.killed and self.code > 0:
            return f"one of its processes was killed ({self.last_words})"
        if self.code < 0:
            return f"it was killed by signal {-self.code}" + (
                f" ({self.last_words})" if self.out_of_memory or self.out_of_space else ""
            )
        return f"exit code {self.code}: {self.last_words}"


class ChildProcess:
    """One stage that is running.

    Args:
        words: what `python -m pipeline.worker` is told.
        processes: how many share the work.
        say: shown each of its lines.
        beat: a file that is touched as work goes on (`RunFolder.beat`).
    """

    def __init__(self, words: Sequence[str], processes: int, say: Callable[[str], None], beat: Path | None = None):
        command = launch_command("pipeline.worker", words, processes)
        home = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        environment = os.environ | {PARENT: str(os.getpid()), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._family: set[psutil.Process] = set()
        self._say = say
        self._said = deque[str](maxlen=LINES_KEPT)
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
        why: EndReason = "ended"
        while self._process.poll() is None:
            now = time.monotonic()
            self._feel_beat()
            longest = min(patience, SECONDS_AFTER_FATAL) if self._fatal else patience
            if stopped() or now > until or now - self._last_sign > longest:
                why = "stopped" if stopped() else "late" if now > until else "silent"
                break
            self._remember_family()
            look()
            time.sleep(POLL_INTERVAL)
        self.end(SECONDS_TO_LEAVE if why == "stopped" else 0.0)
        self._reader.join(timeout=2.0)
        return ChildResult(self._process.wait(), why, tuple(self._said), self._ready)

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
                self._fatal |= bool(FATAL.search(line) or OUT_OF_MEMORY.search(line))
                self._said.append(line.rstrip("\n"))
                self._say(line.rstrip("\n"))
