"""The command line: python -m pipeline COMMAND (also installed as arc-trm); --help lists commands and their options.

Every command is a few lines around a stage. Bad input ends in one message and exit code 2. Other errors that a user
can act on end in a message and a code of `pipeline.runtime.exit_codes`. There is no traceback unless --debug is given
anywhere on the line.
"""

import signal
import sys

from rich.console import Console as Screen
from rich.text import Text
from typer.models import CommandInfo

from pipeline.cli import backbones, build, experiments, kaggle, scoring, solve, stages
from pipeline.cli.app import Debug, app
from pipeline.cli.old_names import with_new_names
from pipeline.runtime.exit_codes import ExitCode, exit_code
from pipeline.runtime.stop_signals import bounded_end, end_children, exit_on_sigterm

COMMANDS = (solve, build, stages, scoring, backbones, experiments, kaggle)
"""The modules that define commands of `app`, in the order in which --help lists them."""


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
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        with exit_on_sigterm(), bounded_end():
            _run(with_new_names([word for word in words if word != "--debug"]))
    except (ValueError, OSError) as error:
        if debug:
            raise
        Screen(stderr=True, highlight=False).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        code = exit_code(error)
        # An unreadable checkpoint that a user names is bad input; code 12 is for the supervisor's own checkpoints.
        sys.exit(ExitCode.REFUSED if code == ExitCode.UNREADABLE_CHECKPOINT else code)
