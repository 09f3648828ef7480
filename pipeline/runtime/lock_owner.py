"""Owners of folder locks (`pipeline.runtime.folder_lock`): names, descriptions, last beats and child processes."""

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from augment.process_identity import ProcessIdentity

OWNERS = "ARC_TRM_LOCKS"
"""Environment variable with the owner names of all locks that this process and those that started it hold."""
LONGEST_COMMAND = 300
"""Characters of a command that the description of an owner keeps."""


def inherited_names() -> list[str]:
    """Return the owner names that this process inherited, and its own."""
    return os.environ.get(OWNERS, "").split()


def find_owner(lock: Path) -> Path | None:
    """Return the file that names the owner of a lock, None if nobody holds it."""
    try:
        return next((lock / name for name in os.listdir(lock) if ProcessIdentity.find(name)), None)
    except FileNotFoundError:
        return None


def describe_own_process() -> str:
    """Return the JSON text with this process's host, command and the time, for `describe_owner`."""
    words = psutil.Process().cmdline() or sys.argv
    command = " ".join([Path(words[0]).name, *words[1:]])
    # Others print it: it must be one line, and nothing that a terminal acts on.
    command = "".join(character if character.isprintable() else " " for character in command)[:LONGEST_COMMAND]
    about = {"host": socket.gethostname(), "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    return json.dumps(about) + "\n"


def describe_owner(owner: Path) -> str:
    """Return the number, host, start and command of an owner, as far as they are known."""
    identity = ProcessIdentity.find(owner.name)
    number = f"process {identity.pid}" if identity else "a process"
    try:
        about = json.loads(owner.read_bytes())
        return f"{number} on {about['host']} since {about['since']} ({about['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return number


def last_beat(owner: Path) -> float:
    """Return when the owner's file was renewed last, in seconds of the file system's clock; 0 if it is gone."""
    try:
        return owner.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def find_children(name: str) -> list[int]:
    """Return the numbers of running processes that inherited this owner's name; of this user only."""
    children = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if name in process.environ().get(OWNERS, "").split() and process.status() != psutil.STATUS_ZOMBIE:
                children.append(process.pid)
    return children
