"""Exit codes of commands and stages, which let a program decide what to do without parsing messages.

0   success
1   an error in this program: a traceback was printed
2   refused: an input, a setting or a state of a folder; the message names the fix
10  out of memory, of the device or of the machine
11  the disk is full, or a quota or the size limit of files is reached
12  no checkpoint can be read
13  fewer devices than processes, or none
14  another process of the same run was lost
15  torch.compile failed during the run
128 + N   ended by signal N
"""

import errno
from enum import IntEnum

from augment.errors import UserError


class ExitCode(IntEnum):
    """Why a stage ended; the module's docstring explains each number."""

    DONE = 0
    BUG = 1
    REFUSED = 2
    OUT_OF_MEMORY = 10
    DISK_FULL = 11
    UNREADABLE_CHECKPOINT = 12
    NO_DEVICE = 13
    PROCESS_LOST = 14
    COMPILATION = 15


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a disk that is full, a quota that is used up, and a file above the size limit of the process."""


class CheckpointError(UserError):
    """No checkpoint can be read: files are missing, cut short, altered, or of another format."""


class DiskFullError(UserError):
    """The disk is too full for a file that has to be written."""


class NoDeviceError(UserError):
    """There are fewer devices than processes, or none."""


class CompilationError(UserError):
    """torch.compile failed during a run, although it had worked on a small block."""


class OutOfMemoryError(UserError):
    """Not even the smallest batch fits in memory."""


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code of an error that ends a command; BUG for an error that is not due to the user."""
    if isinstance(error, OutOfMemoryError | MemoryError):
        return ExitCode.OUT_OF_MEMORY
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in FULL):
        return ExitCode.DISK_FULL
    if isinstance(error, CheckpointError):
        return ExitCode.UNREADABLE_CHECKPOINT
    if isinstance(error, NoDeviceError):
        return ExitCode.NO_DEVICE
    if isinstance(error, CompilationError):
        return ExitCode.COMPILATION
    if isinstance(error, ConnectionError):
        return ExitCode.PROCESS_LOST
    return ExitCode.REFUSED if isinstance(error, ValueError | OSError) else ExitCode.BUG
