"""Print the lines, warnings and tables of a stage on the screen."""

from rich.console import Console as Screen
from rich.console import RenderableType

from pipeline.runtime import events

WIDTH_OF_FILES = 160
"""Characters a line where the output is not a terminal, so that tables are not squeezed into 80."""


class Console:
    """Output of a stage on the screen.

    Args:
        stderr: whether to print to standard error.
        quiet: whether to print nothing.
    """

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet)
        if not self.screen.is_terminal:
            self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet, width=WIDTH_OF_FILES)

    def log(self, message: str) -> None:
        """Print a line."""
        self.screen.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print a warning about a failure that was handled, as a JSON event if the parent process reads events."""
        if events.are_read():
            events.write_event("warning", message=message)
        else:
            self.screen.print(f"warning: {message}", markup=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line without adding it to a log file."""
        self.screen.print(line, markup=False, soft_wrap=True)

    def beat(self) -> None:
        """Signal progress; only a run folder does something here."""

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        self.screen.print(table)
