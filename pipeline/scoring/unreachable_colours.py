"""Counts test outputs that a model with task palettes cannot predict.

With `model.palette` "task", a model with a symbol axis computes only the colours of the task's public grids. It cannot
predict an output with any other colour.
"""

from collections.abc import Sequence

from augment import Task
from augment.colour_draws import shown_colours
from pipeline.config.run_config import RunConfig


def describe_unreachable(config: RunConfig, tasks: Sequence[Task]) -> str | None:
    """Return a log line with the number of known test outputs that this config cannot predict; None if it is zero."""
    if not config.model.symbols or config.model.palette != "task":
        return None
    outputs = [pair.output for task in tasks for pair in task.tests if pair.output is not None]
    count = sum(map(count_unreachable, tasks))
    if not count:
        return None
    return (
        f"{count} of {len(outputs)} outputs have a colour that is in no public grid of their task: a model with "
        "model.palette=task cannot predict them"
    )


def count_unreachable(task: Task) -> int:
    """Count the known test outputs with a colour that is in no demonstration and no test input of the task."""
    # hidden() removes the test outputs, so that their colours do not count as public.
    public_colours = shown_colours(task.hidden())
    return sum(not public_colours[pair.output].all() for pair in task.tests if pair.output is not None)
