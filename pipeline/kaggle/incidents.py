"""The incidents of an unattended run: failures that it continued after, in the log and in RUN/incidents.json."""

from collections.abc import Iterator
from contextlib import suppress

from augment.storage import write_json
from pipeline.runtime.run_folder import RunFolder


class Incidents:
    """A list of messages, which is kept in a run folder too."""

    def __init__(self, run: RunFolder):
        self._run = run
        self._messages = list[str]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def report(self, message: str) -> None:
        """Log an incident and add it to the file."""
        self._messages.append(message)
        self._run.log(f"incident: {message}")
        self.write()

    def report_once(self, message: str) -> None:
        """Report an incident unless it is listed: each start of a stage finds the same about the machine."""
        if message not in self._messages:
            self.report(message)

    def write(self) -> None:
        """Write the file."""
        # The disk may be full, which is itself an incident: the messages in memory are logged at the end.
        with suppress(OSError):
            write_json(self._run.path / "incidents.json", self._messages)
