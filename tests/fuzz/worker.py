"""Tries mutations in a worker process, which a crash or a hang ends without ending the tests."""

import multiprocessing
import resource
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable
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
    """A process that tries mutations; it is started again after a crash. Use it as a context manager.

    Args:
        folder: for the whole files and the copies.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._process: Any = None
        self._connection: Any = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def prepare(self, name: str) -> None:
        """Write the whole files of a format, if they are not there yet."""
        if not (self.folder / name).exists():
            assert self.call(START_SECONDS, _prepare, name, self.folder / name) is None

    def try_mutation(self, name: str, number: int) -> tuple[str, str, str]:
        """Return ("right" or "refused", what was done, "") or ("failed", kind, text)."""
        if self._process is None:
            self.call(START_SECONDS, _load)
        return self.call(SECONDS, _try_mutation, name, number, self.folder / name, self.folder / "copy")

    def call(self, seconds: float, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function returns in the process; ("failed", kind, text) if it hangs or ends the process."""
        self._start()
        self._connection.send((function, arguments))
        try:
            return self._receive(seconds)
        except TimeoutError:
            self.stop()
            return "failed", "hang", f"longer than {seconds:.0f} s"
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            return "failed", signal.Signals(-code).name if code < 0 else f"exit code {code}", "the process ended"

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process = None

    def _start(self) -> None:
        """Start the process unless it runs."""
        if self._process is not None:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._receive(START_SECONDS)

    def _receive(self, seconds: float) -> Any:
        """Return what the process sends; TimeoutError if that takes longer, EOFError if the process ends."""
        if not self._connection.poll(seconds):
            raise TimeoutError
        return self._connection.recv()


def serve(connection: Connection) -> None:
    """Call the functions that come through the connection, and send back what they return."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    while True:
        function, arguments = connection.recv()
        connection.send(function(*arguments))


def _load() -> None:
    """Import what the mutations need, which takes seconds."""
    import torch

    import tests.fuzz.formats  # noqa: F401

    torch.set_num_threads(1)


def _prepare(name: str, whole: Path) -> None:
    _load()
    from tests.fuzz.formats import prepare

    prepare(name, whole)


def _try_mutation(name: str, number: int, whole: Path, copy: Path) -> tuple[str, str, str]:
    from tests.fuzz.formats import try_mutation

    try:
        return (*try_mutation(name, number, whole, copy), "")
    except BaseException as error:
        return ("failed", *describe_error(error))


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the kind of an error (its class, and the deepest line of ours in its traceback) and its text."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(str(ROOT)) and "/.venv/" not in frame.filename]
    product = [frame for frame in ours if "/tests/" not in frame.filename] or ours or frames
    place = f"{Path(product[-1].filename).relative_to(ROOT) if ours else product[-1].filename}:{product[-1].lineno}"
    text = " ".join(str(error).split()).encode("ascii", "backslashreplace").decode()
    return f"{type(error).__name__} at {place}", text[:300]


def fuzz(worker: Worker, name: str, numbers: Iterable[int]) -> Counts:
    """Try the mutations of a format with these numbers."""
    worker.prepare(name)
    counts = Counts()
    for number in numbers:
        verdict, kind, text = worker.try_mutation(name, number)
        if verdict == "failed":
            counts.failures.append(Failure(number, kind, text))
        else:
            counts.right += verdict == "right"
            counts.refused += verdict == "refused"
    return counts
