"""Errors that a user can act on: what is wrong, and how to fix it."""


class UserError(ValueError):
    """An input or a state that is refused. Its text is `summary; fix`.

    Args:
        summary: what is wrong, naming the file and the task.
        fix: what to do about it; empty where the summary already says so.
    """

    def __init__(self, summary: str, fix: str = ""):
        super().__init__(summary, fix)
        self.summary = summary
        self.fix = fix

    def __str__(self) -> str:
        """The one format of all messages."""
        return f"{self.summary}; {self.fix}" if self.fix else self.summary


class DamagedError(UserError):
    """A file that is missing, cut short, altered, or of another format."""
