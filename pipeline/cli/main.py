"""The command line: python -m pipeline COMMAND (also installed as arc-trm); --help lists commands and their options.

Every command is a few lines around a stage. Bad input ends in one message and exit code 2. Other errors that a user
can act on end in a message and a code of `pipeline.runtime.exit_codes`. There is no traceback unless --debug is given
anywhere on the line.
"""

import signal
import sys

from typer.models import CommandInfo

from pipeline.cli import backbones, build, experiments, kaggle, scoring, solve, stages
from pipeline.cli.app import Debug, app
from pipeline.cli.old_names import with_new_names
from pipeline.runtime.console import Console
from pipeline.runtime.exit_codes import ExitCode, exit_code
from pipeline.runtime.output import lost_output, protect_output
from pipeline.runtime.stop_signals import bounded_end, end_children, exit_on_sigterm
from pipeline.runtime.system_errors import explain, explain_memory

COMMANDS = (solve, build, stages, scoring, backbones, experiments, kaggle)
"""The modules that define commands of `app`, in the order in which --help lists them."""
PRINTING = {"score", "validate", "tasks", "models"}
"""Commands whose result is what they print: if it cannot be written, they have failed."""


@app.callback()
def options(debug: Debug = False) -> None:
    """From ARC tasks to a pass@2 submission with Tiny Recursive Models."""


def _place(command: CommandInfo) -> int:
    """Return the sort key of a command in --help: its module; within a module the order of definition stays."""
    return [module.__name__ for module in COMMANDS].index(command.callback.__module__)


app.registered_commands.sort(key=_place)


def _run(words: list[str]) -> None:
    """Run a command; after SIGTERM or SIGINT no process that it started is left, and the exit code is 128 + N."""
    try:
        app(words)
    except SystemExit as ended:
        if ended.code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            end_children(grace=1.0)
        raise


def main(arguments: list[str] | None = None) -> None:
    """Run a command; an error that a user can act on ends in one message and its exit code."""
    protect_output()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = with_new_names([word for word in words if word != "--debug"])
    try:
        with exit_on_sigterm(), bounded_end():
            _run(words)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        lacks_memory = _lacks_memory(error)
        if debug or (isinstance(error, RuntimeError) and not lacks_memory):
            raise
        explained = explain_memory(error) if lacks_memory else explain(error)
        Console(stderr=True).fail(_describe(explained))
        code = exit_code(explained)
        # An unreadable checkpoint that a user names is bad input; code 12 is for the supervisor's own checkpoints.
        sys.exit(ExitCode.REFUSED if code == ExitCode.UNREADABLE_CHECKPOINT else code)
    except SystemExit as end:
        _check_output(words, end)
        raise


def _lacks_memory(error: Exception) -> bool:
    """Return whether an error that no stage has explained means that the device or the machine ran out of memory."""
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from solver.training.device_memory import ran_out_of_memory

        return ran_out_of_memory(error)
    return isinstance(error, MemoryError)


def _describe(error: Exception) -> str:
    """Return the error's message; a path that a library could not encode is named."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object}: this path or name is not UTF-8; rename the file or folder"
    return str(error)


def _check_output(words: list[str], end: SystemExit) -> None:
    """End with the error's exit code if a command has succeeded but its printed result could not be written."""
    if end.code or not PRINTING & set(words[:1]):
        return
    if failure := lost_output():
        Console(stderr=True).fail(f"the result could not be written to standard output ({failure.strerror})")
        sys.exit(exit_code(failure))
