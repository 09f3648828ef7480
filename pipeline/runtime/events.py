"""Events of a stage for the program that started it: JSON lines on standard output.

If the environment variable `EVENTS` is set, a stage writes `{"event": NAME, ...}` lines between its text for people:

    {"event": "warning", "message": ...}                                  a failure that was handled
    {"event": "error", "code": N, "summary": ..., "fix": ...}             why the stage ends, with its exit code

Without `EVENTS` the same is printed as text: "warning: ...", "error: ...".
"""

import json
import os
import sys
from typing import Any

from augment.errors import UserError
from pipeline.runtime.exit_codes import ExitCode, exit_code
from pipeline.runtime.output import printable
from pipeline.runtime.system_errors import explain

EVENTS = "ARC_TRM_EVENTS"
"""Environment variable, set if the parent process reads events."""
START = '{"event": '


def are_read() -> bool:
    """Return whether this process writes events."""
    return bool(os.environ.get(EVENTS))


def write_event(event: str, **values: Any) -> None:
    """Write one event line to standard output and flush it."""
    print(json.dumps({"event": event, **values}), flush=True)


def as_text(message: str) -> str:
    """Return a message of which no line is taken for an event: paths and IDs in it may have any characters."""
    return "\n".join(f" {line}" if line.startswith(START) else line for line in message.split("\n"))


def parse_event(line: str) -> dict[str, Any] | None:
    """Return the event of a line; None if the line is text."""
    if not line.startswith(START):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def report_error(error: Exception) -> ExitCode:
    """Report the error that ends this process, as an event or as text on standard error; return its exit code."""
    error = explain(error)
    code = exit_code(error)
    summary = error.summary if isinstance(error, UserError) else str(error) or type(error).__name__
    fix = error.fix if isinstance(error, UserError) else ""
    if are_read():
        write_event("error", code=int(code), summary=summary, fix=fix)
    else:
        print(printable(f"error: {summary}{f'; {fix}' if fix else ''}"), file=sys.stderr, flush=True)
    return code
