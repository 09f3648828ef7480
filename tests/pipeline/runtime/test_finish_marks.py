"""Processes wait on disk for one that works for longer than a collective operation may take."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime.finish_marks import wait_on_disk
from tests.helpers.process_threads import Threads, in_threads


class Processes(Threads):
    """Simulated processes that look at the disk, and know when any of them is in a collective operation."""

    def wait(self) -> None:
        self.any(False)

    def wait_until(self, done: Any) -> None:
        while not done():
            threading.Event().wait(0.01)
        self.wait()


def test_the_others_wait_on_disk_until_the_first_is_done(tmp_path: Path) -> None:
    (tmp_path / ".finished-1").touch()
    (tmp_path / ".finished-7").touch()
    order: list[int] = []

    def work(processes: Any) -> None:
        with wait_on_disk(tmp_path, processes):
            if processes.index == 0:
                threading.Event().wait(0.3)
                order.append(0)
        order.append(1 + processes.index)

    in_threads(3, work, Processes)
    assert order[0] == 0
    assert not list(tmp_path.iterdir()), "nor marks that an earlier run of more processes left"


def test_an_error_is_seen_by_the_others_in_a_collective_operation(tmp_path: Path) -> None:
    met = []

    def work(processes: Any) -> None:
        with wait_on_disk(tmp_path, processes):
            if processes.index == 0:
                raise MemoryError
            processes.wait = lambda: met.append(processes.index)

    for _ in range(2):  # the marks that are left do no harm
        with pytest.raises(MemoryError):
            in_threads(2, work, Processes)
    assert met == [1, 1]


def test_one_process_makes_no_marks(tmp_path: Path) -> None:
    with wait_on_disk(tmp_path, Processes(0, 1, threading.Barrier(1), {})):  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
