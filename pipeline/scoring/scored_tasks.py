"""Load the tasks of a source that is scored, and say which ones are left out."""

from augment import Selection, Task, load_source
from augment.sources.load import find_source_label
from augment.sources.reading import describe_left_out
from pipeline.runtime.console import Console


def load_scored(source: str, selection: Selection, console: Console | None) -> list[Task]:
    """Load the selected tasks; a line on the console, if there is one, says what is left out."""
    tasks, left_out = load_source(source, selection)
    if console:
        for line in describe_left_out(find_source_label(source), left_out, scored=True):
            console.log(line)
    return tasks
