"""What a stage prints on the screen."""

from rich.console import Console as Screen
from rich.console import RenderableType

from pipeline.runtime import events

WIDTH_OF_FILES = 160


class Console:
    """What a stage says, on the screen."""

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet)
        if not self.screen.is_terminal:
            self.screen = Screen(highlight=False, stderr=stderr, quiet=quiet, width=WIDTH_OF_FILES)

    def log(self, message: str) -> None:
        """Print a line."""
        self.screen.print(message, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Print that something went wrong and was dealt with; a program that reads events gets it as one."""
        if events.are_read():
            events.write_event("warning", message=message)
        else:
            self.screen.print(f"warning: {message}", markup=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Print a line that is kept elsewhere."""
        self.screen.print(line, markup=False, soft_wrap=True)

    def beat(self) -> None:
        """Work goes on."""

    def show(self, table: RenderableType) -> None:
        """Print a table."""
        self.screen.print(table)
