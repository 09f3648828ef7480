"""Tries mutations in a worker process, which a crash or a hang ends without ending the tests."""

import multiprocessing
import resource
import signal
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.helpers.paths import ROOT

SECONDS = 30.0
"""A mutation that takes longer hangs."""
START_SECONDS = 300.0
"""For the start of a worker, which may compile kernels."""
MEMORY = 8 * 2**30
"""Bytes of address space of a worker, so that a file that unpacks to more fails alone."""


@dataclass(frozen=True)
class Failure:
    """A mutation with another outcome than a right result or a message.

    Attributes:
        number: of the mutation.
        kind: the exception and where it was raised, or a signal, or a hang.
        text: what was done to the files, and the end of the traceback.
    """

    number: int
    kind: str
    text: str


@dataclass
class Counts:
    """The outcomes of the mutations of a format."""

    right: int = 0
    refused: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """How many mutations were tried."""
        return self.right + self.refused + len(self.failures)

    def describe_failures(self) -> str:
        """Return a line for each kind of failure: how often, the numbers of the first ones, and its text."""
        kinds: dict[str, list[Failure]] = {}
        for failure in self.failures:
            kinds.setdefault(failure.kind, []).append(failure)
        lines = []
        for kind, failures in sorted(kinds.items(), key=lambda item: -len(item[1])):
            numbers = ", ".join(str(failure.number) for failure in failures[:8])
            lines.append(f"{len(failures)} times {kind} (mutations {numbers}): {failures[0].text}")
        return "\n".join(lines)


class Worker:
    """A process that tries the mutations of one format; it is started again after a crash.

    Args:
        name: of the format.
        folder: for the whole files and the copies; whole files of an earlier worker are used.
    """

    def __init__(self, name: str, folder: Path):
        self.name = name
        self.folder = folder
        self._process: Any = None
        self._connection: Any = None

    def try_mutation(self, number: int) -> tuple[str, str, str]:
        """Return ("right" or "refused", what was done, "") or ("failed", kind, text)."""
        if self._process is None:
            self._start()
        self._connection.send(number)
        if not self._connection.poll(SECONDS):
            self.stop()
            return "failed", "hang", f"longer than {SECONDS:.0f} s"
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            kind = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            return "failed", kind, "the process ended"

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self.name, self.folder), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(START_SECONDS):
            raise RuntimeError("the worker did not start")
        self._connection.recv()


def serve(connection: Connection, name: str, folder: Path) -> None:
    """Try the mutations whose numbers come through the connection, and send back their outcomes."""
    import torch

    from tests.fuzz.formats import prepare, try_mutation

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    whole = folder / "whole"
    if not whole.exists():
        prepare(name, whole)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    while True:
        number = connection.recv()
        try:
            outcome = (*try_mutation(name, number, whole, folder / "copy"), "")
        except BaseException as error:
            outcome = ("failed", *describe_error(error))
        connection.send(outcome)


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the kind of an error (its class, and the deepest line of ours in its traceback) and its text."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(ROOT)) and "/.venv/" not in frame.filename]
    product = [frame for frame in ours if "/tests/" not in frame.filename] or ours or frames
    place = f"{Path(product[-1].filename).relative_to(ROOT) if ours else product[-1].filename}:{product[-1].lineno}"
    text = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
    return f"{type(error).__name__} at {place}", text[:300]


def fuzz(name: str, numbers: Iterable[int], folder: Path) -> Counts:
    """Try the mutations of a format with these numbers; `folder` is for their files."""
    worker = Worker(name, folder)
    counts = Counts()
    try:
        for number in numbers:
            verdict, kind, text = worker.try_mutation(number)
            if verdict == "failed":
                counts.failures.append(Failure(number, kind, text))
            else:
                counts.right += verdict == "right"
                counts.refused += verdict == "refused"
    finally:
        worker.stop()
    return counts
