"""Print the lines, warnings and tables of a stage on the screen.

What is printed is text, never markup: a path such as `runs/[red]` or `:bug:` is printed as it is.
"""

from typing import Any

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.text import Text

from pipeline.runtime import events
from pipeline.runtime.output import printable

WIDTH_OF_FILES = 160
"""Characters a line where the output is not a terminal, so that tables are not squeezed into 80."""


class Screen(RichConsole):
    """Rich's console without markup, emoji codes and highlighting; control characters are printed as escapes.

    Args:
        stderr: whether to print to standard error.
        quiet: whether to print nothing.
    """

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, stderr=stderr, quiet=quiet)
        if not self.is_terminal:
            self.width = WIDTH_OF_FILES

    def render_str(self, text: str, **style: Any) -> Text:
        """Return the text of a line, a cell or a title."""
        return super().render_str(printable(text), **style)


class Console:
    """Output of a stage on the screen.

    Args:
        stderr: whether to print to standard error.
        quiet: whether to print nothing.
    """

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        self.screen = Screen(stderr, quiet)

    def log(self, message: str) -> None:
        """Print a line."""
        self.say(message)

    def warn(self, message: str) -> None:
        """Print a warning about a failure that was handled, as a JSON event if the parent process reads events."""
        if events.are_read():
            events.write_event("warning", message=message)
        else:
            self.say(f"warning: {message}")

    def say(self, line: str) -> None:
        """Print a line without adding it to a log file."""
        self.screen.print(events.as_text(line) if events.are_read() else line, soft_wrap=True)

    def fail(self, message: str) -> None:
        """Print why a command ends."""
        self.screen.print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)

    def beat(self) -> None:
        """Signal progress; only a run folder does something here."""

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        self.screen.print(table)
