"""Keep printing from ending a run: any text can be printed, to any terminal, pipe or file, full or closed.

`protect_output` is called once, when a process starts. After that, a character that the terminal's encoding lacks is
printed with a backslash, and output that cannot be written (a closed pipe, a full disk) is dropped.
"""

import errno
import io
import os
import sys
from typing import Any, TextIO

ERRORS = "backslashreplace"
"""How a character is printed that the encoding lacks: as \\xNN, \\uNNNN or \\UNNNNNNNN."""


class LossyFile(io.FileIO):
    """An open file that drops what cannot be written; `failure` is the first error, None if all was written."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes; return how many were written, or dropped."""
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return size
        # None: a pipe that does not block is full. The bytes are dropped, as waiting for a reader could last for ever.
        return size if written is None else written


def protect_output() -> None:
    """Make standard output and standard error of this process accept any text, and drop what cannot be written."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # it was closed when the process started
            setattr(sys, name, _open_null())
        elif isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _protect(stream, own=stream is getattr(sys, f"__{name}__")))


def lost_output() -> OSError | None:
    """Return why part of the standard output could not be written; None if all was, or if its reader closed the pipe.

    A reader that closes a pipe, such as `head`, has all that it wants.
    """
    sys.stdout.flush()
    raw = _raw_file(sys.stdout)
    failure = raw.failure if isinstance(raw, LossyFile) else None
    return None if failure is None or failure.errno == errno.EPIPE else failure


def printable(text: str) -> str:
    """Return text with its control characters and lone surrogates as backslash escapes; newlines and tabs stay.

    Paths and task IDs may have any characters. Control characters among them would change the terminal.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else repr(character)[1:-1] for character in text
    )


def _protect(stream: io.TextIOWrapper, own: bool) -> io.TextIOWrapper:
    """Return a stream that never fails; one that is not the process's own (in a notebook or test) drops nothing."""
    if not own or isinstance(_raw_file(stream), LossyFile):
        stream.reconfigure(errors=ERRORS)
        return stream
    try:
        raw = LossyFile(stream.fileno(), "w", closefd=False)
        stream.flush()
    except OSError:  # no file descriptor, or nothing can be written even now
        raw = LossyFile(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)
    buffer = raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, stream.encoding, ERRORS, line_buffering=stream.line_buffering, write_through=stream.write_through
    )


def _raw_file(stream: TextIO) -> object:
    """Return the unbuffered file below a text stream."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _open_null() -> TextIO:
    """Open the null device; its number may be 1 or 2, which then no data file can get."""
    return open(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", errors=ERRORS, closefd=False)
