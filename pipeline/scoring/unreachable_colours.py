"""Tasks with their solutions in, a line for the log out: outputs in colours that a palette does not hold.

A model that computes the symbols of a task's public grids only (`model.palette` is "task") cannot draw other colours.
"""

from collections.abc import Sequence

from augment import Task
from augment.colour_draws import shown_colours
from pipeline.config.run_config import RunConfig


def describe_unreachable(config: RunConfig, tasks: Sequence[Task]) -> str | None:
    """How many known test outputs no model of this config can have as an answer; None where there is no such output."""
    if not config.model.symbols or config.model.palette != "task":
        return None
    outputs = [pair.output for task in tasks for pair in task.tests if pair.output is not None]
    count = sum(map(count_unreachable, tasks))
    if not count:
        return None
    return (
        f"{count} of {len(outputs)} outputs hold a colour that no public grid of their task shows: no answer of a "
        "model with model.palette=task can have it"
    )


def count_unreachable(task: Task) -> int:
    """Known test outputs with a colour that neither a demonstration nor a test input of the task shows."""
    shown = shown_colours(task.hidden())
    return sum(not shown[pair.output].all() for pair in task.tests if pair.output is not None)
