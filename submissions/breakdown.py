"""Which kinds of test outputs are solved: by shape, size, colours and number of candidates.

In: tasks, and per test output whether it is solved, whether it is covered and how many candidates it has.
Out: a Kind for each that there are outputs of.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment.task import Task

SHAPES = ("same as the input's", "not the input's")
SIDES = (5, 10, 20)
SIZES = ("up to 5", "6 to 10", "11 to 20", "21 to 30")
NUMBERS = (2, 4)
COLOURS = ("1 or 2", "3 or 4", "5 or more")
COUNTS = (0, 1, 10, 100)
CANDIDATES = ("none", "1", "2 to 10", "11 to 100", "more than 100")


@dataclass(frozen=True)
class Kind:
    """The test outputs of one kind: how many there are, are solved (pass@2) and are covered (None: not known).

    Groups: "shape", that of the output; "size", its larger side; "colours", how many it has, black counted too;
    "candidates", how many different grids were predicted for it.
    """

    group: str
    label: str
    outputs: int
    solved: int
    covered: int | None


def find_kinds(
    tasks: Iterable[Task],
    solved: NDArray[np.bool_],
    covered: NDArray[np.bool_] | None = None,
    candidates: Sequence[int] | None = None,
) -> tuple[Kind, ...]:
    """The kinds that there are, group by group. Values are per test output, in the tasks' order."""
    pairs = [(pair.input, pair.output) for task in tasks for pair in task.tests if pair.output is not None]
    places = {
        "shape": (SHAPES, [int(asked.shape != truth.shape) for asked, truth in pairs]),
        "size": (SIZES, [bisect_left(SIDES, max(truth.shape)) for _, truth in pairs]),
        "colours": (COLOURS, [bisect_left(NUMBERS, len(np.unique(truth))) for _, truth in pairs]),
    }
    if candidates is not None:
        places["candidates"] = (CANDIDATES, [bisect_left(COUNTS, count) for count in candidates])
    return tuple(
        Kind(group, label, len(rows), int(solved[rows].sum()), None if covered is None else int(covered[rows].sum()))
        for group, (labels, numbers) in places.items()
        for place, label in enumerate(labels)
        if (rows := [row for row, number in enumerate(numbers) if number == place])
    )
