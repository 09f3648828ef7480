"""Marker files that show which of the processes of a launch have finished what each does alone."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.runtime.distributed import LaunchedProcesses


class FinishMarks:
    """One file for each process, which exists from when it has finished until all have.

    One process may need hours more than another, and a collective operation ends with an error after ten minutes (NCCL)
    or half an hour (gloo). So the processes poll for each other's files instead. A single process makes none.

    Args:
        folder: shared by all processes; made if needed.
        processes: all of them make this object at the same time.
    """

    def __init__(self, folder: Path, processes: LaunchedProcesses):
        self.processes = processes
        self.marks = [folder / f".finished-{index}" for index in range(processes.count)]
        if processes.count > 1:
            folder.mkdir(parents=True, exist_ok=True)
        if processes.index == 0:
            for mark in folder.glob(".finished-*"):
                mark.unlink(missing_ok=True)
        processes.wait()  # no process may see a mark that an earlier run left

    def set(self) -> None:
        """Mark this process as finished."""
        if self.processes.count > 1:
            self.marks[self.processes.index].touch()

    def wait_for_all(self) -> None:
        """Mark this process as finished, and wait until all others are finished."""
        self.set()
        if self.processes.count > 1:
            self.processes.wait_until(lambda: all(mark.exists() for mark in self.marks))
            self.marks[self.processes.index].unlink(missing_ok=True)


@contextmanager
def wait_on_disk(folder: Path, processes: LaunchedProcesses) -> Iterator[None]:
    """At the end of the block, wait until every process is there, with `FinishMarks`: one may need long for its block.

    A process that leaves the block with an error does not wait, and the others end with an error too: they go on to a
    collective operation, and there learn that it is lost.
    """
    marks = FinishMarks(folder, processes)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # the disk may be full
            marks.set()
        raise
    marks.wait_for_all()
