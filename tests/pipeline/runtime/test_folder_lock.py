"""Folder locks: one process at a time, the processes it starts with it, and a dead owner's lock passes to one other."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from augment.process_identity import ProcessIdentity
from pipeline.runtime import folder_lock, lock_owner
from pipeline.runtime.folder_lock import (
    LOCK,
    FolderInUseError,
    locked_folder,
    locked_output,
    release_all,
)
from pipeline.runtime.lock_owner import OWNERS, find_owner
from tests.helpers.paths import ROOT

CONTENDER = """
import sys, time
from pathlib import Path
from pipeline.runtime.folder_lock import FolderInUseError, locked_folder
folder, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
try:
    with locked_folder(folder, print):
        with log.open("a") as file:
            file.write("in ")
            file.flush()
            time.sleep(seconds)
            file.write("out ")
except FolderInUseError as error:
    sys.exit(2)
"""
STRANGER = {name: value for name, value in os.environ.items() if name != OWNERS}


def start(folder: Path, log: Path, seconds: float, environment: dict[str, str]) -> subprocess.Popen:
    words = [sys.executable, "-c", CONTENDER, str(folder), str(log), str(seconds)]
    return subprocess.Popen(words, cwd=ROOT, env=environment)


def wait_for(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def strange_lock(folder: Path, place: str, pid: int = 4, start: int = 5) -> Path:
    """The lock of a process that is not this one."""
    (folder / LOCK).mkdir(parents=True)
    owner = folder / LOCK / f"{place}-{pid}-{start}-0123abcd"
    owner.write_text(json.dumps({"host": "node7", "since": "2026-01-02 03:04:05", "command": "python -m pipeline"}))
    return owner


def dead_lock(folder: Path) -> Path:
    own = ProcessIdentity.own()
    return strange_lock(folder, own.place, own.pid, own.start + 100_000)  # the number of this process, used again


def test_the_lock_is_there_within_the_block_and_nothing_is_afterwards(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "run", print), locked_output(tmp_path / "out", print):
        assert find_owner(tmp_path / "run" / LOCK)
        assert find_owner(tmp_path / ".out.lock")
        with locked_folder(tmp_path / "run", print):  # again in the same process
            pass
        assert find_owner(tmp_path / "run" / LOCK), "the outer block still holds it"
    assert list(tmp_path.rglob("*")) == [tmp_path / "run"]
    assert not os.environ[OWNERS]


def test_a_second_process_is_refused_and_told_who_works_there(tmp_path: Path, monkeypatch) -> None:
    other = start(tmp_path, tmp_path / "log", 60, STRANGER)
    try:
        wait_for((tmp_path / "log").exists)
        for lock in (locked_folder(tmp_path, print), locked_output(tmp_path / "predictions", print)):
            with (
                pytest.raises(FolderInUseError, match=rf"process {other.pid} on .* since 20.*python.*-c.*stop it"),
                lock,
            ):
                pass
        assert start(tmp_path, tmp_path / "log", 0, STRANGER).wait() == 2
    finally:
        other.kill()
        other.wait()
    with locked_folder(tmp_path, print):
        assert (tmp_path / "log").read_text() == "in ", "killed, and its lock taken over"
    assert not (tmp_path / LOCK).exists()


def test_a_process_that_the_owner_starts_may_enter(tmp_path: Path) -> None:
    with locked_folder(tmp_path, print):
        assert start(tmp_path, tmp_path / "log", 0, dict(os.environ)).wait() == 0
        assert find_owner(tmp_path / LOCK), "it does not remove the owner's lock"


def test_of_many_processes_exactly_one_works_at_a_time(tmp_path: Path) -> None:
    """Also when they find the lock of a dead owner at the same moment."""
    dead_lock(tmp_path)
    contenders = [start(tmp_path, tmp_path / "log", 0.2, STRANGER) for _ in range(5)]
    codes = [contender.wait() for contender in contenders]
    log = (tmp_path / "log").read_text().split()
    assert set(codes) <= {0, 2}
    assert log == ["in", "out"] * codes.count(0)
    assert codes.count(0)
    assert not (tmp_path / LOCK).exists()


def test_of_many_threads_that_take_over_one_lock_one_wins(tmp_path: Path) -> None:
    """The change of owner itself, many times: processes seldom meet in it."""
    for attempt in range(50):
        folder = tmp_path / str(attempt)
        owner = dead_lock(folder)
        locks = [folder_lock.FolderLock(folder / LOCK, folder) for _ in range(8)]
        barrier, won = threading.Barrier(8), []

        def take(lock: folder_lock.FolderLock, owner=owner, barrier=barrier, won=won) -> None:
            barrier.wait()
            won.append(lock._take_over(owner))

        threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sorted(won) == [False] * 7 + [True]
        assert len(list((folder / LOCK).iterdir())) == 1


def test_a_lock_without_owner_is_as_good_as_none(tmp_path: Path) -> None:
    """A process that is killed while it releases its lock leaves an empty folder."""
    (tmp_path / LOCK).mkdir()
    with locked_folder(tmp_path, print):
        assert find_owner(tmp_path / LOCK)
    assert not (tmp_path / LOCK).exists()


def test_an_owner_on_another_machine_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "SECONDS_WATCHED", 0.5)
    lines: list[str] = []
    owner = strange_lock(tmp_path, "ffffffff")
    beats = threading.Timer(0.2, lambda: os.utime(owner))
    beats.start()
    with pytest.raises(FolderInUseError, match=r"process 4 on node7 since 2026-01-02"), locked_folder(tmp_path, print):
        pass
    beats.join()
    with locked_folder(tmp_path, lines.append):
        assert not owner.exists()
    assert "waiting" in lines[0]
    assert "node7" in lines[0]


def test_an_owner_on_another_machine_without_a_beat_for_long_is_not_waited_for(tmp_path: Path) -> None:
    owner = strange_lock(tmp_path, "ffffffff")
    os.utime(owner, (1e9, 1e9))
    lines: list[str] = []
    with locked_folder(tmp_path, lines.append):
        assert not owner.exists()
    assert lines == []


def test_processes_that_a_dead_owner_started_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = dead_lock(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={OWNERS: f"x {owner.name}"})
    monkeypatch.setattr(folder_lock, "SECONDS_FOR_CHILDREN", 0.3)
    wait_for(lambda: lock_owner.find_children(owner.name) == [child.pid])
    with pytest.raises(FolderInUseError, match=f"process {child.pid} still runs"), locked_folder(tmp_path, print):
        pass
    monkeypatch.setattr(folder_lock, "SECONDS_FOR_CHILDREN", 60)
    threading.Timer(0.3, child.kill).start()
    with locked_folder(tmp_path, print):
        assert child.wait()


def test_the_owner_renews_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "SECONDS_BETWEEN_BEATS", 0.02)
    with locked_folder(tmp_path, print):
        owner = find_owner(tmp_path / LOCK)
        assert owner is not None
        os.utime(owner, (1e9, 1e9))
        wait_for(lambda: owner.stat().st_mtime > 1e9)


def test_a_process_that_lost_its_lock_ends(tmp_path: Path) -> None:
    script = CONTENDER.replace(
        "folder, log",
        "import pipeline.runtime.folder_lock as module\nmodule.SECONDS_BETWEEN_BEATS = 0.05\nfolder, log",
        1,
    )
    words = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "log"), "60"]
    stalled = subprocess.Popen(words, cwd=ROOT, env=STRANGER, stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "log").exists)
    owner = find_owner(tmp_path / LOCK)
    assert owner is not None
    owner.rename(owner.with_name(f"ffffffff{owner.name[8:]}"))
    assert "took this folder over" in stalled.communicate(timeout=60)[1]
    assert stalled.returncode == 2


def test_where_folders_cannot_be_renamed_work_goes_on_with_a_warning(tmp_path: Path, monkeypatch) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise OSError(95, "Operation not supported")

    lines: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with locked_folder(tmp_path, lines.append):
            assert "cannot be locked" in lines[0]
    assert not list(tmp_path.iterdir())


def test_every_lock_can_be_released_before_a_sudden_end(tmp_path: Path) -> None:
    with locked_folder(tmp_path, print), locked_output(tmp_path / "out", print):
        release_all()
        assert not list(tmp_path.iterdir())
