"""Locks, so that one process at a time writes a run folder or an output.

A lock is a folder: `FOLDER/.lock`, or `.NAME.lock` beside an output that appears whole. It contains one file. The name
of the file is that of the owner (`augment.process_identity`), its content describes the owner, and its modification
time is renewed while the owner works. Every change of owner is one rename, which exactly one process can do:

    create      the folder is filled beside its place and renamed; that fails if a lock is there
    take over   the file of an owner that has ended is renamed to the name of the new owner

An owner on the same machine has ended if its process has. Any other one has ended if it does not renew the file while
this process watches it. Processes that the owner starts may enter: they inherit its name in an environment variable.
"""

import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from augment.errors import UserError
from augment.leftovers import UNFINISHED, remove_all_leftovers, remove_leftovers, temporary_path
from augment.process_identity import ProcessIdentity
from augment.storage import check_writable
from pipeline.runtime.exit_codes import ExitCode
from pipeline.runtime.launcher import is_first
from pipeline.runtime.lock_owner import (
    OWNERS,
    describe_own_process,
    describe_owner,
    find_children,
    find_owner,
    inherited_names,
    last_beat,
)

LOCK = ".lock"
SECONDS_BETWEEN_BEATS = 5.0
SECONDS_WATCHED = 90.0
"""How long an owner on another machine is watched before it counts as ended; file systems may show its beats late."""
SECONDS_SURELY_ENDED = 3600.0
"""Age of the last beat after which an owner on another machine counts as ended at once."""
SECONDS_FOR_CHILDREN = 15.0
"""How long processes that a killed owner started may take to end by themselves."""
POLL_INTERVAL = 0.2
ATTEMPTS = 100
"""Each failed attempt means that another process changed the lock meanwhile."""
TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR)
"""Errors that the work itself will report."""

_held: dict[Path, "FolderLock"] = {}


class FolderInUseError(UserError):
    """Another process is at work in the folder."""


class FolderLock:
    """The lock of one folder, from `acquire` to `release`.

    Args:
        path: the folder of the lock itself.
        folder: what it protects, for messages.
    """

    def __init__(self, path: Path, folder: Path):
        self.path = path
        self.folder = folder
        self.name = str(ProcessIdentity.own())
        self.process = os.getpid()
        self.users = 0
        self._released = threading.Event()

    def acquire(self, log: Callable[[str], None]) -> bool:
        """Create or take over the lock; return whether this process is now its owner, and not only allowed to enter.

        `log` is called with a line if waiting is needed, or no lock can be made.

        Raises:
            FolderInUseError: if another process holds it, with its number, host, command and start.
        """
        try:
            owns = self._acquire(log)
        except FolderInUseError:
            raise
        except OSError as error:
            # Such as a file system without renames of folders, or a full disk: the work must not depend on the lock.
            if error.errno not in NOT_WRITABLE:
                log(f"{self.folder}: cannot be locked ({error}): start no second process in it")
            return False
        if owns:
            os.environ[OWNERS] = " ".join([*inherited_names(), self.name])
            threading.Thread(target=self._beat, daemon=True, name="folder lock").start()
            remove_leftovers(self.path, exclusive=True)
        return owns

    def release(self) -> None:
        """Remove the lock."""
        self._released.set()
        # A forked process has a copy of this object, and its parent still works.
        if self.process != os.getpid():
            return
        with suppress(OSError):
            (self.path / self.name).unlink()
            self.path.rmdir()
        os.environ[OWNERS] = " ".join(name for name in inherited_names() if name != self.name)

    def _acquire(self, log: Callable[[str], None]) -> bool:
        for _ in range(ATTEMPTS):
            owner = find_owner(self.path)
            if owner is None:
                if self._create():
                    return True
                continue
            if owner.name in inherited_names():
                return False
            self._require_ended(owner, log)
            if self._take_over(owner):
                return True
        raise FolderInUseError(f"{self.folder}: other processes start in this folder again and again")

    def _create(self) -> bool:
        """Put the lock in place; False if another one is there."""
        candidate = temporary_path(self.path, UNFINISHED)
        candidate.mkdir(parents=True)
        try:
            (candidate / self.name).write_text(describe_own_process(), encoding="utf-8")
            candidate.rename(self.path)
        except OSError as error:
            # The candidate is missing if the owner, which is another process, has removed it as a leftover.
            if error.errno in (*TAKEN, errno.ENOENT):
                return False
            raise
        finally:
            shutil.rmtree(candidate, ignore_errors=True)
        return True

    def _take_over(self, owner: Path) -> bool:
        """Become the owner in place of one that has ended; False if another process did so first."""
        own = owner.with_name(self.name)
        try:
            # First the time, so that others never see the new owner with the old one's last beat.
            os.utime(owner)
            owner.rename(own)
        except FileNotFoundError:
            return False
        with suppress(OSError):  # such as a full disk: the name decides, the content is for messages
            own.write_text(describe_own_process(), encoding="utf-8")
        return True

    def _require_ended(self, owner: Path, log: Callable[[str], None]) -> None:
        """Return when the owner has ended; FolderInUseError if it has not."""
        identity = ProcessIdentity.find(owner.name)
        running = identity.is_running() if identity else None
        if running is None:
            running = self._is_beating(owner, log)
        if running:
            raise _in_use(self.folder, owner)
        self._wait_for_children(owner.name)

    def _is_beating(self, owner: Path, log: Callable[[str], None]) -> bool:
        """Return whether an owner on another machine renews its file while it is watched."""
        first = last_beat(owner)
        if time.time() - first > SECONDS_SURELY_ENDED:
            return False
        log(f"{self.folder}: waiting to see whether its last process still works: {describe_owner(owner)}")
        end = time.monotonic() + SECONDS_WATCHED
        while time.monotonic() < end and owner.exists():
            if last_beat(owner) not in (first, 0.0):
                return True
            time.sleep(POLL_INTERVAL)
        return False

    def _wait_for_children(self, name: str) -> None:
        """Wait for the processes that an ended owner started and that end by themselves; FolderInUseError if not."""
        end = time.monotonic() + SECONDS_FOR_CHILDREN
        while children := find_children(name):
            if time.monotonic() > end:
                raise FolderInUseError(
                    f"{self.folder}: process {children[0]} still runs, which the last process in this folder started",
                    "wait for its end, or stop it",
                )
            time.sleep(POLL_INTERVAL)

    def _beat(self) -> None:
        """Renew the modification time until the release (runs in a thread); end the process if the lock was lost."""
        own = self.path / self.name
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            with suppress(OSError):
                os.utime(own)
                continue
            if not self._released.is_set() and (owner := find_owner(self.path)) and owner.name != self.name:
                with suppress(OSError, ValueError):  # standard error may be closed
                    print(
                        f"error: {self.folder}: another process took this folder over, as this one seemed to have "
                        f"ended: {describe_owner(owner)}",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
                os._exit(ExitCode.REFUSED)


def lock_folder(folder: Path, log: Callable[[str], None]) -> Callable[[], None]:
    """Lock an existing folder that this process works in, and remove what killed processes left there.

    Returns:
        A function that releases the lock; it is also called at the end of this process.

    Raises:
        FolderInUseError: if another process works there.
    """
    return _lock(folder / LOCK, folder, log, lambda: remove_all_leftovers(folder))


@contextmanager
def locked_folder(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Create a folder if there is none, and do the same for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    release = lock_folder(folder, log)
    try:
        yield
    finally:
        release()


@contextmanager
def locked_output(path: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Lock a file or folder that appears whole, and remove what killed writers left of it; the first process only.

    Raises:
        FolderInUseError: if another process writes it, or works in the folder that contains it.
        UserError: if the folder that contains it cannot be written or created.
    """
    if not is_first():
        yield
        return
    place = Path(os.path.abspath(path))  # "." has no name
    check_writable(place.parent if place.exists() else place, "--out")
    _require_free(place.parent)
    lock = place.with_name(f".{place.name}{LOCK}")
    release = _lock(lock, path, log, lambda: remove_leftovers(path, exclusive=True))
    try:
        yield
    finally:
        release()


def release_all() -> None:
    """Release every lock, before this process ends without Python's cleanup."""
    while _held:
        _held.popitem()[1].release()


def _lock(path: Path, folder: Path, log: Callable[[str], None], clean: Callable[[], None]) -> Callable[[], None]:
    """Hold a lock, or share the one that this process holds already; returns a function that releases it once."""
    path = path.parent.resolve() / path.name
    lock = _held.get(path)
    if lock is None:
        lock = FolderLock(path, folder)
        if not lock.acquire(log):
            return lambda: None
        _held[path] = lock
        clean()
    lock.users += 1
    return partial(_release, lock)


def _release(lock: FolderLock) -> None:
    lock.users -= 1
    if not lock.users and _held.get(lock.path) is lock:
        del _held[lock.path]
        lock.release()


def _require_free(folder: Path) -> None:
    """Raise FolderInUseError if another process works in a folder that is only written to."""
    owner = find_owner(folder / LOCK)
    if owner is None or owner.name in inherited_names():
        return
    identity = ProcessIdentity.find(owner.name)
    running = identity.is_running() if identity else None
    if running or (running is None and time.time() - last_beat(owner) < SECONDS_WATCHED):
        raise _in_use(folder, owner)


def _in_use(folder: Path, owner: Path) -> FolderInUseError:
    return FolderInUseError(
        f"{folder}: another process is at work in this folder: {describe_owner(owner)}",
        "wait for its end, or stop it, or name another folder",
    )
