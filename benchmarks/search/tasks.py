"""The tasks that settings are tried on. The sets "six" and "eight" hold none of the `cpu` recipe's own 25."""

from augment import Selection, Task, load_tasks
from pipeline.config.run_config import ConfigError

TRAINING = "arc-agi-1/training"
EVALUATION = "arc-agi-1/evaluation"
OWN = "recipe"
"""The recipe's own tasks: what is scored on them is reported, so nothing may be chosen by them."""


def six() -> list[Task]:
    """27 tasks, 29 test outputs: ARC-AGI-1 training tasks with longest side 6, evaluation tasks up to 5x5."""
    return _by_id(_longer_than(5, upto=6) + load_tasks(EVALUATION, Selection(max_side=5)))


def eight() -> list[Task]:
    """24 ARC-AGI-1 training tasks with longest side 7 or 8; a 25th is left out, whose test output is 10x10."""
    return _by_id([task for task in _longer_than(6, upto=8) if _longest_answer(task) <= 8])


def own() -> list[Task]:
    """The 25 tasks of the `cpu` recipe: ARC-AGI-1 training tasks up to 5x5."""
    return _by_id(load_tasks(TRAINING, Selection(max_side=5)))


SETS = {"six": six, "eight": eight, OWN: own}


def find_tasks(name: str, confirmed: bool = False, limit: int | None = None) -> list[Task]:
    """The tasks of a set, sorted by ID, or the first `limit` of them; ConfigError for a set that may not be used."""
    if name not in SETS:
        raise ConfigError(f"--tasks {name}: no such set of tasks; there are {', '.join(SETS)}")
    if name == OWN and not confirmed:
        raise ConfigError(
            f"--tasks {OWN}: the recipe's own tasks are for confirming a choice, not for making one; say --confirm if "
            "this is the last run"
        )
    return SETS[name]()[:limit]


def _longer_than(side: int, upto: int) -> list[Task]:
    """Training tasks by the longest side of demonstrations and test inputs."""
    shorter = {task.id for task in load_tasks(TRAINING, Selection(max_side=side))}
    return [task for task in load_tasks(TRAINING, Selection(max_side=upto)) if task.id not in shorter]


def _longest_answer(task: Task) -> int:
    return max(max(pair.output.shape) for pair in task.tests if pair.output is not None)


def _by_id(tasks: list[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: task.id)
