"""What a command or a function may do with mutated files: give a right result, or refuse them in one message."""

import io
import traceback
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from augment.errors import UserError
from pipeline.cli.main import main
from pipeline.runtime.exit_codes import ExitCode
from tests.helpers.paths import ROOT

PACKAGES = tuple(str(ROOT / name) for name in ("augment", "solver", "submissions", "pipeline"))


class Refused(Exception):
    """The mutated files were refused in one message, which is this exception's text."""


def refusable(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; raises Refused where it raises an error that a command ends with in one message."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        if is_refusal(error):
            raise Refused(str(error)) from error
        raise


def is_refusal(error: Exception) -> bool:
    """Whether an error is a message of ours: a UserError, a ValueError that our code raises, or a named OSError.

    A ValueError of a library ends in a message too, but one that names neither the file nor the fix.
    """
    if isinstance(error, UserError):
        return bool(error.summary)
    if isinstance(error, OSError):
        return error.filename is not None
    place = traceback.extract_tb(error.__traceback__)[-1]
    return isinstance(error, ValueError) and place.filename.startswith(PACKAGES) and str(place.line).startswith("raise")


@contextmanager
def captured_streams() -> Any:
    """Standard output and standard error as a UTF-8 terminal takes them, which no lone surrogate can be written to."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield streams


def call_command(*words: str | Path) -> None:
    """Run a command in this process.

    Raises:
        Refused: it ended in one message and exit code 2.
        Exception: what it raised instead.
    """
    texts = list(map(str, words))
    with captured_streams():
        try:
            refusable(_exit_code_of, [*texts, "--debug"])
            return
        except Refused as error:
            message = str(error)
    with captured_streams() as (_, errors):
        code = _exit_code_of(texts)
    said = errors.buffer.getvalue().decode()
    assert code == ExitCode.REFUSED, f"exit code {code} for: {said}"
    assert said.count("error: ") >= 1, said
    assert "Traceback" not in said, said
    raise Refused(message)


def _exit_code_of(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as ended:
        if ended.code == ExitCode.REFUSED and "--debug" in words:
            raise Refused("refused by the parser of the command line") from None
        code = int(ended.code or 0)
        assert code in (ExitCode.DONE, ExitCode.REFUSED), f"exit code {code}"
        return code
    return 0
