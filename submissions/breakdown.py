"""Break solve rates down by the shape, size, colours and number of candidates of the test outputs.

Input: tasks and, for each test output, whether it is solved, whether it is covered and its number of candidates.
Output: one `Kind` for each category that has any test outputs.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment.task import Task

# Each tuple of labels has one more entry than its tuple of upper bounds (which are inclusive).
SHAPES = ("same as the input's", "not the input's")
SIDES = (5, 10, 20)
SIZES = ("up to 5", "6 to 10", "11 to 20", "21 to 30")
NUMBERS = (2, 4)
COLOURS = ("1 or 2", "3 or 4", "5 or more")
COUNTS = (0, 1, 10, 100)
CANDIDATES = ("none", "1", "2 to 10", "11 to 100", "more than 100")


@dataclass(frozen=True)
class Kind:
    """The test outputs of one kind.

    Attributes:
        group: what the kind is defined by. "shape": whether the output has the shape of its input. "size": the longer
            side of the output. "colours": its number of colours, including black. "candidates": the number of different
            grids predicted for it.
        label: the value or range within the group.
        outputs: number of test outputs of this kind.
        solved: how many of them are solved (pass@2).
        covered: how many of them are covered; None if unknown.
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
    """Count test outputs by kind, group by group; kinds without outputs are omitted.

    Args:
        tasks: the tasks; test outputs that are not known are skipped.
        solved: (outputs,), whether each test output is solved, in the order of the tasks.
        covered: (outputs,), whether each test output is covered; None if unknown.
        candidates: number of candidates of each test output; None if unknown.
    """
    pairs = [(pair.input, pair.output) for task in tasks for pair in task.tests if pair.output is not None]
    places = {
        "shape": (SHAPES, [int(grid.shape != truth.shape) for grid, truth in pairs]),
        "size": (SIZES, [bisect_left(SIDES, max(truth.shape)) for _, truth in pairs]),
        "colours": (COLOURS, [bisect_left(NUMBERS, len(np.unique(truth))) for _, truth in pairs]),
    }
    if candidates is not None:
        places["candidates"] = (CANDIDATES, [bisect_left(COUNTS, count) for count in candidates])
    kinds = []
    for group, (labels, numbers) in places.items():
        for place, label in enumerate(labels):
            rows = [row for row, number in enumerate(numbers) if number == place]
            if rows:
                covered_count = None if covered is None else int(covered[rows].sum())
                kinds.append(Kind(group, label, len(rows), int(solved[rows].sum()), covered_count))
    return tuple(kinds)
