"""Commands that are killed with SIGKILL at one of their file operations.

A command runs in a fork of a process that has imported everything. There an audit hook counts the file operations
inside one folder: every creation, opening for writing, rename and removal. pyarrow and safetensors open files without
Python, so their writers are counted too.
"""

import io
import json
import multiprocessing
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 120.0
"""A command that takes longer hangs."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
UNCOUNTED = (".alive",)
"""Files that are touched by the clock, so that their operations have no fixed number."""


@dataclass(frozen=True)
class Point:
    """Where a command is killed: right before its operation of this number, from 1, or right after it."""

    number: int
    after: bool = False


@dataclass(frozen=True)
class Ended:
    """A command that ended.

    Attributes:
        code: its exit code; -9 for one that was killed.
        operations: its file operations in order; for one that was killed, up to that at which it was.
        said: the end of what it printed.
    """

    code: int
    operations: list[str]
    said: str


class Operations:
    """Counts file operations inside a folder, and kills this process at one of them."""

    def __init__(self, folder: Path, point: Point | None, report: int):
        self.folder = str(folder)
        self.point = point
        self.report = report
        """Descriptor that the list is written to, before the process is killed or at the end."""
        self.list: list[str] = []
        self._own = False

    def audit(self, event: str, arguments: tuple) -> None:
        """The audit hook: Python calls it before every operation."""
        if self._own or event not in PERFORM:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITES):
            return
        self._own = True  # what this hook does itself is not counted
        try:
            path = absolute_path(arguments[0], arguments[-1] if event in WITH_FOLDER else -1)
            if event == "open" and arguments[2] & os.O_APPEND:
                event = "append"
            self.happen(event, path, lambda: PERFORM[event](*arguments))
        finally:
            self._own = False

    def happen(self, name: str, path: str, perform: Callable[[], Any]) -> None:
        """Count an operation, and end the process where this is its point: without it, or after performing it."""
        if not (path == self.folder or path.startswith(f"{self.folder}/")) or path.endswith(UNCOUNTED):
            return
        self.list.append(f"{name} {path.removeprefix(self.folder).lstrip('/')}")
        if self.point and len(self.list) == self.point.number:
            if self.point.after:
                with suppress(OSError):  # such as the removal of a file that is not there
                    perform()
            self.write_report()
            os.kill(os.getpid(), signal.SIGKILL)

    def write_report(self) -> None:
        """Write the operations so far as JSON."""
        os.write(self.report, json.dumps(self.list).encode())

    def wrap(self, owner: Any, name: str, place: int) -> None:
        """Count the calls of a library's function that writes the file named by its argument number `place`."""
        function = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            where = arguments[place] if len(arguments) > place else options.get("filename")
            if isinstance(where, str | os.PathLike):
                path = absolute_path(where, -1)
                self.happen("library-write", path, lambda: function(*arguments, **options))
            return function(*arguments, **options)

        setattr(owner, name, counted)


def _open_alone(path: Any, mode: Any, flags: int) -> None:
    os.open(path, flags, 0o644)


def _remove(path: Any, folder: int) -> None:
    os.remove(path, dir_fd=folder if folder >= 0 else None)


def _remove_folder(path: Any, folder: int) -> None:
    os.rmdir(path, dir_fd=folder if folder >= 0 else None)


PERFORM: dict[str, Callable[..., Any]] = {
    "open": _open_alone,
    "append": lambda *_: None,
    "os.mkdir": lambda path, mode, _: os.mkdir(path, 0o755),
    "os.rename": lambda old, new, *_: os.replace(old, new),
    "os.remove": _remove,
    "os.rmdir": _remove_folder,
    "os.link": lambda old, new, *_: os.link(old, new),
    "os.symlink": lambda old, new, *_: os.symlink(old, new),
    "os.truncate": os.truncate,
}
"""Audit event -> what performs the operation, given the event's arguments."""
WITH_FOLDER = ("os.mkdir", "os.remove", "os.rmdir")
"""Events whose last argument is the descriptor of the folder that a path is relative to, or -1."""


def absolute_path(path: Any, folder: int) -> str:
    """Return the absolute path of an operation, "" for a descriptor."""
    if isinstance(path, int):
        return ""
    text = os.fsdecode(path)
    start = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    return os.path.normpath(os.path.join(start, text))


class ForkServer:
    """A process with everything imported that runs commands in forks of itself. Use it as a context manager."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._connection.recv()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def run(
        self, words: list[str], folder: Path, point: Point | None = None, prepare: Callable[[], None] | None = None
    ) -> Ended:
        """Run a command with `folder` as its current folder; its operations inside it are counted.

        Args:
            words: of the command line.
            folder: the current folder.
            point: where it is killed.
            prepare: called in the fork before the command.
        """
        self._connection.send((run_in_fork, (words, folder, point, prepare)))
        return self._connection.recv()

    def warm_up(self, words: list[str], folder: Path) -> None:
        """Run a command in the server itself, so that its forks need not load the kernels that it used.

        It must not train: autograd does not survive a fork.
        """
        self._connection.send((_call_in_folder, (words, folder)))
        assert self._connection.recv() == 0


def serve(connection: Connection) -> None:
    """Import everything, and call the functions that come through the connection."""
    import torch

    import pipeline.cli.main
    import pipeline.experiments.run_table
    import pipeline.kaggle.bundle
    import pipeline.pretrain
    import pipeline.solve  # noqa: F401

    torch.set_num_threads(1)
    connection.send("ready")
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        connection.send(function(*arguments))


def _call_in_folder(words: list[str], folder: Path) -> int:
    with chdir(folder), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return _call(words)


def run_in_fork(words: list[str], folder: Path, point: Point | None, prepare: Callable[[], None] | None) -> Ended:
    """Run a command in a fork of this process and wait for its end."""
    said = folder.parent / f"{folder.name}.said"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_the_command(words, folder, point, prepare, said, writer)
    os.close(writer)
    operations = _read_to_the_end(reader, child)
    _, status = os.waitpid(child, 0)
    text = said.read_text(errors="replace")[-3000:]
    return Ended(os.waitstatus_to_exitcode(status), json.loads(operations or b"[]"), text)


def _be_the_command(words: list[str], folder: Path, point: Point | None, prepare: Any, said: Path, writer: int) -> None:
    code = 70
    try:
        os.chdir(folder)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for stream in (1, 2):
            os.dup2(output, stream)
        if prepare:
            prepare()
        operations = Operations(folder, point, writer)
        _count_library_writes(operations)
        sys.addaudithook(operations.audit)
        code = _call(words)
        operations.write_report()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(words: list[str]) -> int:
    from pipeline.cli.main import main

    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _count_library_writes(operations: Operations) -> None:
    import pyarrow.parquet.core
    import safetensors.torch

    operations.wrap(safetensors.torch, "serialize_file", 1)
    operations.wrap(pyarrow.parquet.core.ParquetWriter, "__init__", 1)


def _read_to_the_end(reader: int, child: int) -> bytes:
    """Return what the child wrote; it is killed where it takes too long."""
    ends = time.monotonic() + SECONDS
    content = b""
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, ends - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
        block = os.read(reader, 1 << 16)
        if not block:
            os.close(reader)
            return content
        content += block
